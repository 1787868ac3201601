"""Over a hundred things that a job may try against its machine, in the sandbox that every job gets: none succeeds.

The same program in a container without the sandbox shows that the probes can succeed.
"""

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from fakes import probes, trainer, unruly
from fakes.probes import PROBES, files, kernel, network, resources
from fakes.provider_side import ScriptedCoordinator, lease, task
from gristmill_protocol.progress import Finished
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.config import Limits, NodeConfig
from gristmill_provider.docker_runner import NODE_LABEL, DockerRunner

pytestmark = [pytest.mark.docker, pytest.mark.slow]
assert all((files, kernel, network, resources)), "importing them is what registers their probes"

IMAGE = "python:3.11-slim-bookworm"
NODE = "node_of_abuse_tests"
LIMITS = Limits(memory_gib=0.25, pids=64, work_gib=0.02, cpus=1)
PROGRAM = ("python", "-m", "fakes.probes")

# Rights that an owner's container might be given, and that every kernel lets a container have.
RIGHTS = (
    "SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_NICE", "SYS_MODULE", "SYS_RAWIO", "SYSLOG", "SYS_BOOT", "SYS_TIME",
    "AUDIT_CONTROL", "IPC_LOCK", "DAC_READ_SEARCH", "SYS_PACCT",
)  # fmt: skip
OPEN_BY_DEFAULT = {
    "become_root", "capabilities", "container_of_another", "core_dumps", "disk", "files_without_number_on_disk",
    "fork_bomb", "interfaces", "memory_hog", "memory_hog_in_a_file", "raw_packets", "reach_internet", "reach_metadata",
    "reach_private_network", "run_a_program_from_out", "service_of_the_host", "small_files_in_memory", "thread_bomb",
    "write_input", "write_programs", "write_root_folder",
}  # fmt: skip

