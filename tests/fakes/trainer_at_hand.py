"""The real trainer in a process that does one task after another, for tests that replay segments by the hundred."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import SegmentDone, TrainerEvent, trainer_event
from gristmill_trainer.data import file_ref
from gristmill_trainer.environment import pin_environment

CLASS = "ab" * 32
_DONE = "done\n"


class TrainerAtHand:
    """One process; close() ends it."""

    def __init__(self) -> None:
        # Threads that wait without spinning: the bits are the same, and tests share their cores.
        env = os.environ | {"OMP_WAIT_POLICY": "passive"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(
        self,
        command: Literal["run", "replay"],
        folder: Path,
        *,
        stop_after: int | None = None,
        kill_after: int | None = None,
    ) -> list[TrainerEvent]:
        """Everything that a task gives.

        Args:
            stop_after: steps after which it is asked to leave.
            kill_after: segments after which the process is killed without a word.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, str(folder), stop_after]) + "\n")
        self._process.stdin.flush()
        events: list[TrainerEvent] = []
        for event in self._events():
            events.append(event)
            if sum(isinstance(one, SegmentDone) for one in events) == kill_after:
                self._process.kill()
                break
        return events

    def close(self) -> None:
        with self._process:
            self._process.kill()

    def _events(self) -> Iterator[TrainerEvent]:
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) != _DONE:
            yield trainer_event.validate_json(line)


def committed(events: Sequence[TrainerEvent]) -> list[SegmentRecord]:
    """What a node signs of a run."""
    for_the_node = {"event", "state_file", "state_sha256"}
    return [
        SegmentRecord(job_id="job_1", numeric_class=CLASS, **event.model_dump(exclude=for_the_node))
        for event in events
        if isinstance(event, SegmentDone)
    ]


def lay_out(like: Path, folder: Path, *, state: Path | None, **changes: int | None) -> Path:
    """A task folder with the data of another, from a state of its run."""
    task = TrainTask.model_validate_json((like / "task.json").read_text())
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "data").symlink_to(like / "input" / "data")
    start: ArtifactRef | None = None
    if state is not None:
        (folder / "input" / "state.safetensors").symlink_to(state)
        start = file_ref(state)
    (folder / "task.json").write_text(task.model_copy(update={"state": start, **changes}).model_dump_json())
    return folder


def main() -> None:
    pin_environment()
    # This loads torch, which has to find the environment pinned.
    from gristmill_trainer import session
    from gristmill_trainer.engine import Preempted

    for line in sys.stdin:
        command, folder, stop_after = json.loads(line)
        work = session.run if command == "run" else session.replay
        with contextlib.suppress(Preempted):
            work(Path(folder), _say, _asked_after(stop_after))
        sys.stdout.write(_DONE)
        sys.stdout.flush()


def _asked_after(steps: int | None) -> Callable[[], bool]:
    asked = count()
    return lambda: steps is not None and next(asked) >= steps


def _say(event: TrainerEvent) -> None:
    sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
