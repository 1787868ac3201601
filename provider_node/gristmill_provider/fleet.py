"""A node's process put together: a station for each card that is offered, a node for each coordinator it goes to."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import structlog

from gristmill_protocol.errors import GristmillError
from gristmill_protocol.ids import new_id, node_prefix
from gristmill_provider.authority import read_authority
from gristmill_provider.config import NodeConfig
from gristmill_provider.daemon import Node
from gristmill_provider.devices import Card, Device, find_cpu, find_gpu
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.exit_codes import ExitCode, NodeEnded, ends_as
from gristmill_provider.keys import open_key
from gristmill_provider.lookout import Lookout
from gristmill_provider.room import require_room
from gristmill_provider.runner import ProcessRunner, Runner
from gristmill_provider.station import LOOK_EVERY_S, Station

logger = structlog.get_logger(__name__)


def build(
    config: NodeConfig,
    *,
    runner: Runner | None = None,
    reload: Callable[[], NodeConfig] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    look_every_s: float = LOOK_EVERY_S,
) -> "Fleet":
    """Nodes that have their key and their devices, and have not begun.

    Args:
        runner: instead of the configured backend's.
        reload: reads the configuration again.
        transport: carries the artifact requests instead of the network.
    Raises:
        NodeEnded: the key, a device or an authority is missing, or there is no room for a new node.
    """
    with ends_as(ExitCode.KEY):
        key = open_key(config.keystore, config.password_file)
    fleet = Fleet(config.state_dir, reload=reload or (lambda: config))
    for one in config.nodes():
        with ends_as(ExitCode.USAGE):
            authority = read_authority(one.ca_file)
        with ends_as(ExitCode.DEVICE):
            device = find_cpu(one.limits.memory_bytes) if one.cpu else find_gpu(one.gpu)
        node_id = _node_id(one.state_dir, key.address)
        chosen = runner or _runner(one, node_id, device.uuid)
        station = fleet.station(device, one, look_every_s)
        node = Node(one, station, key=key, authority=authority, node_id=node_id, runner=chosen, transport=transport)
        fleet.add(node, chosen)
    return fleet


class Fleet:
    """All nodes of this process.

    Args:
        state_dir: where the owner's switch is.
        reload: reads the configuration again.
    """

    def __init__(self, state_dir: Path, *, reload: Callable[[], NodeConfig]) -> None:
        self._state_dir = state_dir
        self._reload = reload
        self._stations: dict[str | None, Station] = {}
        self._runners: list[Runner] = []
        self.nodes: list[Node] = []

    def station(self, device: Device, config: NodeConfig, look_every_s: float) -> Station:
        """The one station of a device."""
        if device.uuid not in self._stations:
            card = None if device.uuid is None else Card(device.uuid)
            lookout = Lookout(card, self._state_dir, ours=self._ours)
            self._stations[device.uuid] = Station(device, lookout, config=config, look_every_s=look_every_s)
        return self._stations[device.uuid]

    def add(self, node: Node, runner: Runner) -> None:
        self.nodes.append(node)
        self._runners.append(runner)

    async def run(self) -> None:
        """Offer every card until stop() is called, or no node can go on.

        Raises:
            NodeEnded: with the exit code that says why.
        """
        for station in self._stations.values():
            await station.look()
        watching = [asyncio.create_task(station.run()) for station in self._stations.values()]
        try:
            async with asyncio.TaskGroup() as running:
                ends = [running.create_task(self._run(node)) for node in self.nodes]
            for end in ends:
                if (ended := end.result()) is not None:
                    raise ended
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    def stop(self) -> None:
        """Let everything save and yield, then end."""
        for node in self.nodes:
            node.stop()

    def reload(self) -> None:
        """Take price and rules from the configuration as it is now; the rest needs a restart."""
        try:
            fresh = self._reload()
        except GristmillError as err:
            logger.error("configuration_refused", reason=str(err))
            return
        for one in fresh.nodes():
            for node in self.nodes:
                if (one.gpu, one.coordinator) == node.sells:
                    node.adopt(one)
        logger.info("configuration_reloaded", ask_usd_per_gpu_hour=fresh.ask_usd_per_gpu_hour)

    async def _run(self, node: Node) -> NodeEnded | None:
        """Run one; how it ended, if not in order: the others go on."""
        try:
            await node.run()
        except NodeEnded as ended:
            if len(self.nodes) > 1:
                logger.error("node_ended", node_id=node.node_id, code=ended.code.name, reason=str(ended.reason))
            return ended
        return None

    def _ours(self) -> frozenset[int]:
        """The processes that are ours, whatever they have started."""
        return frozenset({os.getpid()}.union(*(runner.pids for runner in self._runners)))


def _runner(config: NodeConfig, node_id: str, gpu_uuid: str | None) -> Runner:
    if config.backend == "process":
        return ProcessRunner(gpu_uuid=gpu_uuid)
    return DockerRunner(
        node_id=node_id,
        image=config.image,
        limits=config.limits,
        gpu_uuid=gpu_uuid,
        url=config.docker_url,
        runtime=config.runtime,
    )


def _node_id(state_dir: Path, key: str) -> str:
    """The id of the node in this folder, made at its first start; another key makes it another node."""
    file = state_dir / "node_id"
    if file.exists() and file.read_text().startswith(node_prefix(key)):
        return file.read_text()
    require_room(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    fresh = node_prefix(key) + new_id("n")[2:10]
    file.write_text(fresh)
    return fresh
