"""Every cheat is caught in any segment that is drawn, and nowhere else: its records look as they should."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.trainer_at_hand import committed, lay_out
from gristmill_coordinator.domain.windows import Opinion, Start, broken, compare
from gristmill_localnet.cheating_trainer import CHEATS
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.jobs import Plan
from gristmill_protocol.progress import Finished, Replayed, TrainerEvent
from gristmill_trainer import session

pytestmark = pytest.mark.slow

SEGMENT_STEPS, SEGMENTS = 4, 3
STEPS = SEGMENT_STEPS * SEGMENTS
PLAN = Plan(settings={}, steps=STEPS, segment_steps=SEGMENT_STEPS, flops=1, peak_bytes=1, state_bytes=1)
PICTURES = {"rounds": 3, "batch": 16, "width": 4}
TEXTS = {"rounds": 1, "batch": 8, "width": 8, "buckets": 256}


def run(folder: Path) -> list[TrainerEvent]:
    events: list[TrainerEvent] = []
    session.run(folder, events.append, lambda: False)
    return events


def audited(run_folder: Path, record: SegmentRecord, folder: Path) -> Replayed:
    """An honest trainer's answer about one segment of a run: from the state that the run handed in before it."""
    state = run_folder / "out" / "states" / f"{record.index - 1}.safetensors" if record.index else None
    lay_out(run_folder, folder, state=state, step_from=record.step_from, step_to=record.step_to)
    events: list[TrainerEvent] = []
    session.replay(folder, events.append, lambda: False)
    [answer] = events
    assert isinstance(answer, Replayed)
    return answer


@pytest.fixture(scope="module")
def few_topics(topics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = tmp_path_factory.mktemp("few_topics") / "topics.csv"
    with topics.open(newline="", encoding="utf-8") as file, few.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(row for number, row in enumerate(csv.reader(file)) if number % 10 == 0)
    return few


@pytest.fixture(scope="module")
def task(make_task: Callable[..., Path], digits: Path, few_topics: Path) -> Callable[[str], Path]:
    def make(cheat: str) -> Path:
        data, settings = (few_topics, TEXTS) if cheat == "shorter-texts" else (digits, PICTURES)
        return make_task(data, settings=settings, segment_steps=SEGMENT_STEPS, end_steps=0, steps=STEPS)

    return make


def opinions(folder: Path, records: list[SegmentRecord], at: Path) -> list[Opinion]:
    return [compare(record, audited(folder, record, at / str(record.index))) for record in records]


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_in_any_segment_that_is_drawn(
    name: str, task: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = task(name)
    with monkeypatch.context() as patched:
        patched.setattr(session, "Run", CHEATS[name])
        events = run(folder)

    records = committed(events)

    assert isinstance(events[-1], Finished)
    assert broken(Start(0, 0, None), records, PLAN) is None
    assert opinions(folder, records, tmp_path) == [Opinion.AGREES] + [Opinion.DIFFERS] * (SEGMENTS - 1)


@pytest.mark.parametrize("name", ["skipped-steps", "shorter-texts"])
def test_honest_work_on_the_same_tasks_agrees(name: str, task: Callable[[str], Path], tmp_path: Path) -> None:
    folder = task(name)

    records = committed(run(folder))

    assert opinions(folder, records, tmp_path) == [Opinion.AGREES] * SEGMENTS
