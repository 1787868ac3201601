"""Files, mounts and devices."""

import ctypes
import os
import stat
import subprocess
from functools import partial
from pathlib import Path

from fakes.probes import PROBES, machine, probe
from fakes.probes.kernel import must

LIBC = ctypes.CDLL(None, use_errno=True)

_WRITABLE = {
    "root_folder": "/here",
    "programs": "/usr/here",
    "passwords": "/etc/passwd",
    "task": "/work/task.json",
    "input": "/work/input/data",
    "core_pattern": "/proc/sys/kernel/core_pattern",
    "sysrq": "/proc/sysrq-trigger",
    "hotplug": "/sys/kernel/uevent_helper",
    "oom_policy": "/proc/sys/vm/overcommit_memory",
    "first_cgroup": "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "second_cgroup": "/sys/fs/cgroup/memory.max",
    "release_agent": "/sys/fs/cgroup/memory/release_agent",
}
_READABLE = {
    "kernel_memory": "/proc/kcore",
    "physical_memory": "/dev/mem",
    "kernel_log": "/dev/kmsg",
    "firmware": "/sys/firmware/memmap/0/start",
    "fuse": "/dev/fuse",
    "kvm": "/dev/kvm",
    "tunnel": "/dev/net/tun",
    "loop_control": "/dev/loop-control",
}
_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")


def _open(path: str, flags: int) -> str:
    os.close(os.open(path, flags | os.O_NONBLOCK))
    return path


def _create(path: str) -> str:
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(path)
    return _open(path, os.O_WRONLY | (0 if Path(path).exists() else os.O_CREAT))


PROBES |= {f"write_{name}": partial(_create, path) for name, path in _WRITABLE.items()}
PROBES |= {f"open_{name}": partial(_open, path, os.O_RDONLY) for name, path in _READABLE.items()}


@probe
def keys_of_others() -> str | None:
    return Path("/proc/keys").read_text() or None


@probe
def timers_of_others() -> str | None:
    return Path("/proc/timer_list").read_text() or None


@probe
def write_an_input_made_writable() -> str:
    os.chmod("/work/input/data", 0o666)
    return _open("/work/input/data", os.O_WRONLY)


@probe
def replace_an_input() -> str:
    os.rename("/work/input/data", "/work/input/other")
    os.rename("/work/input/other", "/work/input/data")
    return "moved"


@probe
def mount_a_disk_of_memory() -> str:
    return must(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))


@probe
def mount_processes_again() -> str:
    return must(LIBC.mount(b"proc", b"/tmp", b"proc", 0, None))


@probe
def make_the_root_writable() -> str:
    return must(LIBC.mount(b"none", b"/", None, 32 | 4096, None))  # MS_REMOUNT | MS_BIND


@probe
def unmount_a_file_system() -> str:
    return must(LIBC.umount2(b"/dev/mqueue", 2))


@probe
def change_the_root() -> str:
    os.chroot("/work")
    return "chroot"


@probe
def make_a_disk_device() -> str:
    os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(machine()["disk"][0], machine()["disk"][1]))
    return "a disk"


@probe
def make_a_memory_device() -> str:
    os.mknod("/tmp/memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return "the machine's memory"


@probe
def disks_at_hand() -> str | None:
    return next((path for path in machine()["disks"] if Path(path).exists() and _open(path, os.O_RDONLY)), None)


@probe
def graphics_cards_of_others() -> str | None:
    return ", ".join(path.name for path in Path("/dev").glob("nvidia*")) or None


@probe
def engine_socket() -> str | None:
    return next((path for path in _SOCKETS if Path(path).exists()), None)


@probe
def files_of_the_host() -> str | None:
    return next((path for path in machine()["files"] if Path(path).exists()), None)


@probe
def root_of_process_1() -> str | None:
    """Outside of a sandbox it leads to the host's files."""
    other = os.stat("/proc/1/root/.")
    here = os.stat("/")
    return "another root" if (other.st_dev, other.st_ino) != (here.st_dev, here.st_ino) else None


@probe
def processes_of_others() -> str | None:
    return "they are listed" if sum(path.name.isdigit() for path in Path("/proc").iterdir()) > 5 else None


@probe
def run_a_program_from_tmp() -> str:
    return _run_from("/tmp")


@probe
def run_a_program_from_out() -> str:
    return _run_from("/work/out")


def _run_from(folder: str) -> str:
    program = Path(folder) / "program"
    program.write_bytes(Path("/bin/true").resolve().read_bytes())
    program.chmod(0o755)
    subprocess.run([program], check=True, timeout=5)
    return "it runs"


@probe
def programs_with_their_owner_s_rights() -> str | None:
    """A set-user-id bit has to mean nothing where files can be written."""
    places = [path for path in ("/tmp", "/work/out", "/dev/shm") if not os.statvfs(path).f_flag & os.ST_NOSUID]
    return ", ".join(places) or None


@probe
def give_a_program_capabilities() -> str:
    Path("/tmp/capable").touch()
    os.setxattr("/tmp/capable", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000"))
    return "capabilities"


@probe
def secrets_in_the_environment() -> str | None:
    words = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL")
    return ", ".join(name for name in os.environ if any(word in name for word in words)) or None


@probe
def spared_when_memory_is_short() -> str:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    return "somebody else goes first"
