"""A node put together and run: measure the machine, offer it, work until its owner says stop."""

import asyncio
import shutil
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import httpx
import structlog
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_protocol.ids import new_id, node_prefix
from gristmill_protocol.progress import Failed, Probed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.artifacts import ArtifactCache, ArtifactClient, Throttle
from gristmill_provider.attempt import Workshop, clear_tasks, new_task_dir
from gristmill_provider.config import NodeConfig
from gristmill_provider.devices import Device, find_cpu, find_gpu
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.journal import JOURNAL, Journal
from gristmill_provider.keys import open_key
from gristmill_provider.link import Coordinator, Link
from gristmill_provider.runner import ProcessRunner, Run, Runner
from gristmill_provider.work import Work

logger = structlog.get_logger(__name__)

_HTTP_TIMEOUT_S = 30
_PROBE_TIMEOUT_S = 300
_TIDY_EVERY_S = 3600
_FAREWELL_S = 5  # to hand over what was journaled last; what remains is delivered at the next start


def build(
    config: NodeConfig,
    *,
    runner: Runner | None = None,
    reload: Callable[[], NodeConfig] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> "Node":
    """A node that has its key and its device, and has not begun.

    Args:
        runner: instead of the configured backend's.
        reload: reads the configuration again.
        transport: carries the artifact requests instead of the network.
    Raises:
        NodeEnded: the key or the device is missing.
    """
    with ends_as(ExitCode.KEY):
        key = open_key(config.keystore, config.password_file)
    with ends_as(ExitCode.DEVICE):
        device = find_cpu(config.limits.memory_bytes) if config.cpu else find_gpu(config.gpu)
    node_id = _node_id(config.state_dir, key.address)
    chosen = runner or _runner(config, node_id, device.uuid)
    return Node(
        config,
        key=key,
        node_id=node_id,
        device=device,
        runner=chosen,
        reload=reload or (lambda: config),
        transport=transport,
    )


class Node:
    """One node of a provider: one device, one coordinator."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        key: LocalAccount,
        node_id: str,
        device: Device,
        runner: Runner,
        reload: Callable[[], NodeConfig],
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.node_id = node_id
        self._config = config
        self._key = key
        self._device = device
        self._runner = runner
        self._reload = reload
        self._transport = transport
        self._clock = clock
        self._stop = asyncio.Event()
        self._probing: asyncio.Task[Probed] | None = None
        self._link: Link | None = None

    async def run(self) -> None:
        """Offer the device and work until stop() is called.

        Raises:
            NodeEnded: with the exit code that says why.
        """
        with ends_as(ExitCode.IN_USE):
            journal = Journal(self._config.state_dir / JOURNAL)
        try:
            with ends_as(ExitCode.SANDBOX):
                await self._runner.open()
            await asyncio.to_thread(clear_tasks, self._tasks_dir)
            with ends_as(ExitCode.PROBE):
                probed = await self._measure()
            if probed is not None:
                async with self._http() as http:
                    with ends_as(ExitCode.REFUSED):
                        await self._serve(journal, http, probed)
        finally:
            await self._runner.close()
            journal.close()

    def stop(self) -> None:
        """Let everything save and yield, then end."""
        self._stop.set()
        if self._probing is not None:
            self._probing.cancel()

    def reload(self) -> None:
        """Take the price and the pause from the configuration as it is now; the rest needs a restart."""
        try:
            fresh = self._reload()
        except GristmillError as err:
            logger.error("configuration_refused", reason=str(err))
            return
        taken = {"ask_usd_per_gpu_hour": fresh.ask_usd_per_gpu_hour, "paused": fresh.paused}
        self._config = self._config.model_copy(update=taken)
        logger.info("configuration_reloaded", **taken)
        if self._link is not None:
            self._link.send_offer()

    async def _serve(self, journal: Journal, http: httpx.AsyncClient, probed: Probed) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                work, link = self._assemble(journal, http, probed, tasks)
                work.recover()
                background = [tasks.create_task(link.run()), tasks.create_task(_tidy(work))]
                await self._stop.wait()
                logger.info("node_leaving")
                await work.leave("The owner needs the machine.", self._config.limits.stop_grace_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FAREWELL_S):
                        await link.drained()
                for task in background:
                    task.cancel()
        except ExceptionGroup as group:
            known = group.subgroup(GristmillError)
            if known is None:
                raise
            raise known.exceptions[0] from group

    def _assemble(
        self, journal: Journal, http: httpx.AsyncClient, probed: Probed, tasks: asyncio.TaskGroup
    ) -> tuple[Work, Link]:
        state_dir = self._config.state_dir
        limits = self._config.limits
        cache = ArtifactCache(
            state_dir / "artifacts", adopt_bytes=limits.work_bytes, keep_free_bytes=limits.keep_free_bytes
        )
        artifacts = ArtifactClient(
            cache, http, token=lambda: link.token, throttle=Throttle(limits.bandwidth_bytes_per_s)
        )
        link = Link(
            Coordinator(self._config.coordinator, self._config.ca_file),
            hello=self._hello(),
            key=self._key,
            journal=journal,
            upload=artifacts.upload,
            offer=lambda: self._offer(probed),
            heartbeat=lambda: work.heartbeat(),
            on_message=lambda message: work.take(message),
        )
        workshop = Workshop(
            runner=self._runner,
            journal=journal,
            link=link,
            cache=cache,
            artifacts=artifacts,
            key=self._key,
            tasks_dir=self._tasks_dir,
            numeric_class=probed.numeric_class,
            clock=self._clock,
            network=self._config.network,
        )
        work = Work(workshop, config=lambda: self._config, flops_per_s=probed.flops_per_s, tasks=tasks)
        self._link = link
        return work, link

    @property
    def _tasks_dir(self) -> Path:
        return self._config.state_dir / "tasks"

    def _http(self) -> httpx.AsyncClient:
        ca_file = self._config.ca_file
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        return httpx.AsyncClient(
            base_url=self._config.coordinator_url, timeout=_HTTP_TIMEOUT_S, verify=verify, transport=self._transport
        )

    async def _measure(self) -> Probed | None:
        """What the training program measures of this machine; None: stopped meanwhile."""
        self._probing = asyncio.create_task(self._probe())
        try:
            return await self._probing
        except asyncio.CancelledError:
            if not (self._stop.is_set() and self._probing.cancelled()):
                raise
            return None
        finally:
            self._probing = None

    async def _probe(self) -> Probed:
        folder = new_task_dir(self._tasks_dir, "probe")
        logger.info("machine_measured_now", device=self._device.name)
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                run = await self._runner.start(folder, "probe")
                try:
                    probed = await _probed(run)
                finally:
                    await run.close()
        except TimeoutError as err:
            raise Unavailable(f"The training program did not answer within {_PROBE_TIMEOUT_S} s.") from err
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        logger.info("machine_measured", numeric_class=probed.numeric_class, flops_per_s=probed.flops_per_s)
        return probed

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            node_id=self.node_id,
            key=self._key.address,
            provider=self._config.provider_id,
            version=version("gristmill"),
            name=self._config.name,
        )

    def _offer(self, probed: Probed) -> pb.Offer:
        return pb.Offer(
            device=self._device.name,
            is_cpu=self._device.is_cpu,
            memory_bytes=self._device.memory_bytes,
            driver=self._device.driver,
            numeric_class=bytes.fromhex(probed.numeric_class),
            flops_per_s=probed.flops_per_s,
            ask_usd_micros_per_gpu_hour=self._config.ask_usd_micros_per_gpu_hour,
            slots=self._config.slots,
            sandbox=self._config.backend,
            own_renters=self._config.own_renters,
            paused=self._config.paused or self._stop.is_set(),
            recipes=self._config.recipes,
            network=self._config.network.allow,
        )


async def _probed(run: Run) -> Probed:
    found: Probed | None = None
    async for event in run.events():
        match event:
            case Probed():
                found = event
            case Failed():
                raise Unavailable(event.what, effect=event.effect, todo=event.todo)
    if found is None or found.flops_per_s <= 0:
        raise Unavailable((await run.wait()).cause)
    return found


async def _tidy(work: Work) -> None:
    while True:
        await asyncio.sleep(_TIDY_EVERY_S)
        work.tidy()


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
    state_dir.mkdir(parents=True, exist_ok=True)
    fresh = node_prefix(key) + new_id("n")[2:10]
    file.write_text(fresh)
    return fresh
