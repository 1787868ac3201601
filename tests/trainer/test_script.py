"""The script recipe: a renter's own program, run in a process of its own and judged by the files it leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill_protocol.errors import BadData, BadSettings, GristmillError, Unavailable
from gristmill_protocol.jobs import ArtifactRef, DataStats, TrainTask
from gristmill_protocol.outputs import outputs_root
from gristmill_protocol.progress import Finished, Progress, Replayed, SegmentDone, Started, Stopped, TrainerEvent
from gristmill_trainer import catalog, session, whole
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.engine import Preempted
from gristmill_trainer.recipe import Gpu
from gristmill_trainer.recipes.script import train

pytestmark = pytest.mark.slow

WRITE = "from pathlib import Path\nPath('out/result.txt').write_text('done')\n"
SUM = """
import json, os, random
from pathlib import Path

import numbers_of_mine

random.seed(int(os.environ["GRISTMILL_SEED"]))
total = sum(map(int, Path("data/numbers.txt").read_text().split()))
print(json.dumps({"total": total}), flush=True)
(Path("out") / "deep").mkdir()
(Path("out") / "deep" / "total.txt").write_text(f"{total * numbers_of_mine.TWO} {random.random()}")
Path("out/order.txt").write_text(str(list({"a", "b", "c", "d"})))
"""

MakeScript = Callable[..., Path]


@pytest.fixture(autouse=True)
def measured_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's class, which takes seconds to measure and is not what these tests are about."""
    monkeypatch.setattr(session, "numeric_class", lambda *_, **__: "ab" * 32)


@pytest.fixture
def make_script(tmp_path: Path) -> MakeScript:
    """make_script(source, files) makes a task folder for a program."""

    def make(source: str, files: dict[str, str] | None = None, **fields: Any) -> Path:
        folder, data = tmp_path / "task", tmp_path / "mine"
        for name, content in {"train.py": source, **(files or {})}.items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_text(content)
        (folder / "input").mkdir(parents=True)
        plan = catalog.find("script").plan({}, DataStats(examples=1), Gpu())
        task = {
            "job_id": "job_1", "attempt_id": "attempt_1", "recipe": "script", "settings": plan.settings, "seed": 7,
            "steps": 1, "segment_steps": 1, "data": DataView.open(data, plain=True).pack(folder / "input" / "data"),
        }  # fmt: skip
        (folder / "task.json").write_text(TrainTask.model_validate(task | fields).model_dump_json())
        return folder

    return make


def done(folder: Path, *, replay: bool = False) -> list[TrainerEvent]:
    events: list[TrainerEvent] = []
    (session.replay if replay else session.run)(folder, events.append, lambda: False)
    return events


def produced(folder: Path, **options: Any) -> None:
    """Run the program alone, without torch around it."""
    task = TrainTask.model_validate_json((folder / "task.json").read_text())
    settings = task.settings | options.pop("settings", {})
    data = DataView.open(folder / "input" / "data", plain=True)
    job = whole.Job(
        task.model_copy(update={"settings": settings}),
        folder,
        data,
        options.pop("emit", lambda _: None),
        options.pop("stop_requested", lambda: False),
    )
    results = folder / "out" / "result"
    results.mkdir(parents=True)
    train.produce(job, results)


def test_a_program_runs_and_its_files_are_its_result(make_script: MakeScript) -> None:
    folder = make_script(SUM, {"data/numbers.txt": "1 2 3", "numbers_of_mine.py": "TWO = 2"})

    started, segment, finished = done(folder)

    result = folder / "out" / "result"
    assert isinstance(started, Started)
    assert isinstance(segment, SegmentDone)
    assert isinstance(finished, Finished)
    assert (result / "deep" / "total.txt").read_text().startswith("12 ")
    assert set(finished.files) == {"deep/total.txt", "order.txt"}
    refs = {name: file_ref(result / name) for name in finished.files}
    assert finished.state_root == segment.state_root == outputs_root(refs).hex()
    assert {name: ref.sha256 for name, ref in refs.items()} == finished.files
    assert file_ref(folder / segment.state_file).sha256 == segment.state_sha256
    assert not (folder / "out" / "work").exists()


def test_a_replay_comes_to_the_same_roots(make_script: MakeScript) -> None:
    folder = make_script(SUM, {"data/numbers.txt": "1 2 3", "numbers_of_mine.py": "TWO = 2"}, step_to=1)
    _, segment, _ = done(folder)

    [replayed] = done(folder, replay=True)

    assert isinstance(segment, SegmentDone)
    assert isinstance(replayed, Replayed)
    for name in ("state_root_prev", "state_root", "data_root", "metrics_root"):
        assert getattr(replayed, name) == getattr(segment, name)


