"""The disk of state_dir is full, really: the node says so and ends in order, and nothing of its own keeps it down."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from fakes.node_process import served, start_node, written
from fakes.provider_side import FakeArtifacts, ScriptedCoordinator, audit, lease, task
from fakes.small_disk import SmallDisk, small_disk
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode

pytestmark = pytest.mark.slow

MB = 10**6
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def disk(config: NodeConfig, require: Callable[[bool, str], None]) -> Iterator[SmallDisk]:
    """What state_dir is on; a node needs 200 MB of it to start."""
    require(os.geteuid() == 0, "only root can mount a small disk")
    with small_disk(config.state_dir, 250 * MB) as mounted:
        yield mounted


@pytest.fixture
async def start(config: NodeConfig, artifacts: FakeArtifacts) -> AsyncIterator[Start]:
    """Start a node in a process of its own, which is dead after the test."""
    started: list[asyncio.subprocess.Process] = []

    async def made() -> asyncio.subprocess.Process:
        started.append(await start_node(file, stderr=subprocess.PIPE))
        return started[-1]

    with served(artifacts) as url:
        file = written(config, coordinator_url=url, slots=2, **{"limits.keep_free_gib": 0})
        yield made
    for node in started:
        with suppress(ProcessLookupError):
            node.kill()
        await node.communicate()


def an_attempt_saves_its_state(coordinator: ScriptedCoordinator) -> None:
    coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="Enough.", grace_s=5))


def an_audit_comes(coordinator: ScriptedCoordinator) -> None:
    coordinator.say(audit=audit())


def the_stream_ends(coordinator: ScriptedCoordinator) -> None:
    coordinator.hang_up()


@pytest.mark.parametrize("happens", [an_attempt_saves_its_state, an_audit_comes, the_stream_ends])
async def test_a_node_whose_disk_fills_up_ends_with_the_reason(
    happens: Callable[[ScriptedCoordinator], None],
    disk: SmallDisk,
    coordinator: ScriptedCoordinator,
    start: Start,
) -> None:
    node = await start()
    coordinator.say(lease=lease(task(settings={"hold_at": 6})))
    await coordinator.expect("receipt")
    disk.fill()
    happens(coordinator)
    _, said = await asyncio.wait_for(node.communicate(), 30)

    assert b"error: The disk takes no more of this node's journal" in said
    assert b"Exit code 16 (DISK)" in said
    assert b"Traceback" not in said
    assert node.returncode == ExitCode.DISK

    disk.make_room()
    await start()
    failed = await coordinator.expect_state("FAILED")
    assert "restarted" in failed.reason


async def test_what_an_earlier_life_left_does_not_keep_a_node_from_starting(
    disk: SmallDisk, coordinator: ScriptedCoordinator, start: Start
) -> None:
    killed = await start()
    coordinator.say(lease=lease(task(settings={"hold_at": 6})))
    await coordinator.expect("receipt")
    killed.kill()
    await killed.wait()
    left = disk.root / "tasks" / "attempt_1"
    (left / "out" / "large").write_bytes(bytes(100 * MB))

    node = await start()
    await coordinator.expect_state("FAILED")
    node.terminate()

    assert await node.wait() == ExitCode.STOPPED
    assert not left.exists()


async def test_a_node_does_not_start_on_a_full_disk(disk: SmallDisk, start: Start) -> None:
    disk.fill()

    node = await start()
    _, said = await node.communicate()

    assert b"has 0 MB left" in said
    assert node.returncode == ExitCode.DISK
