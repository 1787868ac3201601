"""What a container may do: a pure function from what it runs to how it is created, so that the policy can be tested.

No network, no capability, no root, nothing writable but its work folder and a small /tmp, only the one card; limits on
memory, processors, processes and files. It holds even against code that wants out, as far as a shared kernel can.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from gristmill_provider.config import Limits

MIN_DOCKER_API = (1, 41)  # Docker 20.10: the first with private cgroup namespaces
USER_ID = 10001  # owns nothing on the host
WORK = "/work"  # the task folder, read-only but for its out/

_TMPFS = "rw,nosuid,nodev,noexec,size=64m,mode=1777,nr_inodes=20k"


@dataclass(frozen=True)
class Engine:
    """What the Docker engine can do beyond what every supported one can, and what it runs containers with.

    Args:
        cdi: it hands out the card by the Container Device Interface.
        runtime: named for each container, so that no default runtime of the machine adds devices by itself.
    """

    cdi: bool = False
    runtime: str = "runc"


def container(
    command: Sequence[str],
    *,
    image: str,
    task_dir: Path,
    limits: Limits,
    gpu_uuid: str | None,
    engine: Engine,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Arguments for docker.containers.create.

    Args:
        task_dir: absolute; becomes /work.
        gpu_uuid: the one card it gets; None: none.
    """
    return {
        "image": image,
        "entrypoint": list(command),
        "command": [],
        "environment": environment(gpu_uuid, engine),
        "labels": dict(labels),
        "working_dir": WORK,
        "mounts": [
            Mount(WORK, str(task_dir), type="bind", read_only=True),
            Mount(f"{WORK}/out", str(task_dir / "out"), type="bind"),
        ],
        "user": f"{USER_ID}:{USER_ID}",
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": _TMPFS},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", f"seccomp={_seccomp()}"],
        "ipc_mode": "private",
        "cgroupns": "private",
        "runtime": engine.runtime,
        "device_requests": _device_requests(gpu_uuid, engine),
        "init": True,  # reaps orphans and passes SIGTERM on
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,  # no swap on top
        "nano_cpus": int(limits.cpus * 1e9),
        "shm_size": 64 * 1024**2,
        "ulimits": [Ulimit(name="nofile", soft=4096, hard=4096), Ulimit(name="core", soft=0, hard=0)],
        "oom_score_adj": 500,  # when memory is short it goes before anything of the owner's
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "2"}),
    }


def environment(gpu_uuid: str | None, engine: Engine) -> dict[str, str]:
    """The container's variables; an image's own NVIDIA_VISIBLE_DEVICES never decides which cards it sees."""
    variables = {"HOME": f"{WORK}/out", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if gpu_uuid is None or engine.cdi:
        variables["NVIDIA_VISIBLE_DEVICES"] = "void"
    return variables


def _device_requests(gpu_uuid: str | None, engine: Engine) -> list[DeviceRequest]:
    if gpu_uuid is None:
        return []
    if engine.cdi:
        return [DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={gpu_uuid}"])]
    return [DeviceRequest(driver="nvidia", device_ids=[gpu_uuid], capabilities=[["gpu", "compute", "utility"]])]


@cache
def _seccomp() -> str:
    """The allow-list of system calls, as the engine's API wants it: the JSON itself."""
    return json.dumps(json.loads(files("gristmill_provider").joinpath("seccomp.json").read_text()))
