"""What a job may try against the machine that it runs on, one probe each.

A probe that gets what it wants returns what it got; one that is refused returns None, raises OSError or is killed.
Anything else is a fault of the probe. `python -m fakes.probes` runs them all, each in a process of its own, and says in
the training program's words how each ended; machine.json in the folder above says what there is to be found.
"""

import json
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Probe = Callable[[], object]
How = Literal["succeeded", "stopped", "broken"]

PROBES: dict[str, Probe] = {}

_TIMEOUT_S = 20


@dataclass(frozen=True)
class Outcome:
    how: How
    words: str


def probe(attempt: Probe) -> Probe:
    PROBES[attempt.__name__] = attempt
    return attempt


@cache
def machine() -> dict[str, Any]:
    """What the test put around the sandbox for the probes to find."""
    found: dict[str, Any] = json.loads((Path(__file__).parents[2] / "machine.json").read_text())
    return found


def outcome(attempt: Probe) -> Outcome:
    """How a probe ends, in a process that may be killed for it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.alarm(_TIMEOUT_S)
        Path("/proc/self/oom_score_adj").write_text("1000")  # it goes, not the program that reports
        os.write(write, pickle.dumps(_tried(attempt)))
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(child, 0)
    _end_group(child)  # they hold the pipe open
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    if said:
        told: Outcome = pickle.loads(said)
        return told
    return Outcome("stopped", f"killed by signal {os.WTERMSIG(status)}")


def _tried(attempt: Probe) -> Outcome:
    try:
        got = attempt()
    except OSError as err:
        return Outcome("stopped", str(err)[:200])
    except MemoryError:
        return Outcome("stopped", "no more memory")
    except Exception as err:  # noqa: BLE001  # a fault of the probe, which the test is told of
        return Outcome("broken", repr(err)[:200])
    return Outcome("stopped", "nothing was got") if got is None else Outcome("succeeded", str(got)[:200])


def _end_group(leader: int) -> None:
    """End what a probe left running."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
