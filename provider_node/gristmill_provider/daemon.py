"""One node run: measure the machine, offer it to a coordinator, work until the owner says stop."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import httpx
import structlog
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import GristmillError, NoSpace, Unavailable
from gristmill_protocol.incidents import Incident
from gristmill_protocol.progress import Failed, Probed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.artifacts import ArtifactCache, ArtifactClient
from gristmill_provider.attempt import Workshop
from gristmill_provider.authority import Authority
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.journal import JOURNAL, Journal, held
from gristmill_provider.link import Coordinator, Link, Replaced
from gristmill_provider.pace import Pace, PacedTransport
from gristmill_provider.room import require_room
from gristmill_provider.runner import Run, Runner
from gristmill_provider.station import Station
from gristmill_provider.task_dirs import clear_tasks, new_task_dir, remove_task_dir
from gristmill_provider.work import Work

logger = structlog.get_logger(__name__)

_HTTP_TIMEOUT_S = 30
_PROBE_TIMEOUT_S = 300
_TIDY_EVERY_S = 3600
_NOTE_EVERY_S = 60  # how much of what the device is at a sudden end may lose
_CLOCK_TOLERANCE_S = 30
_TAKEN_AT_ONCE = ("ask_usd_per_gpu_hour", "electricity_usd_per_kwh", "owner")
_FAREWELL_S = 5  # to hand over what was journaled last; what remains is delivered at the next start


class Node:
    """One node of a provider: one device, one coordinator.

    Args:
        station: the device; shared with nodes that sell it elsewhere.
        authority: vouches for the coordinator.
        transport: carries the artifact requests instead of the network.
    """

    def __init__(
        self,
        config: NodeConfig,
        station: Station,
        *,
        key: LocalAccount,
        authority: Authority,
        node_id: str,
        runner: Runner,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.node_id = node_id
        self._config = config
        self._station = station
        self._key = key
        self._authority = authority
        self._runner = runner
        self._transport = transport
        self._clock = clock
        self._stop = asyncio.Event()
        self._probing: asyncio.Task[Probed] | None = None
        self._journal: Journal | None = None
        self._full: NoSpace | None = None  # set: why it ends
        self._link: Link | None = None
        self._work: Work | None = None
        self._noted = ("", "", 0.0)  # cause, reason and time of what the device was noted to be at
        station.join(self)

    async def run(self) -> None:
        """Offer the device and work until stop() is called.

        Raises:
            NodeEnded: with the exit code that says why.
        """
        state_dir = self._config.state_dir
        with ends_as(ExitCode.IN_USE):
            lock = held(state_dir)
        with lock:
            try:
                with ends_as(ExitCode.SANDBOX):
                    await self._runner.open()
                await clear_tasks(self._runner, self._tasks_dir)
                require_room(state_dir)
                with ends_as(ExitCode.DISK, NoSpace), Journal(state_dir / JOURNAL) as journal:
                    await self._run_with(journal)
            finally:
                await self._runner.close()

    async def measure(self) -> Probed:
        """What this machine can do, without offering it.

        Raises:
            NodeEnded: as run().
        """
        try:
            with ends_as(ExitCode.SANDBOX):
                await self._runner.open()
            with ends_as(ExitCode.PROBE):
                return await self._probe()
        finally:
            await self._runner.close()

    def stop(self) -> None:
        """Let everything save and yield, then end."""
        self._stop.set()
        if self._probing is not None:
            self._probing.cancel()

    @property
    def sells(self) -> tuple[str, str]:
        """Which card, to which coordinator, as the configuration names them."""
        return self._config.gpu, self._config.coordinator

    def adopt(self, fresh: NodeConfig) -> None:
        """Go by the prices and the owner's rules of a configuration from now on."""
        self._config = self._config.model_copy(update={name: getattr(fresh, name) for name in _TAKEN_AT_ONCE})
        self._station.adopt(self._config)
        self._send_offer()

    @property
    def taken(self) -> int:
        return 0 if self._work is None else self._work.taken

    def judged(self) -> None:
        if self._work is not None:
            self._work.judged()
        self._send_offer()

    def happened(self, incident: Incident) -> None:
        if self._journal is not None:
            with self._noting():
                self._journal.history.record(incident, [work_id for work_id, _ in self._journal.interrupted()])

    def account(self) -> None:
        (cause, reason), now_s = self._at(), self._clock()
        same = (cause, reason) == self._noted[:2] and 0 <= now_s - self._noted[2] < _NOTE_EVERY_S
        if self._journal is not None and not same:
            self._noted = (cause, reason, now_s)
            with self._noting():
                self._journal.history.note(cause, reason, now_s)

    def _at(self) -> tuple[str, str]:
        """What the device is at: in one word, and for a person why it earns nothing."""
        verdict = self._station.verdict
        if self.taken:
            return "working", ""
        if verdict.cause is not None:
            return verdict.cause, verdict.reason
        if self._station.full_for(self):
            return "elsewhere", "The card works for another coordinator."
        if self._link is None or self._work is None or not self._link.connected:
            return "not_connected", "The coordinator does not answer."
        if self._work.card_trouble:
            return "standing", self._work.card_trouble
        return "no_work", "No work that fits this card at this price has come."

    async def _run_with(self, journal: Journal) -> None:
        """Raises:
        NodeEnded: as run().
        NoSpace: the journal could not be written any more.
        """
        self._journal = journal
        try:
            with ends_as(ExitCode.PROBE), ends_as(ExitCode.DISK, NoSpace):
                probed = await self._measure(journal)
            if probed is not None:
                async with self._http() as http:
                    with ends_as(ExitCode.REFUSED), ends_as(ExitCode.IN_USE, Replaced), ends_as(ExitCode.DISK, NoSpace):
                        await self._serve(journal, http, probed)
        finally:
            self._noted = ("", "", 0.0)
            self.account()
            self._journal = self._work = self._link = None
        if self._full is not None:
            raise self._full

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """To write down something that no work waits for: a disk that takes no more ends the node all the same."""
        try:
            yield
        except NoSpace as full:
            self._full = full
            self.stop()

    async def _serve(self, journal: Journal, http: httpx.AsyncClient, probed: Probed) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                work, link = self._assemble(journal, http, probed, tasks)
                work.recover()
                background = [tasks.create_task(link.run()), tasks.create_task(_tidy(work))]
                work.judged()
                await self._stop.wait()
                logger.info("node_leaving")
                await work.leave("The owner needs the machine." if self._full is None else self._full.what)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FAREWELL_S):
                        await link.drained()
                for task in background:
                    task.cancel()
        except ExceptionGroup as group:
            known: BaseException | None = group.subgroup(GristmillError)
            while isinstance(known, ExceptionGroup):  # a part's own group may be in it
                known = known.exceptions[0]
            if known is None:
                raise
            raise known from group

    def _assemble(
        self, journal: Journal, http: httpx.AsyncClient, probed: Probed, tasks: asyncio.TaskGroup
    ) -> tuple[Work, Link]:
        state_dir = self._config.state_dir
        limits = self._config.limits
        cache = ArtifactCache(
            state_dir / "artifacts", adopt_bytes=limits.work_bytes, keep_free_bytes=limits.keep_free_bytes
        )
        artifacts = ArtifactClient(cache, http, token=lambda: link.token)
        link = Link(
            Coordinator(self._config.coordinator, self._authority.certificates),
            hello=self._hello(),
            key=self._key,
            journal=journal,
            upload=artifacts.upload,
            offer=lambda: self._offer(probed),
            heartbeat=lambda: work.heartbeat(),
            on_message=lambda message: work.take(message),
            on_time=self._compare_clocks,
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
        work = Work(workshop, self._station, config=lambda: self._config, flops_per_s=probed.flops_per_s, tasks=tasks)
        self._work, self._link = work, link
        return work, link

    def _send_offer(self) -> None:
        if self._link is not None:
            self._link.send_offer()

    def _compare_clocks(self, theirs_s: float) -> None:
        ahead_s = self._clock() - theirs_s
        if theirs_s and abs(ahead_s) > _CLOCK_TOLERANCE_S:
            which = "ahead of" if ahead_s > 0 else "behind"
            text = (
                f"This machine's clock is {abs(ahead_s):.0f} s {which} the coordinator's: deadlines are judged wrongly."
                " Have it set over the network (timedatectl set-ntp true)."
            )
            logger.error("clock_differs", reason=text)
            self.happened(Incident(kind="clock", at_s=int(self._clock()), text=text))

    @property
    def _tasks_dir(self) -> Path:
        return self._config.state_dir / "tasks"

    def _http(self) -> httpx.AsyncClient:
        limits = self._config.limits
        paced = PacedTransport(
            self._transport or httpx.AsyncHTTPTransport(verify=self._authority.verify),
            download=Pace(limits.download_mbit),
            upload=Pace(limits.upload_mbit),
        )
        return httpx.AsyncClient(base_url=self._config.coordinator_url, timeout=_HTTP_TIMEOUT_S, transport=paced)

    async def _measure(self, journal: Journal) -> Probed | None:
        """What the training program measures of this machine; None: stopped meanwhile."""
        self._probing = asyncio.create_task(self._measured(journal))
        try:
            return await self._probing
        except asyncio.CancelledError:
            if not (self._stop.is_set() and self._probing.cancelled()):
                raise
            return None
        finally:
            self._probing = None

    async def _measured(self, journal: Journal) -> Probed:
        """As it is measured now; while no work may run, as it was when nothing about it was different.

        So a node that has to wait until the night is connected, and delivers what it owes.
        """
        device, image = self._station.device, self._config.image
        what = " ".join(map(str, (device.uuid, device.name, device.driver, image, version("gristmill"))))
        remembered = journal.history.mark(f"measured {what}")
        if remembered and not self._station.verdict.works:
            logger.info("machine_measured_before", waits_for=self._station.verdict.reason)
            return Probed.model_validate_json(remembered)
        if not self._station.verdict.works:
            logger.info("machine_not_measured_yet", waits_for=self._station.verdict.reason)
        probed = await self._station.measured(self._probe)
        journal.history.set_mark(f"measured {what}", probed.model_dump_json())
        return probed

    async def _probe(self) -> Probed:
        folder = await new_task_dir(self._runner, self._tasks_dir, "probe")
        logger.info("machine_measured_now", device=self._station.device.name)
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
            await remove_task_dir(self._runner, folder)
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
            device=self._station.device.name,
            is_cpu=self._station.device.is_cpu,
            memory_bytes=self._station.device.memory_bytes,
            driver=self._station.device.driver,
            numeric_class=bytes.fromhex(probed.numeric_class),
            flops_per_s=probed.flops_per_s,
            ask_usd_micros_per_gpu_hour=self._config.ask_usd_micros_per_gpu_hour,
            slots=self._config.slots,
            sandbox=self._config.backend,
            own_renters=self._config.own_renters,
            paused=self._stop.is_set() or not self._station.verdict.works or self._station.full_for(self),
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
