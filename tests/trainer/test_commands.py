"""The trainer as its callers see it: arguments in, events and an exit code out."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import (
    Evaluated,
    Failed,
    Probed,
    Replayed,
    SegmentDone,
    Started,
    TrainerEvent,
    trainer_event,
)
from gristmill_trainer import engine, result
from gristmill_trainer.__main__ import main
from gristmill_trainer.conformance import numeric_class
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.determinism import pin

MakeTask = Callable[..., Path]
Say = Callable[..., tuple[int, list[str]]]

SETTINGS = {"quality": "quick", "rounds": 40, "batch": 16}


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """say("run", folder) gives the exit code and the lines on stdout."""

    def call(*arguments: str | Path) -> tuple[int, list[str]]:
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().out.splitlines()

    return call


@pytest.fixture(scope="module")
def trained(make_task: MakeTask, digits: Path) -> Path:
    folder = make_task(digits, settings=SETTINGS)
    assert main(["run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def trained_on_texts(make_task: MakeTask, topics: Path) -> Path:
    folder = make_task(topics, settings={"quality": "quick", "rounds": 2})
    assert main(["run", str(folder)]) == 0
    return folder


def failed(lines: list[str]) -> Failed:
    event: TrainerEvent = trainer_event.validate_json(lines[-1])
    assert isinstance(event, Failed)
    return event


@pytest.mark.slow
def test_the_result_is_complete_and_says_how_it_came_to_be(trained: Path) -> None:
    task = TrainTask.model_validate_json((trained / "task.json").read_text())
    folder = trained / "out" / "result"

    config = json.loads((folder / result.CONFIG).read_text())
    lock = json.loads((folder / result.LOCK).read_text())
    card = (folder / result.CARD).read_text()

    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [result.CARD, result.CONFIG, result.LOCK, result.MODEL]
    )
    assert config["recipe"] == "image-sorter"
    assert config["answers"] == list("01234")
    assert (lock["data_sha256"], lock["seed"], lock["steps"]) == (task.data.sha256, task.seed, task.steps)
    assert lock["settings"] == task.settings
    assert {"torch_version", "trainer_version", "recipe_version", "data_root"} <= set(lock)
    for part in ("## How good it is", "right", "| 3 | 20 |", "Always giving the commonest answer", "## Limits"):
        assert part in card


@pytest.mark.slow
def test_a_finished_model_answers(trained: Path, digits: Path, say: Say) -> None:
    files = [path for answer in "01234" for path in sorted((digits / answer).iterdir())[:4]]

    code, lines = say("predict", trained / "out" / "result", *files)

    answers = [json.loads(line) for line in lines]
    assert code == 0
    assert [one["file"] for one in answers] == [str(file) for file in files]
    assert sum(one["answer"] == Path(one["file"]).parent.name for one in answers) >= 16
    assert all(0 < one["confidence"] <= 1 for one in answers)


@pytest.mark.slow
def test_a_text_can_be_asked_on_the_command_line(trained_on_texts: Path, say: Say, tmp_path: Path) -> None:
    file = tmp_path / "-odd.txt"
    file.write_text("Return the sum of two decimal numbers, rounded to the context's precision.")
    text = "Parse the header of an RFC 2822 message and return its fields."

    code, lines = say("predict", trained_on_texts / "out" / "result", f"--text={text}", "--", file)

    answers = {one["file"]: one["answer"] for one in map(json.loads, lines)}
    assert code == 0
    assert answers == {str(file): "arithmetic", text: "mail"}


def test_a_folder_without_a_model_is_refused(tmp_path: Path, say: Say) -> None:
    code, lines = say("predict", tmp_path, "--text", "hello")

    assert code == 1
    assert failed(lines).code == "not_found"


def test_a_file_that_is_no_picture_is_the_askers_fault(trained: Path, say: Say, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")

    code, lines = say("predict", trained / "out" / "result", tmp_path / "a.png")

    assert code == 2
    assert "a.png" in failed(lines).what


def test_a_missing_file_is_named(trained: Path, say: Say, tmp_path: Path) -> None:
    code, lines = say("predict", trained / "out" / "result", tmp_path / "gone.png")

    assert code == 1
    assert "gone.png" in failed(lines).what


def test_a_half_finished_model_can_be_taken_home(
    trained: Path, make_task: MakeTask, digits: Path, say: Say, tmp_path: Path
) -> None:
    task = TrainTask.model_validate_json((trained / "task.json").read_text())
    state = trained / "out" / "states" / "3.safetensors"
    half = make_task(digits, settings=SETTINGS, state=state, step_from=[*task.grid.ends()][3])

    code, lines = say("export", half, tmp_path / "model")

    assert (code, lines) == (0, [])
    assert result.read(tmp_path / "model")[0] == "image-sorter"
    assert not (half / "out").exists()


@pytest.mark.slow
def test_a_replay_that_ends_the_job_makes_the_texts_model_again(
    trained_on_texts: Path, make_task: MakeTask, topics: Path, say: Say
) -> None:
    task = TrainTask.model_validate_json((trained_on_texts / "task.json").read_text())
    *_, begin, _ = task.grid.ends()
    last = len(task.grid) - 1
    state = trained_on_texts / "out" / "states" / f"{last - 1}.safetensors"
    ended = {"step_from": begin, "step_to": task.steps, "segment_index": last}
    again = make_task(topics, settings={"quality": "quick", "rounds": 2}, state=state, attempt_id="audit_1", **ended)

    _, [line] = say("replay", again)

    made = {path.name: file_ref(path).sha256 for path in (trained_on_texts / "out" / "result").iterdir()}
    replayed = trainer_event.validate_json(line)
    assert isinstance(replayed, Replayed)
    assert replayed.files == made


@pytest.mark.slow
def test_a_model_that_was_never_trained_fails_on_hidden_examples(
    trained: Path, make_task: MakeTask, digits: Path, all_digits: Path, say: Say, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    for answer in "01234":
        (hidden / answer).mkdir(parents=True)
        for path in sorted((all_digits / answer).iterdir())[20:30]:
            (hidden / answer / path.name).write_bytes(path.read_bytes())
    assert main(["export", str(make_task(digits, settings=SETTINGS)), str(tmp_path / "never_trained")]) == 0
    folder = make_task(hidden, settings=SETTINGS)

    rights = []
    for model in (trained / "out" / "result", tmp_path / "never_trained"):
        shutil.copytree(model, folder / "input" / "model", dirs_exist_ok=True)
        code, [line] = say("evaluate", folder)
        measured = trainer_event.validate_json(line)
        assert code == 0
        assert isinstance(measured, Evaluated)
        assert measured.examples == 50
        rights.append(measured.millionths)

    assert rights[0] > 700_000 > 400_000 > rights[1]


def test_a_model_that_is_not_whole_cannot_be_measured(make_task: MakeTask, digits: Path, say: Say) -> None:
    code, lines = say("evaluate", make_task(digits, settings=SETTINGS))

    assert code == 1
    assert failed(lines).code == "not_found"


def test_bad_data_found_by_the_trainer_end_the_job_with_2(make_task: MakeTask, digits: Path, say: Say) -> None:
    folder = make_task(digits, settings=SETTINGS)
    view = DataView.open(folder / "input" / "data")
    broken = {one.place: one.content for one in view} | {"3/0001.png": b"no picture"}
    repack(folder, broken)

    code, lines = say("run", folder)

    assert code == 2
    assert failed(lines).code == "bad_data"
    assert "'3/0001.png'" in failed(lines).what
    assert failed(lines).todo


def repack(folder: Path, contents: dict[str, bytes]) -> None:
    """Give a task another data set, and the hash that belongs to it."""
    source = folder / "source"
    for place, content in contents.items():
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_bytes(content)
    packed = DataView.open(source).pack(folder / "input" / "data")
    task = TrainTask.model_validate_json((folder / "task.json").read_text())
    (folder / "task.json").write_text(task.model_copy(update={"data": packed}).model_dump_json())


@pytest.mark.parametrize(
    ("change", "code", "error"),
    [
        ({"recipe": "image-sortr"}, 1, "unknown_recipe"),
        ({"settings": {"quality": "perfect"}}, 2, "bad_settings"),
        ({"settings": {"quality": "quick"}}, 2, "bad_settings"),
        ({"step_to": 0}, 1, "bad_request"),
        ({"steps": "many"}, 1, "bad_request"),
    ],
)
def test_a_wrong_task_is_refused(
    change: dict[str, Any], code: int, error: str, make_task: MakeTask, digits: Path, say: Say
) -> None:
    folder = make_task(digits, settings=SETTINGS)
    task = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(task | change))

    ended, lines = say("run", folder)

    assert ended == code
    assert failed(lines).code == error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no_space"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "unavailable"),
        (ZeroDivisionError("surprise"), "internal"),
    ],
)
def test_what_goes_wrong_is_told_in_three_sentences(
    error: Exception, code: str, make_task: MakeTask, digits: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(engine, "train_step", fail)

    ended, lines = say("run", make_task(digits, settings=SETTINGS))

    told = failed(lines)
    assert (ended, told.code) == (1, code)
    assert told.what
    assert told.effect
    assert told.todo


def test_a_stray_print_does_not_end_up_among_the_events(
    make_task: MakeTask, digits: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = engine.train_step

    def chatty(*arguments: Any) -> float:
        print("hello")  # noqa: T201
        return honest(*arguments)

    monkeypatch.setattr(engine, "train_step", chatty)

    _, lines = say("run", make_task(digits, settings=SETTINGS | {"rounds": 1}))

    assert all(trainer_event.validate_json(line) for line in lines)


@pytest.mark.slow
def test_the_probe_measures_the_class_that_runs_state(trained: Path, say: Say) -> None:
    code, [line] = say("probe")
    probed = trainer_event.validate_json(line)
    _, lines = say("run", trained)
    started = trainer_event.validate_json(lines[0])

    assert code == 0
    assert isinstance(probed, Probed)
    assert isinstance(started, Started)
    assert probed.numeric_class == started.numeric_class
    assert 10**8 < probed.flops_per_s < 10**15


def test_other_threads_are_another_class() -> None:
    classes = [numeric_class(pin(1), threads=threads) for threads in (1, 2, 1)]

    assert classes[0] == classes[2] != classes[1]


@pytest.mark.slow
def test_running_again_over_an_old_result_gives_the_same_files(trained: Path, say: Say) -> None:
    before = {path.name: file_ref(path) for path in (trained / "out" / "states").iterdir()}

    _, lines = say("run", trained)

    segments = [event for event in map(trainer_event.validate_json, lines) if isinstance(event, SegmentDone)]
    assert {Path(one.state_file).name: one.state_sha256 for one in segments} == {
        name: ref.sha256 for name, ref in before.items()
    }
