"""Children come up, are awaited by what they print, and never outlive us."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gristmill_localnet.processes import Processes
from gristmill_protocol.errors import PortInUse, Unavailable

READY = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path, {}) as started:
        yield started


def test_a_process_is_awaited_by_what_it_prints_and_stopped(processes: Processes, tmp_path: Path) -> None:
    child = processes.start("child", [sys.executable, "-c", READY])
    child.wait_for("^ready", timeout_s=20)

    assert child.running
    processes.stop()
    assert not child.running
    assert (tmp_path / "child.log").read_text() == "ready\n"


def test_a_killed_process_comes_back_on_restart(processes: Processes) -> None:
    child = processes.start("child", [sys.executable, "-c", READY])
    child.wait_for("^ready", timeout_s=20)
    child.kill()
    assert not child.running

    child.restart()
    child.wait_for("^ready", timeout_s=20)

    assert child.running


def test_a_process_that_ends_is_reported_with_its_last_words(processes: Processes) -> None:
    child = processes.start("child", [sys.executable, "-c", "print('out of flour')"])

    with pytest.raises(Unavailable, match=r"(?s)The child ended at once.*out of flour"):
        child.wait_for("^ready", timeout_s=20)


def test_a_port_in_use_is_named_as_such(processes: Processes) -> None:
    child = processes.start("child", [sys.executable, "-c", "raise SystemExit('Address already in use')"])

    with pytest.raises(PortInUse):
        child.wait_for("^ready", timeout_s=20)


def test_a_process_that_says_nothing_is_not_waited_for_forever(processes: Processes) -> None:
    child = processes.start("child", [sys.executable, "-c", "import signal; signal.pause()"])

    with pytest.raises(Unavailable, match="did not come up within"):
        child.wait_for("^ready", timeout_s=0.2)


@pytest.mark.slow
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import signal, sys; from pathlib import Path; from gristmill_localnet.processes import Processes\n"
        f"child = Processes(Path({str(tmp_path)!r}), {{}}).start('child', [sys.executable, '-c', {READY!r}])\n"
        "child.wait_for('^ready', 20); print(child.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)

    child.wait(timeout=20)
