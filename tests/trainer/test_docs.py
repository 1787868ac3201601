"""The recipe in docs/recipes.md is true: installed as it stands there, it trains, can be cut, and answers."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Finished, SegmentDone, TrainerEvent, trainer_event
from gristmill_trainer import catalog
from gristmill_trainer.__main__ import main
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.recipe import Gpu

E = TypeVar("E")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"

ENGLISH = "the quick brown fox jumps over the lazy dog while thinking that nothing is worth this much trouble"
GERMAN = "der flinke braune fuchs springt über den faulen hund und denkt dabei, dass sich die mühe nicht lohnt"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's package on the path, with the entry point of the document's pyproject."""
    blocks = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S))
    entry_points = re.search(r'entry-points\."(.+)"\]\n(\S+) = "(\S+)"', blocks.pop("pyproject.toml"))
    assert entry_points
    assert sorted(blocks) == ["letter_sorter/__init__.py", "letter_sorter/train.py"]
    for name, code in blocks.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, encoding="utf-8")
    metadata = tmp_path / "letter_sorter-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: letter-sorter\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*entry_points.groups()))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in [name for name in sys.modules if name.startswith("letter_sorter")]:
        del sys.modules[module]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Pieces of an English and a German sentence."""
    path = tmp_path / "languages.jsonl"
    rows = [
        {"text": sentence[at : at + 40], "label": language}
        for language, sentence in (("english", ENGLISH), ("german", GERMAN))
        for at in range(0, 50, 2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_the_documents_recipe_trains_goes_on_and_answers(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str | Path) -> list[dict[str, Any]]:
        assert main([*map(str, arguments)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    whole = make_task(table, tmp_path / "whole")
    events = [trainer_event.validate_python(event) for event in call("run", whole)]
    middle = of(SegmentDone, events)[3]
    state = whole / middle.state_file
    rest = make_task(table, tmp_path / "rest", state, step_from=middle.step_to, segment_index=middle.index + 1)
    ends = [of(Finished, events), of(Finished, [trainer_event.validate_python(event) for event in call("run", rest)])]

    answers = call("predict", whole / "out" / "result", "--text", ENGLISH, "--text", GERMAN)

    assert ends[0] == ends[1]
    assert [answer["answer"] for answer in answers] == ["english", "german"]


def of(kind: type[E], events: list[TrainerEvent]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def make_task(table: Path, folder: Path, state: Path | None = None, **fields: int) -> Path:
    (folder / "input").mkdir(parents=True)
    view, recipe = DataView.open(table), catalog.find("letter-sorter")
    plan = recipe.plan({}, recipe.check(view).stats, Gpu())
    if state is not None:
        (folder / "input" / "state.safetensors").write_bytes(state.read_bytes())
    task = TrainTask(
        job_id="job_1",
        attempt_id="attempt_1",
        recipe="letter-sorter",
        settings=plan.settings,
        seed=1,
        steps=plan.steps,
        segment_steps=plan.segment_steps,
        end_steps=plan.end_steps,
        data=view.pack(folder / "input" / "data"),
        state=None if state is None else file_ref(state),
        **fields,
    )
    (folder / "task.json").write_text(task.model_dump_json())
    return folder