Found = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def folder(
    engine: Any, require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A job's folder with the probes in it, on a machine where there is something to be found."""
    require(os.uname().machine == "x86_64", "the probes know the system calls of x86-64 only")
    made = tmp_path_factory.mktemp("abuse")
    (made / "secret").write_text("the owner's")
    with ExitStack() as stack:
        facts = {
            "pids": LIMITS.pids,
            "memory_bytes": LIMITS.memory_bytes,
            "work_bytes": LIMITS.work_bytes,
            "gateway": engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"],
            "port": stack.enter_context(listening(socket.AF_INET, ("0.0.0.0", 0))),
            "abstract": stack.enter_context(listening(socket.AF_UNIX, "\0gristmill-abuse")).decode().lstrip("\0"),
            "neighbour": stack.enter_context(neighbour(engine)),
            "disk": [os.major(os.stat("/").st_dev), os.minor(os.stat("/").st_dev)],
            "disks": [f"/dev/{line.split()[3]}" for line in Path("/proc/partitions").read_text().splitlines()[2:]],
            "files": [str(made / "secret"), "/host/etc/shadow"],
        }
        yield job_folder(made / "job", facts)


def job_folder(made: Path, facts: dict[str, Any]) -> Path:
    for part in (made / "input", made / "out"):
        part.mkdir(parents=True)
    (made / "input" / "data").write_bytes(b"data")
    (made / "task.json").write_text("{}")
    (made / "machine.json").write_text(json.dumps(facts))
    shutil.copytree(Path(probes.__file__).parent, made / "fakes" / "probes")
    return made


@contextmanager
def listening(family: int, address: Any) -> Iterator[Any]:
    """A service on this machine; gives its port or name."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()
        name = server.getsockname()
        yield name[1] if family == socket.AF_INET else name


@contextmanager
def neighbour(engine: Any) -> Iterator[str]:
    """Another's container on Docker's own network; gives its address."""
    container = engine.containers.run(IMAGE, ["python", "-m", "http.server", "7000"], detach=True)
    try:
        container.reload()
        yield container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def sandboxed(engine: Any, folder: Path) -> Found:
    """What became of the probes as a job."""
    return asyncio.run(_as_a_job(folder))


async def _as_a_job(folder: Path) -> Found:
    runner = DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid=None, command=PROGRAM)
    await runner.open()
    try:
        run = await runner.start(folder, "run")
        try:
            events = [event async for event in run.events()]
            ended = await run.wait()
        finally:
            await run.close()
    finally:
        await runner.close()
    assert [type(event) for event in events] == [Finished], ended
    return events[0].scorecard


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_job_cannot(name: str, sandboxed: Found) -> None:
    assert sandboxed[name]["how"] == "stopped", sandboxed[name]["words"]


def test_the_probes_succeed_where_nothing_stops_them(engine: Any, folder: Path) -> None:
    """Docker's defaults stop less than half; with more rights, nearly everything is open that this machine has."""
    everyday = succeeding(engine, folder)
    trusted = succeeding(
        engine, folder, cap_add=RIGHTS, security_opt=["seccomp=unconfined"], network_mode="host", pid_mode="host",
        shm_size="256m",
    )  # fmt: skip

    assert everyday >= OPEN_BY_DEFAULT
    assert len(everyday | trusted) >= 80


def succeeding(engine: Any, folder: Path, **options: Any) -> set[str]:
    said = engine.containers.run(
        IMAGE, [*PROGRAM, "run"], volumes={str(folder): {"bind": "/work"}}, working_dir="/work", remove=True, **options
    )
    found: Found = json.loads(said.splitlines()[-1])["scorecard"]
    assert [name for name, outcome in found.items() if outcome["how"] == "broken"] == []
    return {name for name, outcome in found.items() if outcome["how"] == "succeeded"}


@pytest.fixture(scope="module")
def unruly_image(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    context = tmp_path_factory.mktemp("image")
    for program in (trainer, unruly):
        shutil.copy(program.__file__, context)
    copied = "COPY trainer.py unruly.py /usr/lib/probes/fakes/"
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\n{copied}\nENV PYTHONPATH=/usr/lib/probes\n")
    return str(engine.images.build(path=str(context), rm=True)[0].id)


@pytest.mark.parametrize(
    ("manners", "words"),
    [
        ("flood_the_log", "ended with code 9"),
        ("say_one_endless_line", "cannot be understood"),
        ("say_the_same_again_and_again", "ended with code 9"),
        ("hoard_memory", "needed more memory"),
        ("leave_processes_behind", "ended with code 4"),
        ("hand_in_a_file_with_holes", "hands in more than an attempt may write"),
        ("be_deaf", "Enough."),
    ],
)
async def test_bad_manners_harm_neither_the_node_nor_its_other_job(
    manners: str, words: str, unruly_image: str, engine: Any, coordinator: ScriptedCoordinator, config: NodeConfig,
    running: Callable[..., Any],
) -> None:  # fmt: skip
    docked = config.model_copy(update={"backend": "docker", "image": unruly_image, "slots": 2, "limits": LIMITS})
    runner = DockerRunner(
        node_id=NODE, image=unruly_image, limits=LIMITS, gpu_uuid=None, command=("python", "-m", "fakes.unruly")
    )
    node = psutil.Process()

    async with running(docked, runner=runner):
        coordinator.say(lease=lease(task(settings={"hold_at": 6}), image=unruly_image))
        await coordinator.expect("segment")
        before = node.memory_info().rss
        coordinator.say(lease=lease(task("attempt_2", settings={"manners": manners}), image=unruly_image))
        await coordinator.until(lambda: "RUNNING" in coordinator.states("attempt_2"))
        if manners == "be_deaf":
            coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_2", reason="Enough.", grace_s=1))
        ended = await coordinator.expect_state("YIELDED" if manners == "be_deaf" else "FAILED", "attempt_2")
        grown = node.memory_info().rss - before
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="Thank you.", grace_s=5))
        await coordinator.expect_state("YIELDED")

    assert words in ended.reason
    assert grown < 32 * 1024**2
    assert len(coordinator.bodies("segment")) == 2, "the other job could not save its state"
    assert sum(path.stat().st_size for path in config.state_dir.rglob("*")) < 32 * 1024**2
    assert engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={NODE}"}) == []


async def test_little_is_kept_of_a_flood_of_output(engine: Any, tmp_path: Path) -> None:
    flood = f"import os\nfor _ in range(64): os.write(2, b'{'x' * 1023}\\n' * 1024)"
    runner = DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid=None, command=("python", "-c", flood))
    await runner.open()
    run = await runner.start(job_folder(tmp_path / "job", {}), "run")
    try:
        assert (await run.wait()).code == 0
        [container] = engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={NODE}"})
        logs = Path(container.attrs["LogPath"]).parent.glob("*.log*")
        assert sum(log.stat().st_size for log in logs) < 21 * 10**6
    finally:
        await run.close()
        await runner.close()
