"""More of the machine than was allowed; each asks for at most a few times the limit, so that a machine survives it."""

import os
import resource
import threading
from pathlib import Path

from fakes.probes import machine, probe

_MIB = 1024**2
_MOST_FILES = 20_480


@probe
def fork_bomb() -> str | None:
    return _beyond(_forks(4 * machine()["pids"]), machine()["pids"], "processes")


@probe
def thread_bomb() -> str | None:
    held = threading.Event()
    started = 0
    try:
        for _ in range(4 * machine()["pids"]):
            threading.Thread(target=held.wait, daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    return _beyond(started, machine()["pids"], "threads")


@probe
def memory_hog() -> str:
    hoard = bytearray(2 * machine()["memory_bytes"])
    hoard[::4096] = b"x" * len(hoard[::4096])
    return f"{len(hoard)} bytes"


@probe
def memory_hog_in_a_file() -> str:
    file = os.memfd_create("hoard")
    for _ in range(2 * machine()["memory_bytes"] // _MIB):
        os.write(file, bytes(_MIB))
    return "a file of memory"


@probe
def shared_memory() -> str | None:
    return _fill("/dev/shm/filler", 64 * _MIB)


@probe
def small_files_in_memory() -> str | None:
    return _fill("/tmp/filler", 64 * _MIB)


@probe
def disk() -> str | None:
    return _fill("/work/out/filler", machine()["work_bytes"])


@probe
def files_without_number_on_disk() -> str | None:
    return _many_files("/work/out")


@probe
def files_without_number_in_memory() -> str | None:
    return _many_files("/tmp")


@probe
def open_files() -> str | None:
    held = []
    try:
        while len(held) < 5000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    return _beyond(len(held), 4096, "open files")


@probe
def more_open_files_than_allowed() -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _raise_limit(resource.RLIMIT_NOFILE, hard + 1)


@probe
def core_dumps() -> str:
    return _raise_limit(resource.RLIMIT_CORE, resource.RLIM_INFINITY)


def _raise_limit(kind: int, to: int) -> str:
    try:
        resource.setrlimit(kind, (to, to))
    except ValueError as err:  # what it raises in place of EPERM
        raise PermissionError(str(err)) from err
    return "a higher limit"


def _forks(most: int) -> int:
    held, _ = os.pipe()
    started = 0
    try:
        for _ in range(most):
            if os.fork() == 0:
                os.read(held, 1)
                os._exit(0)
            started += 1
    except OSError:
        pass
    return started


def _fill(path: str, limit_bytes: int) -> str | None:
    """Whether a folder takes more than it should."""
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while written <= limit_bytes:
                written += file.write(bytes(_MIB))
    except OSError:
        pass
    finally:
        Path(path).unlink(missing_ok=True)
    return _beyond(written, limit_bytes, "bytes")


def _many_files(folder: str) -> str | None:
    place = Path(folder) / "many"
    place.mkdir()
    made = 0
    try:
        for made in range(_MOST_FILES + 2):
            os.close(os.open(place / str(made), os.O_CREAT | os.O_WRONLY))
    except OSError:
        pass
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    return _beyond(made, _MOST_FILES, "files")


def _beyond(got: int, limit: int, what: str) -> str | None:
    return f"{got} {what}" if got > limit else None
