"""A job that can't be cut into steps: one step, one segment, whose state is the files that it leaves.

The program fills a folder; that folder's digest is the job's final state. It is checked by filling it again elsewhere.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.errors import BadData
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.outputs import outputs_root
from gristmill_protocol.progress import Finished, Replayed, SegmentDone, Started, Stopped
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.engine import Emit, Preempted
from gristmill_trainer.segments import StepLog

MAX_FILES = 1_000
MAX_BYTES = 4 * 1024**3  # of all of them


@dataclass(frozen=True)
class Job:
    """One whole job being run or replayed, as its program sees it."""

    task: TrainTask
    folder: Path  # of the task; only out/ can be written
    data: DataView  # plain
    emit: Emit
    stop_requested: Callable[[], bool]

    def leave(self) -> Preempted:
        """What to raise when asked to leave: nothing is saved, it begins anew elsewhere."""
        self.emit(Stopped(step=0))
        return Preempted()


class WholeProgram(Protocol):
    """A module with this function."""

    def produce(self, job: Job, results: Path) -> None:
        """Fill the empty folder.

        Raises:
            Preempted: asked to leave.
            BadData, BadSettings: any machine would fail.
        """
        ...


def run(job: Job, program: WholeProgram, *, numeric_class: str) -> None:
    """Run the job to its end and leave its files in out/result; errors as the program's, and BadData for no files."""
    first = _first_root(job.task)
    started_ms = _now_ms()
    job.emit(Started(numeric_class=numeric_class, state_root=first, step=0))
    files = _produce(job, program)
    root = outputs_root(files).hex()
    listing = job.folder / "out" / "states" / "0.json"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_bytes(canonical_json({path: ref.model_dump(mode="json") for path, ref in files.items()}))
    segment = SegmentDone(
        index=0,
        step_from=0,
        step_to=1,
        state_root_prev=first,
        state_root=root,
        **_step_log(job.task).roots(),
        started_ms=started_ms,
        ended_ms=_now_ms(),
        state_file=str(listing.relative_to(job.folder)),
        state_sha256=file_ref(listing).sha256,
    )
    job.emit(segment)
    card = {"sentence": f"It left {len(files)} files, {sum(ref.size_bytes for ref in files.values()):,} bytes."}
    job.emit(Finished(step=1, state_root=root, scorecard=card, files={path: ref.sha256 for path, ref in files.items()}))


def replay(job: Job, program: WholeProgram) -> None:
    """Run the job again and say what came out; errors as run's."""
    files = _produce(job, program)
    roots = _step_log(job.task).roots()
    replayed = Replayed(
        step_from=0,
        step_to=1,
        state_root_prev=_first_root(job.task),
        state_root=outputs_root(files).hex(),
        data_root=roots["data_root"],
        metrics_root=roots["metrics_root"],
    )
    job.emit(replayed)


def _produce(job: Job, program: WholeProgram) -> dict[str, ArtifactRef]:
    results = job.folder / "out" / "result"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    program.produce(job, results)
    return _listed(results)


def _listed(results: Path) -> dict[str, ArtifactRef]:
    """The files by their path; links are left out.

    Raises:
        BadData: none, too many, too large together, or with a name that can't be written elsewhere.
    """
    paths = []
    for folder, _, names in os.walk(results):
        Path(folder).chmod(0o755)  # the node that passes them on is another user
        paths += [path for path in (Path(folder, name) for name in names) if not path.is_symlink() and path.is_file()]
    size_bytes = sum(path.stat().st_size for path in paths)
    if not paths:
        raise _unusable("It left no file.", "Write what you want to have into the folder out/.")
    if len(paths) > MAX_FILES or size_bytes > MAX_BYTES:
        what = f"It left {len(paths)} files with {size_bytes} bytes."
        raise _unusable(what, f"Leave at most {MAX_FILES} files with {MAX_BYTES} bytes; pack many into one.")
    files = {}
    for path in paths:
        path.chmod(0o644)
        name = path.relative_to(results).as_posix()
        if not name.isprintable() or "\\" in name:
            raise _unusable(f"It left a file named {name!r}.", "Name files with plain letters and digits.")
        files[name] = file_ref(path)
    return files


def _unusable(what: str, todo: str) -> BadData:
    return BadData(what, effect="The job stops here; nothing is charged.", todo=todo)


def _first_root(task: TrainTask) -> str:
    """What stands for the state before the job: a digest of all that it depends on."""
    begun = {"recipe": task.recipe, "data": task.data.sha256, "seed": task.seed, "settings": task.settings}
    return sha256(b"gristmill/whole\0" + canonical_json(begun)).hexdigest()


def _step_log(task: TrainTask) -> StepLog:
    log = StepLog()
    log.add(0, examples=[bytes.fromhex(task.data.sha256)], metrics={}, losses=())
    return log


def _now_ms() -> int:
    return int(time.time() * 1000)
