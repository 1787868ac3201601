"""How a renter's program is run: a process of its own in a clean folder, with an environment that never varies."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from gristmill_protocol.errors import BadData, BadSettings, Unavailable
from gristmill_protocol.progress import Progress
from gristmill_trainer.recipes.script import MAIN, OUT
from gristmill_trainer.whole import Job

MAX_PRINTED_BYTES = 8 * 1024 * 1024
_MAX_LINE_BYTES = 4096
_POLL_S = 0.05
_PROGRESS_LINES = 200  # that a job shows at most
_LAST_OUTPUT_S = 2.0  # to wait for what it printed last; a process that it left behind may hold the line open
_STOPS = "The job stops here; nothing is charged."

# 1980-01-01: the zip format knows no earlier time.
_SOURCE_DATE_EPOCH = "315532800"

# Set by environment.pin_environment, or the machine's way to its libraries and its card.
_PASSED_ON = (
    "HTTPS_PROXY",
    "https_proxy",
    "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "TORCHINDUCTOR_MAX_AUTOTUNE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR",
)  # fmt: skip


def produce(job: Job, results: Path) -> None:
    """Run the program and move what it left in out/ into results.

    Raises:
        Preempted: asked to leave.
        BadData: it ended with an error, or printed without end.
        BadSettings: it took longer than its time limit.
        Unavailable: it was killed from outside, as by a machine that is short of memory.
    """
    work = job.folder / "out" / "work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        _lay_out(job, work)
        _run(job, work)
        if (work / OUT).is_dir() and not (work / OUT).is_symlink():
            os.replace(work / OUT, results)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _lay_out(job: Job, work: Path) -> None:
    """The renter's files as they were, read-only, beside an empty out/ and tmp/."""
    for place in (work / OUT, work / "tmp"):
        place.mkdir(parents=True)
    for example in job.data:
        path = work / example.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.content)
        path.chmod(0o444)


def _run(job: Job, work: Path) -> None:
    """Until it has ended well."""
    limit_s = 60 * int(job.task.settings["minutes"])
    started = time.monotonic()
    # In our own process group: whoever kills that, as a node does at the end, kills what the program left behind.
    process = subprocess.Popen(
        [sys.executable, "-s", MAIN], cwd=work, env=environment(job, work),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    printed, every_s, shown = _Printed(process.stdout), max(1.0, limit_s / _PROGRESS_LINES), started
    try:
        while process.poll() is None:
            if job.stop_requested():
                raise job.leave()
            if time.monotonic() - started > limit_s:
                raise BadSettings(
                    f"{MAIN} did not end within its time limit of {limit_s // 60} minutes.",
                    effect=_STOPS,
                    todo="Set more minutes, or have it do less.",
                )
            printed.require_bounded()
            if printed.numbers and time.monotonic() - shown >= every_s:
                shown = time.monotonic()
                job.emit(Progress(step=0, metrics=printed.numbers))
            time.sleep(_POLL_S)
    finally:
        process.kill()
        process.wait()
    printed.finish()
    printed.require_bounded()
    _require_well(process.returncode, printed.last_line)


def environment(job: Job, work: Path) -> dict[str, str]:
    """All variables that the program sees: nothing of the machine's that could show in its results."""
    threads = str(job.task.threads)
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": str(work),
        "TMPDIR": str(work / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NUMEXPR_NUM_THREADS": threads,
        "PYTHONHASHSEED": str(job.task.seed % 2**32),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH,
        "GRISTMILL_SEED": str(job.task.seed),
    }


def _require_well(code: int, last_line: str) -> None:
    said = f" Its last line was {last_line!r}." if last_line else ""
    if code < 0:
        raise Unavailable(
            f"{MAIN} was killed by signal {-code}.{said}",
            effect="The training stopped.",
            todo="If it needs more memory, set memory_gib.",
        )
    if code > 0:
        what = f"{MAIN} ended with code {code}.{said}"
        raise BadData(what, effect=_STOPS, todo="Run it on your own machine first, on a small part of the data.")


class _Printed:
    """What the program prints, read as it comes.

    A line that is a JSON object of numbers, such as {"epoch": 3, "loss": 0.25}, is progress.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self.numbers: dict[str, float] = {}  # of the last such line
        self.last_line = ""
        self._pipe = pipe
        self._bytes = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def require_bounded(self) -> None:
        """Raises:
        BadData: it printed more than MAX_PRINTED_BYTES.
        """
        if self._bytes > MAX_PRINTED_BYTES:
            what = f"{MAIN} printed more than {MAX_PRINTED_BYTES // 1024**2} MB."
            raise BadData(what, effect=_STOPS, todo=f"Print less; write what you want to have into {OUT}/.")

    def finish(self) -> None:
        self._thread.join(_LAST_OUTPUT_S)

    def _read(self) -> None:
        with self._pipe:
            while self._bytes <= MAX_PRINTED_BYTES and (line := self._pipe.readline(_MAX_LINE_BYTES)):
                self._bytes += len(line)
                text = line.decode(errors="replace").strip()
                if text:
                    self.last_line = text[:300]
                    self.numbers = _numbers(text) or self.numbers


def _numbers(text: str) -> dict[str, float]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    numbers = {name[:60]: value for name, value in said.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in list(numbers.items())[:20] if math.isfinite(value)}
