"""No honest provider is taken for a cheat: its runs are cut anywhere and go on elsewhere, every segment is replayed.

`make test` does 200 segments, `make honest` a thousand.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from fakes.trainer_at_hand import TrainerAtHand, committed, lay_out
from gristmill_coordinator.domain.windows import Opinion, Start, broken, compare
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.jobs import Plan
from gristmill_protocol.progress import Finished, Replayed, Started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEGMENTS = int(os.environ.get("GRISTMILL_HONEST_SEGMENTS", "200"))
CLASSES = (1, 2)  # threads of one operation: one and two give different bits
SEGMENT_STEPS = 2
STEPS = SEGMENT_STEPS * SEGMENTS // len(CLASSES)
PLAN = Plan(settings={}, steps=STEPS, segment_steps=SEGMENT_STEPS, flops=1, peak_bytes=1, state_bytes=1)
CUTS = ("stop_after", "stop_after", "kill_after", "stop_after")


@dataclass(frozen=True)
class Segment:
    task: Path  # of the run that did it
    start: Path | None
    record: SegmentRecord
    pid: int  # of the process that did it


@dataclass
class Machine:
    """Two processes of one class; a killed one is replaced."""

    stack: ExitStack
    hands: list[TrainerAtHand] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)  # as measured

    def hand(self, number: int) -> TrainerAtHand:
        while len(self.hands) < 2:
            self.hands.append(self.stack.enter_context(closing(TrainerAtHand())))
        return self.hands[number % 2]

    def job(self, first: Path, at: Path, random: Random) -> Iterator[Segment]:
        """The segments of a job whose run is cut again and again and goes on in the other process."""
        task, state, step, index = first, None, 0, 0
        for number, how in enumerate((*CUTS, None)):
            trainer = self.hand(number)
            cut = {} if how is None else {how: random.randint(2, STEPS // 8)}
            events = trainer.do("run", task, **cut)
            self.classes |= {one.numeric_class for one in events if isinstance(one, Started)}
            for record in committed(events):
                yield Segment(task, state, record, trainer.pid)
                state, step, index = task / f"out/states/{record.index}.safetensors", record.step_to, record.index + 1
            if how == "kill_after":
                self.hands.remove(trainer)
            if how is not None:
                task = lay_out(first, at / f"run{number}", state=state, step_from=step, segment_index=index)
        assert isinstance(events[-1], Finished)

    def verdict(self, segment: Segment, folder: Path) -> Opinion:
        """Of a process that didn't do it."""
        record = segment.record
        steps = {"step_from": record.step_from, "step_to": record.step_to, "segment_index": record.index}
        trainer = next(self.hand(number) for number in (0, 1) if self.hand(number).pid != segment.pid)
        [answer] = trainer.do("replay", lay_out(segment.task, folder, state=segment.start, **steps))
        assert isinstance(answer, Replayed)
        return compare(record, answer)


@pytest.fixture(scope="module")
def tiny(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of each of three digits."""
    root = tmp_path_factory.mktemp("tiny")
    for answer in "012":
        (root / answer).mkdir()
        for path in sorted((digits / answer).iterdir())[:6]:
            shutil.copy(path, root / answer)
    return root


def test_honest_segments_are_all_found_honest(make_task: Callable[..., Path], tiny: Path, tmp_path: Path) -> None:
    def live(threads: int) -> tuple[list[Segment], list[Opinion], set[str]]:
        settings = {"rounds": 1, "batch": 4, "width": 4}
        first = make_task(
            tiny, settings=settings, steps=STEPS, segment_steps=SEGMENT_STEPS, end_steps=0, threads=threads
        )
        at = tmp_path / str(threads)
        with ExitStack() as stack:
            machine = Machine(stack)
            done = list(machine.job(first, at, Random(SEGMENTS + threads)))
            opinions = [machine.verdict(one, at / f"audit{number}") for number, one in enumerate(done)]
        return done, opinions, machine.classes

    with ThreadPoolExecutor(len(CLASSES)) as pool:
        lives = list(pool.map(live, CLASSES))

    assert len({frozenset(classes) for _, _, classes in lives}) == len(CLASSES)
    for done, opinions, classes in lives:
        assert set(opinions) == {Opinion.AGREES}
        assert broken_runs(done) == []
        assert len({one.task for one in done}) == len(CUTS) + 1
        assert len({one.pid for one in done}) >= 3
        assert len(classes) == 1
    assert sum(len(opinions) for _, opinions, _ in lives) >= SEGMENTS


def broken_runs(done: list[Segment]) -> list[str | None]:
    """Why the records of a job's runs don't continue one another, for each run that doesn't."""
    found = []
    start = Start(0, 0, None)
    for task in dict.fromkeys(one.task for one in done):
        records = [one.record for one in done if one.task == task]
        found.append(broken(start, records, PLAN))
        start = Start(records[-1].index + 1, records[-1].step_to, records[-1].state_root)
    return [why for why in found if why is not None]
