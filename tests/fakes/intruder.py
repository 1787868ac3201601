"""Runs in place of the training program and tries what a sandbox must not allow; says what it found as a scorecard."""

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
IO_URING_SETUP, BPF, PTRACE, KEYCTL = 425, 321, 101, 250  # x86-64


def allowed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def system_call(number: int) -> bool:
    """Whether the kernel looks at the call at all: a filtered one gives EPERM whatever its arguments."""
    LIBC.syscall(number, 0, 0, 0, 0)
    return ctypes.get_errno() != 1


def unshare() -> None:
    if LIBC.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno())


def mount() -> None:
    if LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno())


def processes(most: int) -> int:
    """How many processes can be had at once, up to most."""
    children = []
    try:
        for _ in range(most):
            child = os.fork()
            if child == 0:
                os.read(HELD[0], 1)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)


def room(path: str, most: int) -> int:
    """Bytes that can be written, up to most."""
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while written < most:
                written += file.write(bytes(1024**2))
    except OSError:
        pass
    Path(path).unlink(missing_ok=True)
    return written


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def look_around() -> dict[str, object]:
    return {
        "user": [os.getuid(), os.getgid()],
        "capabilities": int(status("CapEff"), 16) | int(status("CapBnd"), 16),
        "no_new_privileges": status("NoNewPrivs"),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "internet": allowed(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
        "raw_socket": allowed(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        "packet_socket": allowed(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "vsock": allowed(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
        "write_root": allowed(lambda: Path("/usr/here").write_text("x")),
        "write_task": allowed(lambda: Path("/work/task.json").write_text("x")),
        "write_input": allowed(lambda: Path("/work/input/data").write_text("x")),
        "write_out": allowed(lambda: Path("/work/out/here").write_text("x")),
        "namespace": allowed(unshare),
        "mount": allowed(mount),
        "io_uring": system_call(IO_URING_SETUP),
        "bpf": system_call(BPF),
        "ptrace": system_call(PTRACE),
        "keyctl": system_call(KEYCTL),
        "docker_socket": Path("/var/run/docker.sock").exists(),
        "gpus": sorted(path.name for path in Path("/dev").glob("nvidia*")),
        "processes": processes(400),
        "work_bytes": room("/work/out/filler", 64 * 1024**2),
        "tmp_bytes": room("/tmp/filler", 128 * 1024**2),
        "neighbours": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
        "environment": sorted(os.environ),
    }


HELD = os.pipe()
if __name__ == "__main__":
    if "hog" in sys.argv[1:]:
        hoard = bytearray()
        while True:
            hoard += b"x" * 1024**2
    event = {"event": "finished", "step": 1, "state_root": "0" * 64, "scorecard": look_around(), "files": {}}
    sys.stdout.write(json.dumps(event) + "\n")
