"""What verification stands on: equal tasks give equal bits, wherever they were cut and in whichever process."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import SegmentRecord, chain_break
from gristmill_protocol.errors import BadRequest, BadSettings, NoSpace, WrongHash
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import (
    EXIT_PREEMPTED,
    Finished,
    Replayed,
    SegmentDone,
    Started,
    Stopped,
    TrainerEvent,
    trainer_event,
)
from gristmill_trainer import engine, session
from gristmill_trainer.data import file_ref
from gristmill_trainer.determinism import derive

MakeTask = Callable[..., Path]
E = TypeVar("E")

# 80 pictures are learnt from: 80 * 6 // 16 = 30 steps.
SMALL = {"rounds": 6, "batch": 16, "width": 4}
STEPS, SEGMENT_STEPS = 30, 4


@pytest.fixture(scope="module")
def small_task(make_task: MakeTask, digits: Path) -> Callable[..., Path]:
    def make(**fields: Any) -> Path:
        return make_task(digits, settings=SMALL, segment_steps=SEGMENT_STEPS, end_steps=0, **fields)

    return make


@pytest.fixture(scope="module")
def undisturbed(small_task: Callable[..., Path]) -> tuple[Path, list[TrainerEvent]]:
    folder = small_task()
    return folder, run(folder)


def run(folder: Path, *, stop_after: int | None = None) -> list[TrainerEvent]:
    """Run a task in this process; asked to stop after so many steps."""
    events: list[TrainerEvent] = []
    asked = iter(range(10**9))
    try:
        session.run(folder, events.append, lambda: stop_after is not None and next(asked) >= stop_after)
    except engine.Preempted:
        assert isinstance(events[-1], Stopped)
    return events


def replay(folder: Path) -> Replayed:
    events: list[TrainerEvent] = []
    session.replay(folder, events.append, lambda: False)
    [replayed] = events
    assert isinstance(replayed, Replayed)
    return replayed


def of(kind: type[E], events: Sequence[TrainerEvent]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def go_on(small_task: Callable[..., Path], folder: Path, last: SegmentDone) -> list[TrainerEvent]:
    """Run the rest of a task from a segment's end."""
    state = folder / last.state_file
    return run(small_task(state=state, step_from=last.step_to, segment_index=last.index + 1))


def test_the_first_and_the_last_segment_may_be_short(make_task: MakeTask, digits: Path) -> None:
    events = run(make_task(digits, settings=SMALL, segment_steps=12, end_steps=2))

    assert [segment.step_to for segment in of(SegmentDone, events)] == [2, 14, 26, 28, 30]


def test_segments_form_one_chain_over_all_steps(undisturbed: tuple[Path, list[TrainerEvent]]) -> None:
    folder, events = undisturbed
    segments = of(SegmentDone, events)
    [started], [finished] = of(Started, events), of(Finished, events)
    hidden = {"event", "state_file", "state_sha256"}
    records = [
        SegmentRecord(job_id="j", numeric_class="0" * 64, **segment.model_dump(exclude=hidden)) for segment in segments
    ]

    assert chain_break(records) is None
    assert [segment.step_to for segment in segments] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert segments[0].state_root_prev == started.state_root
    assert segments[-1].state_root == finished.state_root
    assert all(file_ref(folder / one.state_file).sha256 == one.state_sha256 for one in segments)
    for name, digest in finished.files.items():
        assert file_ref(folder / "out" / "result" / name).sha256 == digest


@pytest.mark.slow
def test_two_processes_reach_the_same_bits_as_this_one(
    undisturbed: tuple[Path, list[TrainerEvent]], trainer: Callable[..., Any], small_task: Callable[..., Path]
) -> None:
    elsewhere = trainer("run", small_task())
    events = [trainer_event.validate_json(line) for line in elsewhere.stdout.splitlines()]

    assert elsewhere.returncode == 0
    assert timeless(events) == timeless(undisturbed[1])
    assert of(Started, events) == of(Started, undisturbed[1])
    assert of(Finished, events) == of(Finished, undisturbed[1])


def timeless(events: Sequence[TrainerEvent]) -> list[dict[str, Any]]:
    return [event.model_dump(exclude={"started_ms", "ended_ms"}) for event in of(SegmentDone, events)]


@pytest.mark.slow
def test_going_on_from_every_segments_end_gives_the_same_end(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    segments = of(SegmentDone, events)

    for last in segments:
        rest = go_on(small_task, folder, last)

        assert of(Finished, rest) == of(Finished, events)
        assert timeless(rest) == timeless(events)[last.index + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 16, 22, 28, 29])
