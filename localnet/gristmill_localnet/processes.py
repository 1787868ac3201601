"""Child processes that never outlive us: started with a log, awaited by what they print, stopped in reverse order."""

import ctypes
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from gristmill_protocol.errors import GristmillError, PortInUse, Unavailable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)
_KEPT_LINES = 200


class Process:
    """One running child; its output goes to a log file line by line."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._env = dict(env)
        self._changed = threading.Condition()
        self._start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait_for(self, pattern: str, timeout_s: float) -> None:
        """Return once a line of output matches.

        Raises:
            PortInUse, Unavailable: the process ended, or said nothing of the kind in time; with its last words.
        """
        with self._changed:
            compiled = re.compile(pattern)
            found = self._changed.wait_for(lambda: self._says(compiled) or self._ended, timeout_s)
            if not self._says(compiled):
                raise self._failure("ended at once" if found else f"did not come up within {timeout_s:.0f} s")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone (not to its children)."""
        self._child.send_signal(number)

    def kill(self) -> None:
        """As if the power went: SIGKILL, and wait until it is gone."""
        self._child.kill()
        self._child.wait()
        self._reader.join()  # or it would report the end of this life in the next one

    def restart(self) -> None:
        """Start the same command again after it ended."""
        self._start()

    def stop(self, timeout_s: float = 10) -> None:
        """SIGTERM, then SIGKILL after the timeout."""
        if self.running:
            self._child.terminate()
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        self._reader.join()

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._said: list[str] = []
        self._ended = False
        self._child = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | self._env,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            preexec_fn=_die_with_parent,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self._child.stdout
        if stdout is None:
            return
        with stdout, self.log.open("ab", buffering=0) as log:
            for line in stdout:
                with suppress(OSError):  # a full disk must not keep the child from being read
                    log.write(line.encode())
                with self._changed:
                    # Enough to see a process come up and to quote its last words.
                    self._said = [*self._said[-_KEPT_LINES:], line.rstrip()]
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _says(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(line) for line in self._said)

    def _failure(self, how: str) -> GristmillError:
        said = "\n".join(self._said[-12:])
        port_taken = re.search("address already in use|port_in_use", said, re.IGNORECASE)
        return (PortInUse if port_taken else Unavailable)(
            f"The {self.name} {how}.",
            effect="The localnet was stopped; nothing is left running.",
            todo=f"Its last words are below, all of them in {self.log}.\n{said}",
        )


class Processes:
    """Children of one run, stopped in reverse order of starting."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self._logs = logs
        self._env = env
        self._all: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> Process:
        process = Process(name, command, self._logs / f"{name}.log", self._env)
        self._all.append(process)
        return process

    def stop(self) -> None:
        while self._all:
            self._all.pop().stop()


def _die_with_parent() -> None:
    """Ask the kernel to end this child when we are gone, even by SIGKILL: prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
