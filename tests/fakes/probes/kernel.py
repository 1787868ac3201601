"""Calls into the kernel, and rights.

A call that is filtered fails with EPERM or ENOSYS whatever its arguments; all others reach code that a stranger should
not reach. The arguments are invalid, so that no harm is done where nothing filters.
"""

import ctypes
import errno
import mmap
import os
import socket
from functools import partial
from pathlib import Path

from fakes.probes import PROBES, probe

LIBC = ctypes.CDLL(None, use_errno=True)

_BAD = -1  # as pointer or descriptor: EFAULT or EBADF
_NEW = {"user": 0x10000000, "mount": 0x00020000, "network": 0x40000000, "process": 0x20000000, "ipc": 0x08000000}
_FAMILIES = {"vsock": 40, "alg": 38, "bluetooth": 31, "tipc": 30, "can": 29, "rds": 21, "key": 15, "xdp": 44, "smc": 43}

# Number on x86-64 and its arguments.
_CALLS: dict[str, tuple[int, ...]] = {
    "acct": (163, _BAD),
    "add_key": (248, _BAD, _BAD, _BAD, 0, 0),
    "adjtimex": (159, _BAD),
    "bpf": (321, 0, _BAD, 8),
    "clock_settime": (227, 0, _BAD),
    "delete_module": (176, _BAD, 0),
    "fanotify_init": (300, 0, _BAD),
    "finit_module": (313, _BAD, _BAD, 0),
    "fsopen": (430, _BAD, 0),
    "init_module": (175, _BAD, 0, _BAD),
    "io_uring_setup": (425, 1, _BAD),
    "iopl": (172, 0),
    "kcmp": (312, _BAD, _BAD, 0, 0, 0),
    "kexec_load": (246, _BAD, 0, _BAD, 0xFFFF),
    "keyctl": (250, 0, 0, 0),
    "modify_ldt": (154, 0xFFFF, _BAD, 0),
    "mount_setattr": (442, _BAD, _BAD, 0, _BAD, 0),
    "move_mount": (429, _BAD, _BAD, _BAD, _BAD, 0),
    "name_to_handle_at": (303, _BAD, _BAD, _BAD, _BAD, 0),
    "open_by_handle_at": (304, _BAD, _BAD, 0),
    "open_tree": (428, _BAD, _BAD, 0),
    "perf_event_open": (298, _BAD, 0, 0, _BAD, 0),
    "pidfd_getfd": (438, _BAD, _BAD, 0),
    "pivot_root": (155, _BAD, _BAD),
    "process_vm_readv": (310, 1, _BAD, 1, _BAD, 1, 0),
    "process_vm_writev": (311, 1, _BAD, 1, _BAD, 1, 0),
    "ptrace": (101, 0xFFFF, 0, 0, 0),
    "quotactl": (179, _BAD, _BAD, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "request_key": (249, _BAD, _BAD, _BAD, 0),
    "setns": (308, _BAD, 0),
    "settimeofday": (164, _BAD, 0),
    "swapon": (167, _BAD, 0),
    "syslog": (103, 10, 0, 0),
    "userfaultfd": (323, 1),
}


def _reach(number: int, *arguments: int) -> str | None:
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
    if result == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
        return None
    return f"the kernel looks at it: {result}, {os.strerror(ctypes.get_errno())}"


PROBES |= {f"call_{name}": partial(_reach, *call) for name, call in _CALLS.items()}


def must(result: int) -> str:
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "the kernel did it"


def _unshare(flag: int) -> str:
    return must(LIBC.unshare(flag))


PROBES |= {f"namespace_{name}": partial(_unshare, flag) for name, flag in _NEW.items()}


@probe
def clone_with_a_user_namespace() -> str:
    child = LIBC.syscall(ctypes.c_long(56), ctypes.c_long(_NEW["user"] | 17), *(ctypes.c_long(0),) * 4)
    if child == 0:
        os._exit(0)
    return must(child)


@probe
def clone3() -> str | None:
    return _reach(435, _BAD, 0)


@probe
def odd_sockets() -> str | None:
    open_to_us = []
    for name, family in _FAMILIES.items():
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            open_to_us.append(name)
    return ", ".join(sorted(set(open_to_us))) or None


@probe
def vsock() -> str:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return "a socket to the hypervisor"


@probe
def audit_netlink() -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9):
        return "a socket to the kernel's audit"


@probe
def firewall_netlink() -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12):
        return "a socket to the kernel's packet filter"


@probe
def calls_of_32_bits() -> str | None:
    """getpid by the old gate, past filters that know only today's."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return "the kernel answers them" if call() == os.getpid() else None


@probe
def predictable_addresses() -> str:
    return must(LIBC.personality(ctypes.c_ulong(0x0040000)))


@probe
def ptrace_a_child() -> str | None:
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)
    return must(LIBC.ptrace(16, child, 0, 0))


@probe
def become_root() -> str:
    os.setresuid(0, 0, 0)
    return "root"


@probe
def capabilities() -> str | None:
    held = int(_status("CapEff"), 16) | int(_status("CapBnd"), 16)
    return f"{held:x}" if held else None


@probe
def new_privileges() -> str | None:
    return "a program may have more rights than its caller" if _status("NoNewPrivs") == "0" else None


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


@probe
def rename_the_host() -> str:
    name = socket.gethostname().encode()
    return must(LIBC.sethostname(name, len(name)))


@probe
def realtime_priority() -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "before everybody else"


@probe
def higher_priority() -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "before everybody else"


@probe
def lock_all_memory() -> str:
    return must(LIBC.mlockall(1))