def test_being_cut_after_any_step_gives_the_same_end(
    cut: int, undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder = small_task()
    before = run(folder, stop_after=cut)
    done = of(SegmentDone, before)

    rest = go_on(small_task, folder, done[-1]) if done else run(folder)

    assert of(Stopped, before) == [Stopped(step=cut)]
    assert (done[-1].step_to if done else 0) == cut
    assert of(Finished, rest) == of(Finished, undisturbed[1])


@pytest.mark.slow
def test_sigterm_saves_and_leaves_with_75(
    make_task: MakeTask, digits: Path, undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    endless = make_task(digits, settings=SMALL | {"rounds": 5_000}, segment_steps=1_000, end_steps=0)

    with subprocess.Popen(
        [sys.executable, "-m", "gristmill_trainer", "run", str(endless)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(trainer_event.validate_json(line))
            if events[-1].event == "progress" and not of(Stopped, events):
                process.send_signal(signal.SIGTERM)

    [stopped], [segment] = of(Stopped, events), of(SegmentDone, events)
    assert process.returncode == EXIT_PREEMPTED
    assert stopped.step == segment.step_to > 0
    state = endless / segment.state_file
    task = {"settings": SMALL | {"rounds": 5_000}, "segment_steps": 1_000, "end_steps": 0}
    again = replay(make_task(digits, **task, step_to=stopped.step))
    assert again.state_root == segment.state_root
    rest = make_task(digits, **task, state=state, step_from=stopped.step, step_to=stopped.step + 1)
    assert replay(rest).state_root_prev == segment.state_root


@pytest.mark.slow
def test_replaying_a_segment_reproduces_its_roots(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    [finished] = of(Finished, events)
    before: SegmentDone | None = None
    for segment in of(SegmentDone, events):
        state = folder / before.state_file if before else None
        task = small_task(state=state, step_from=segment.step_from, step_to=segment.step_to)

        replayed = replay(task)

        added = {"event", "state", "start", "step_roots", "files", "scorecard_sha256"}
        assert replayed.model_dump(exclude=added) == segment.model_dump(include=set(Replayed.model_fields) - added)
        assert replayed.step_roots == ()
        ends_job = segment.step_to == STEPS
        assert (task / "out").exists() == ends_job
        assert replayed.files == (finished.files if ends_job else {})
        assert replayed.scorecard_sha256 == (sha256_json(finished.scorecard).hex() if ends_job else None)
        before = segment


@pytest.mark.slow
def test_another_process_makes_the_same_result_of_the_last_segment(
    undisturbed: tuple[Path, list[TrainerEvent]], trainer: Callable[..., Any], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    [finished], [*_, before, last] = of(Finished, events), of(SegmentDone, events)
    ended = {"step_from": last.step_from, "step_to": STEPS, "segment_index": last.index}
    task = small_task(state=folder / before.state_file, attempt_id="audit_1", **ended)

    said = trainer("replay", task)

    replayed = trainer_event.validate_json(said.stdout.splitlines()[-1])
    assert isinstance(replayed, Replayed)
    assert replayed.files == finished.files
    assert replayed.scorecard_sha256 == sha256_json(finished.scorecard).hex()
    for name in finished.files:
        made, again = (path / "out" / "result" / name for path in (folder, task))
        assert made.read_bytes() == again.read_bytes()


@pytest.mark.slow
def test_a_replay_keeps_the_states_it_is_asked_for(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    first, second, *_ = of(SegmentDone, events)
    from_nothing = small_task(step_to=first.step_to, keep_state=True)
    state, segment = folder / first.state_file, {"step_from": second.step_from, "step_to": second.step_to}
    from_state = small_task(state=state, **segment, segment_index=1, keep_state=True)

    one, other = replay(from_nothing), replay(from_state)

    assert one.state == file_ref(from_nothing / "out" / "states" / "0.safetensors")
    assert one.start == file_ref(from_nothing / "out" / "states" / "start.safetensors")
    assert other.state == file_ref(from_state / "out" / "states" / "1.safetensors")
    assert (one.state.sha256, other.state.sha256) == (first.state_sha256, second.state_sha256)
    assert other.start is None


@pytest.mark.slow
def test_step_roots_are_the_states_that_shorter_replays_end_in(small_task: Callable[..., Path]) -> None:
    whole = replay(small_task(step_to=3, step_roots=True))

    shorter = [replay(small_task(step_to=step)).state_root for step in (1, 2)]

    assert whole.step_roots == (*shorter, whole.state_root)


@pytest.mark.slow
def test_work_that_was_not_done_is_seen(
    small_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Path, list[TrainerEvent]]
) -> None:
    honest = engine.train_step

    def lazy(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        return honest(model, optimizer, loss * 0) if next(steps) == 5 else honest(model, optimizer, loss)

    steps: Iterator[int] = iter(range(STEPS))
    monkeypatch.setattr(engine, "train_step", lazy)
    cheated = of(SegmentDone, run(small_task()))
    claimed, true = timeless(cheated), timeless(undisturbed[1])

    assert claimed[0] == true[0]
    assert claimed[1]["state_root"] != true[1]["state_root"]


def test_another_picture_gives_other_roots(
    small_task: Callable[..., Path], make_task: MakeTask, digits: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "digits"
    for path in digits.rglob("*.png"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())
    # The smallest digests are held out, so this one is learnt from.
    last = max((copy / "3").iterdir(), key=lambda path: file_ref(path).sha256)
    last.write_bytes(last.read_bytes() + b"\0")

    one = replay(small_task(step_to=10))
    other = replay(make_task(copy, settings=SMALL, segment_steps=SEGMENT_STEPS, end_steps=0, step_to=10))

    assert one.state_root_prev == other.state_root_prev
    assert one.data_root != other.data_root


def test_data_that_are_not_the_tasks_are_refused(small_task: Callable[..., Path]) -> None:
    folder = small_task()
    path = folder / "input" / "data"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(WrongHash, match="data set"):
        run(folder)


def changed_state(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    tensors = load_file(path)
    change(tensors)
    changed = path.with_name("changed.safetensors")
    save_file(tensors, changed)
    return changed


def test_one_changed_bit_in_a_state_changes_the_root(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    first = of(SegmentDone, events)[0]

    def flip(tensors: dict[str, torch.Tensor]) -> None:
        tensors["param/head.weight"].view(torch.int32)[0, 0] ^= 1

    state = changed_state(folder / first.state_file, flip)
    replayed = replay(small_task(state=state, step_from=4, step_to=8))

    assert replayed.state_root_prev != first.state_root


def test_a_state_file_with_another_hash_is_refused(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed
    first, second = of(SegmentDone, events)[:2]
    task = small_task(state=folder / first.state_file, step_from=4)
    (task / "input" / "state.safetensors").write_bytes((folder / second.state_file).read_bytes())

    with pytest.raises(WrongHash, match="start state"):
        run(task)


def _drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["param/head.bias"]


def _grow(tensors: dict[str, torch.Tensor]) -> None:
    tensors["param/head.bias"] = torch.zeros(99)


def _add_moment(tensors: dict[str, torch.Tensor]) -> None:
    tensors["opt/other.weight/exp_avg"] = torch.zeros(9)


def _reseed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["rng/seed"] = torch.tensor(8)


@pytest.mark.parametrize("change", [_drop, _grow, _add_moment, _reseed])
def test_a_state_of_another_model_or_job_is_refused(
    change: Callable[[dict[str, torch.Tensor]], None],
    undisturbed: tuple[Path, list[TrainerEvent]],
    small_task: Callable[..., Path],
) -> None:
    folder, events = undisturbed
    state = changed_state(folder / of(SegmentDone, events)[0].state_file, change)

    with pytest.raises(WrongHash, match=r"does not (?:fit|belong)"):
        run(small_task(state=state, step_from=4))


def test_a_state_that_is_no_safetensors_file_is_refused(small_task: Callable[..., Path], tmp_path: Path) -> None:
    pickle = tmp_path / "state"
    torch.save({"param/head.bias": torch.zeros(5)}, pickle)

    with pytest.raises(WrongHash, match="no safetensors file"):
        run(small_task(state=pickle, step_from=4))


def test_numbers_out_of_range_end_the_run(
    undisturbed: tuple[Path, list[TrainerEvent]], small_task: Callable[..., Path]
) -> None:
    folder, events = undisturbed

    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors["param/head.bias"][0] = float("nan")

    state = changed_state(folder / of(SegmentDone, events)[0].state_file, poison)

    with pytest.raises(BadSettings, match="step 5"):
        run(small_task(state=state, step_from=4))


def test_state_files_can_be_read_by_the_node(undisturbed: tuple[Path, list[TrainerEvent]]) -> None:
    folder, events = undisturbed

    assert all(os.stat(folder / one.state_file).st_mode & 0o444 == 0o444 for one in of(SegmentDone, events))


def test_a_state_that_cannot_be_saved_leaves_nothing_behind(small_task: Callable[..., Path]) -> None:
    folder, events = small_task(), list[TrainerEvent]()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(NoSpace, match="could not be saved"):
            session.run(folder, events.append, lambda: False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert of(SegmentDone, events) == []
    assert list((folder / "out" / "states").iterdir()) == []


def test_finished_segments_are_told_of_before_a_failure(
    small_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, steps = engine.train_step, iter(range(STEPS))

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        if next(steps) == 8:  # the segment that ends here is still being saved
            raise MemoryError
        return honest(model, optimizer, loss)

    monkeypatch.setattr(engine, "train_step", step)
    folder, events = small_task(), list[TrainerEvent]()

    with pytest.raises(MemoryError):
        session.run(folder, events.append, lambda: False)

    assert [one.step_to for one in of(SegmentDone, events)] == [4, 8]
    assert all(file_ref(folder / one.state_file).sha256 == one.state_sha256 for one in of(SegmentDone, events))


def test_seeds_differ_by_purpose_and_counter() -> None:
    seeds = {derive(seed, purpose, counter) for seed in (0, 1) for purpose in ("a", "b") for counter in (0, 1)}

    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [engine.one_cycle(step, 100, 0.5) for step in range(100)]

    assert max(rates) == rates[9] == pytest.approx(0.5)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_a_task_must_fit_together(small_task: Callable[..., Path]) -> None:
    folder = small_task()
    task = TrainTask.model_validate_json((folder / "task.json").read_text())
    (folder / "task.json").write_text(task.model_copy(update={"step_from": 4}).model_dump_json())

    with pytest.raises(BadRequest, match="do not fit together"):
        run(folder)