def test_another_seed_starts_from_another_state_and_comes_to_another(make_script: MakeScript, tmp_path: Path) -> None:
    source = "import os\nopen('out/a', 'w').write(os.environ['GRISTMILL_SEED'])\n"
    folder = make_script(source)
    _, first, _ = done(folder)
    task = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(task | {"seed": 8}))

    _, second, _ = done(folder)

    assert isinstance(first, SegmentDone)
    assert isinstance(second, SegmentDone)
    assert first.state_root_prev != second.state_root_prev
    assert first.state_root != second.state_root


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("pass", BadData, "It left no file."),
        ("import shutil; shutil.rmtree('out')", BadData, "It left no file."),
        ("import os; os.symlink('/etc/passwd', 'out/passwd')", BadData, "It left no file."),
        (WRITE + "raise RuntimeError('the disk is on fire')", BadData, "the disk is on fire"),
        (WRITE + "raise SystemExit(3)", BadData, "ended with code 3"),
        (WRITE + "while True: print('x' * 1000)", BadData, "printed more than 8 MB"),
        (WRITE + "import sys\nwhile True: sys.stdout.write('x' * 100_000)", BadData, "printed more than 8 MB"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Unavailable, "killed by signal 9"),
        ("open('out/' + chr(10), 'w').write('')", BadData, r"named '\n'"),
        ("for i in range(1001): open(f'out/{i}', 'w').close()", BadData, "It left 1001 files"),
    ],
)
def test_what_goes_wrong_is_said(source: str, error: type[GristmillError], said: str, make_script: MakeScript) -> None:
    with pytest.raises(error) as raised:
        done(make_script(source))

    assert said in raised.value.what
    assert raised.value.effect


def test_a_program_that_takes_too_long_is_ended(make_script: MakeScript) -> None:
    with pytest.raises(BadSettings, match="did not end within its time limit"):
        produced(make_script("import time; time.sleep(60)"), settings={"minutes": 0})


def test_a_machine_that_is_wanted_back_gets_it_at_once(make_script: MakeScript) -> None:
    events: list[TrainerEvent] = []

    with pytest.raises(Preempted):
        produced(make_script("import time; time.sleep(60)"), emit=events.append, stop_requested=lambda: True)

    assert events == [Stopped(step=0)]


def test_numbers_that_it_prints_are_shown(make_script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[TrainerEvent] = []
    monkeypatch.setattr(train, "_PROGRESS_LINES", 10**9)
    monkeypatch.setattr(train, "_POLL_S", 0.01)
    lines = 'print(\'hello\'); print(\'[1]\'); print(\'{"loss": 0.5, "name": "x", "odd": NaN}\', flush=True)'

    produced(make_script(f"{lines}\nimport time; time.sleep(1.5)\n{WRITE}"), emit=events.append)

    assert Progress(step=0, metrics={"loss": 0.5}) in events


def test_it_sees_none_of_the_machines_variables(make_script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the provider")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    folder = make_script("import json, os; json.dump(dict(os.environ), open('out/env.json', 'w'))")

    produced(folder)

    seen = json.loads((folder / "out" / "result" / "env.json").read_text())
    assert not {"SECRET", "PYTHONPATH", "USER"} & set(seen)
    assert (seen["GRISTMILL_SEED"], seen["SOURCE_DATE_EPOCH"], seen["TZ"]) == ("7", "315532800", "UTC")
    assert {seen[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"1"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main.py": WRITE}, "There is no train.py at the top."),
        ({"project/train.py": WRITE, "project/a.txt": ""}, "There is no train.py at the top."),
        ({"train.py": "def f(:"}, "Python cannot read train.py"),
        ({"train.py": WRITE, "out/old.txt": ""}, "has an 'out' already"),
    ],
)
def test_a_folder_that_cannot_run_is_refused_before_it_is_paid(
    files: dict[str, str], said: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    report = catalog.find("script").check(DataView.open(tmp_path, plain=True))

    with pytest.raises(BadData) as raised:
        report.raise_if_unusable()
    assert said in raised.value.what
    assert raised.value.todo


def test_the_price_is_for_the_time_limit_on_any_machine() -> None:
    recipe = catalog.find("script")

    slow, fast = (recipe.plan({"minutes": 5}, DataStats(examples=2), Gpu(flops_per_s=rate)) for rate in (10, 10**12))

    assert (slow.limit_s, fast.limit_s) == (300, 300)
    assert (slow.flops, fast.flops) == (3_000, 300 * 10**12)
    assert (slow.steps, slow.segments, slow.settings) == (1, 1, {"minutes": 5, "memory_gib": 2, "network": []})


def test_the_root_of_files_depends_on_names_and_contents_not_on_their_order() -> None:
    one, two = ArtifactRef(sha256="11" * 32, size_bytes=1), ArtifactRef(sha256="22" * 32, size_bytes=2)
    root = outputs_root({"a": one, "b": two})

    assert root == outputs_root({"b": two, "a": one})
    assert len({root, outputs_root({"a": two, "b": one}), outputs_root({"a": one}), outputs_root({"ab": one})}) == 4


@pytest.mark.parametrize(
    "host", ["localhost", "10.0.0.1", "*.example.org", "Example.org", "example.org:80", "http://a.b", "a..b"]
)
def test_only_full_names_of_hosts_can_be_declared(host: str) -> None:
    plan = catalog.find("script").plan({"network": ["pypi.org"]}, DataStats(examples=1), Gpu())

    assert plan.network == ("pypi.org",)
    with pytest.raises(BadSettings, match="network"):
        catalog.find("script").plan({"network": [host]}, DataStats(examples=1), Gpu())
