"""The policy itself: what may never appear in a container's arguments, whatever is asked for."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_provider.config import Limits
from gristmill_provider.sandbox import Engine, container

WAYS_OUT = {
    "bpf", "clone", "clone3", "fsopen", "init_module", "io_uring_setup", "kexec_load", "keyctl", "mount",
    "mount_setattr", "move_mount", "open_by_handle_at", "perf_event_open", "personality", "pivot_root",
    "process_vm_readv", "ptrace", "setns", "socket", "umount2", "unshare", "userfaultfd",
}  # fmt: skip
UUID = "GPU-fa4e0001-0000-4000-8000-000000000001"


def made(*, gpu_uuid: str | None = None, cdi: bool = False, limits: Limits | None = None) -> dict[str, Any]:
    return container(
        ("python", "-m", "gristmill_trainer", "run", "/work"),
        image="trainer@sha256:" + "0" * 64,
        task_dir=Path("/state/tasks/attempt_1"),
        limits=limits or Limits(),
        gpu_uuid=gpu_uuid,
        engine=Engine(cdi=cdi),
        labels={"org.gristmill.node": "node_1"},
    )


@given(
    gpu_uuid=st.none() | st.just(UUID), cdi=st.booleans(), memory_gib=st.floats(0.1, 512), pids=st.integers(32, 9999)
)
def test_no_container_gets_more_than_the_policy(gpu_uuid: str | None, cdi: bool, memory_gib: float, pids: int) -> None:
    kwargs = made(gpu_uuid=gpu_uuid, cdi=cdi, limits=Limits(memory_gib=memory_gib, pids=pids))

    never = {
        "privileged",
        "cap_add",
        "pid_mode",
        "userns_mode",
        "uts_mode",
        "devices",
        "volumes",
        "volumes_from",
        "ports",
    }
    assert not never & kwargs.keys()
    assert kwargs["network_mode"] == "none"
    assert kwargs["read_only"] is True
    assert kwargs["cap_drop"] == ["ALL"]
    assert kwargs["user"] == "10001:10001"
    assert kwargs["security_opt"][0] == "no-new-privileges:true"
    assert (kwargs["ipc_mode"], kwargs["cgroupns"], kwargs["runtime"]) == ("private", "private", "runc")
    assert kwargs["mem_limit"] == kwargs["memswap_limit"] == int(memory_gib * 1024**3)
    assert kwargs["pids_limit"] == pids


def test_only_the_work_folder_is_writable() -> None:
    mounts = [(mount["Source"], mount["Target"], mount["ReadOnly"]) for mount in made()["mounts"]]

    assert mounts == [
        ("/state/tasks/attempt_1", "/work", True),
        ("/state/tasks/attempt_1/out", "/work/out", False),
    ]
    assert list(made()["tmpfs"]) == ["/tmp"]


@pytest.mark.parametrize(
    ("cdi", "driver", "ids"), [(True, "cdi", [f"nvidia.com/gpu={UUID}"]), (False, "nvidia", [UUID])]
)
def test_a_container_gets_its_own_card_and_no_other(cdi: bool, driver: str, ids: list[str]) -> None:
    [request] = made(gpu_uuid=UUID, cdi=cdi)["device_requests"]

    assert (request["Driver"], request["DeviceIDs"], request["Count"]) == (driver, ids, 0)


@pytest.mark.parametrize(("gpu_uuid", "cdi"), [(None, False), (None, True), (UUID, True)])
def test_an_image_cannot_ask_for_cards_by_itself(gpu_uuid: str | None, cdi: bool) -> None:
    assert made(gpu_uuid=gpu_uuid, cdi=cdi)["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_the_system_calls_are_an_allow_list_without_the_known_ways_out() -> None:
    profile = json.loads(files("gristmill_provider").joinpath("seccomp.json").read_text())
    allowed = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }

    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not WAYS_OUT & allowed
