"""How the training program is run: what every way of running offers, and the one without a sandbox."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ValidationError

from gristmill_protocol.errors import Unavailable
from gristmill_protocol.progress import TrainerEvent, trainer_event

Kind = Literal["run", "replay", "evaluate", "probe", "challenge"]

TRAINER = (sys.executable, "-m", "gristmill_trainer")
MAX_LINE_BYTES = 4 * 1024**2
_LAST_WORDS_BYTES = 2000


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        code: the exit code; negative: killed by that signal.
        last_words: the end of what it wrote to stderr.
    """

    code: int
    last_words: str = ""
    out_of_memory: bool = False

    @property
    def cause(self) -> str:
        """Why it ended without saying so itself, a plain sentence."""
        if self.out_of_memory:
            return "The training program needed more memory than an attempt may take on this machine."
        words = self.last_words.strip().splitlines()
        said = f", saying {words[-1][:300]!r}" if words else ""
        return f"The training program ended with code {self.code} before it was done{said}."


class Run(Protocol):
    """One training program at work."""

    def events(self) -> AsyncIterator[TrainerEvent]:
        """What it says, until it ends or closes its output.

        Raises:
            Unavailable: it said something that is no event.
        """
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to save and leave; kill it after grace_s. Returns when it is gone."""
        ...

    async def wait(self) -> Ended: ...

    async def close(self) -> None:
        """Kill what is left and free what the run held; its folder may be deleted afterwards."""
        ...


class Runner(Protocol):
    """A way to run the training program."""

    @property
    def pids(self) -> frozenset[int]:
        """The first process of each run that is not a child of the node."""
        ...

    async def open(self) -> None:
        """Remove what an earlier life of this node left running and see that a run can be started.

        Raises:
            MissingPart: something that runs need is not there.
        """
        ...

    async def start(self, task_dir: Path, kind: Kind) -> Run:
        """Start in a folder laid out as the trainer expects it; it writes below task_dir/out only.

        Raises:
            Unavailable: it could not be started.
        """
        ...

    async def empty(self, task_dir: Path) -> None:
        """Delete what closed runs left below task_dir/out, as far as their account may.

        Raises:
            Unavailable: it could not be tried.
        """
        ...

    async def close(self) -> None:
        """Let go of what the runner itself holds; its runs are closed before."""
        ...


class ProcessRunner:
    """Plain processes of the owner's own: no sandbox, so only for the owner's own jobs.

    Args:
        command: the training program; the kind and the folder are added.
        gpu_uuid: the one card it sees; None: none.
        env: variables besides the few that it gets anyway; the node's own are not passed on.
    """

    def __init__(
        self, command: Sequence[str] = TRAINER, *, gpu_uuid: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = tuple(command)
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        self._env = {
            **inherited,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "CUDA_VISIBLE_DEVICES": gpu_uuid or "",
            **(env or {}),
        }

    @property
    def pids(self) -> frozenset[int]:
        return frozenset()

    async def open(self) -> None:
        """Nothing to do: the kernel kills these processes together with the node."""

    async def empty(self, task_dir: Path) -> None:
        """Nothing to do: what these processes leave belongs to the node's account."""

    async def close(self) -> None:
        """Nothing is held."""

    async def start(self, task_dir: Path, kind: Kind) -> Run:
        leash = (sys.executable, "-m", "gristmill_provider.leash", str(os.getpid()))
        place = () if kind == "probe" else (str(task_dir),)
        log = task_dir / "stderr.log"
        with log.open("wb") as stderr:
            try:
                process = await asyncio.create_subprocess_exec(
                    *leash, *self._command, kind, *place,
                    stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=stderr, limit=MAX_LINE_BYTES,
                    cwd=task_dir, env={**self._env, "HOME": str(task_dir / "out")}, start_new_session=True,
                )  # fmt: skip
            except OSError as err:
                raise Unavailable(f"The training program could not be started: {err}.") from err
        return _ProcessRun(process, log)


class _ProcessRun:
    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def events(self) -> AsyncIterator[TrainerEvent]:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                yield parse_event(line)
        except ValueError as err:  # what the stream reader raises for a line over its limit
            raise _no_event(b"a line over the limit") from err

    async def stop(self, grace_s: float) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()

    async def wait(self) -> Ended:
        code = await self._process.wait()
        return Ended(code, _tail(self._log))

    async def close(self) -> None:
        self._kill()
        await self._process.communicate()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def parse_event(line: bytes) -> TrainerEvent:
    """The event in a line of the training program's output.

    Raises:
        Unavailable: it is none.
    """
    try:
        return trainer_event.validate_json(line)
    except ValidationError as err:
        raise _no_event(line) from err


def _no_event(line: bytes) -> Unavailable:
    return Unavailable(
        f"The training program said something that cannot be understood: {line[:200]!r}.",
        effect="It was stopped.",
        todo="The node and the training program must be of the same version.",
    )


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_WORDS_BYTES))
        return file.read().decode(errors="replace")
