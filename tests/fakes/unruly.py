"""A training program with bad manners; the task's setting "manners" says which. Without it, it is the fake trainer."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fakes import trainer

_MIB = 1024**2
FLOOD_BYTES = 64 * _MIB  # several times what is kept of a container's output


def _task() -> dict[str, object]:
    task: dict[str, object] = json.loads((Path(sys.argv[2]) / "task.json").read_text())
    return task


def _start() -> None:
    root = trainer.state_root(7, 0)
    trainer.say("started", numeric_class=trainer.NUMERIC_CLASS, state_root=root, step=0)


def flood_the_log() -> None:
    for _ in range(FLOOD_BYTES // _MIB):
        os.write(2, (b"x" * 1023 + b"\n") * 1024)


def say_one_endless_line() -> None:
    for _ in range(FLOOD_BYTES // _MIB):
        os.write(1, b"x" * _MIB)


def say_the_same_again_and_again() -> None:
    for _ in range(10_000):
        trainer.say("progress", step=1, metrics={"loss": 1.0})


def hoard_memory() -> None:
    hoard = bytearray()
    while True:
        hoard += b"x" * _MIB


def be_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    trainer.say("progress", step=1, metrics={})
    while True:
        time.sleep(60)


def leave_processes_behind() -> None:
    for _ in range(10):
        if os.fork() == 0:
            os.setsid()
            time.sleep(3600)
    os._exit(4)


def hand_in_a_file_with_holes() -> None:
    """It takes no room, and its copy would take more than there is."""
    state = Path("/work/out/states/0.safetensors")
    state.parent.mkdir(exist_ok=True)
    with state.open("wb") as file:
        file.truncate(1024**4)
    trainer.say(
        "segment", index=0, step_from=0, step_to=4, state_root_prev=trainer.state_root(7, 0), started_ms=0, ended_ms=1,
        state_root=trainer.state_root(7, 4), data_root="0" * 64, metrics_root="0" * 64, micro_root="0" * 64,
        state_file="out/states/0.safetensors", state_sha256="0" * 64,
    )  # fmt: skip
    time.sleep(3600)


MANNERS: dict[str, Callable[[], None]] = {
    act.__name__: act
    for act in (
        flood_the_log,
        say_one_endless_line,
        say_the_same_again_and_again,
        hoard_memory,
        be_deaf,
        leave_processes_behind,
        hand_in_a_file_with_holes,
    )
}

if __name__ == "__main__":
    settings = _task()["settings"] if sys.argv[1] == "run" else {}
    assert isinstance(settings, dict)
    if "manners" in settings:
        _start()
        MANNERS[settings["manners"]]()
        sys.exit(9)
    trainer.main()
