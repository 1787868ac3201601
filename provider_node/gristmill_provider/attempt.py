"""One attempt, from its lease to its end: fetch, run, sign what comes out, hand it over."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import structlog
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import BadRequest, GristmillError, Unavailable
from gristmill_protocol.incidents import MAX_INCIDENTS, Incident, sign_incidents
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import Failed, Finished, Progress, SegmentDone, Started, Stopped, TrainerEvent
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.artifacts import ArtifactCache, ArtifactClient
from gristmill_provider.config import Network
from gristmill_provider.egress import way_out
from gristmill_provider.journal import Journal
from gristmill_provider.link import Link
from gristmill_provider.meter import Meter
from gristmill_provider.reruns import Reruns
from gristmill_provider.runner import Ended, Kind, Run, Runner
from gristmill_provider.task_dirs import new_task_dir, remove_task_dir

# Larger states travel only now and then, or when they are asked for.
LARGE_STATE_BYTES = 64 * 1024**2
LARGE_STATE_EVERY = 10

# A coordinator that is there, and gives a file to nobody or only not to this machine: another may have more luck.
WITHOUT_FILES_S = 900

_PROGRESS_EVERY_S = 0.25

State = pb.AttemptUpdate.State

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Workshop:
    """What attempts and audits work with.

    Args:
        numeric_class: the machine's, hex, as measured when the node started.
        clock: unix seconds.
        network: what the owner lets jobs have of it.
    """

    runner: Runner
    journal: Journal
    link: Link
    cache: ArtifactCache
    artifacts: ArtifactClient
    key: LocalAccount
    tasks_dir: Path
    numeric_class: str
    clock: Callable[[], float]
    network: Network
    reruns: Reruns = field(default_factory=Reruns)

    @asynccontextmanager
    async def started(self, folder: Path, kind: Kind, task: TrainTask) -> AsyncIterator[Run]:
        """A run of the task that is laid out in a folder, with the way out that it was promised."""
        async with way_out(folder, task.network, most_bytes=self.network.job_bytes):
            run = await self.runner.start(folder, kind)
            try:
                yield run
            finally:
                await run.close()

    async def lay_out(self, name: str, task: TrainTask, *, until_s: float) -> Path:
        """A task folder as the trainer expects it, with its inputs fetched and checked.

        Args:
            until_s: unix seconds; as long a coordinator that cannot be reached is waited for.
        """
        folder = await new_task_dir(self.runner, self.tasks_dir, name)
        (folder / "task.json").write_text(task.model_dump_json())
        inputs = {folder / "input" / "data": task.data}
        if task.state is not None:
            inputs[folder / "input" / "state.safetensors"] = task.state
        for file, ref in task.model.items():
            inputs[_inside(folder / "input" / "model", file)] = ref
        try:
            async with asyncio.TaskGroup() as fetching:
                for target, ref in inputs.items():
                    fetching.create_task(self._place(ref, target, until_s))
        except* GristmillError as failed:
            raise failed.exceptions[0] from None
        return folder

    def with_incidents(self, update: pb.AttemptUpdate) -> pb.AttemptUpdate:
        """The update of an attempt that is over, with what happened to the machine meanwhile, signed."""
        recorded = self.journal.history.incidents(work_id=update.attempt_id)[-MAX_INCIDENTS:]
        if recorded:
            update.incidents_json, update.incidents_signature = sign_incidents(self.key, update.attempt_id, recorded)
        return update

    async def _place(self, ref: ArtifactRef, target: Path, until_s: float) -> None:
        patience = Patience(lambda: self.link.connected, self.clock, until_s=until_s)
        await self.artifacts.fetch_in_time(ref, patience.left)
        await self.cache.place(ref.sha256, target)


class Patience:
    """How long a file is waited for: an outage until the end, but not for ever where only the files cannot be had.

    Args:
        connected: whether the coordinator is there.
        until_s: the end, unix seconds.
    """

    def __init__(self, connected: Callable[[], bool], clock: Callable[[], float], *, until_s: float) -> None:
        self._connected = connected
        self._clock = clock
        self._until_s = until_s
        self._there_since_s = math.inf

    def left(self) -> bool:
        """Whether to wait on; asked after each try that failed."""
        now_s = self._clock()
        self._there_since_s = min(self._there_since_s, now_s) if self._connected() else math.inf
        return now_s < self._until_s and now_s - self._there_since_s < WITHOUT_FILES_S


def _inside(folder: Path, name: str) -> Path:
    """Raises:
    BadRequest: the name leads elsewhere.
    """
    if PurePosixPath(name).name != name:
        raise BadRequest(f"The model has a file named {name!r}.")
    folder.mkdir(exist_ok=True)
    return folder / name


class Attempt:
    """One attempt of this node, accepted and not over yet.

    Args:
        deadline_s: unix seconds; the order's.
    """

    def __init__(self, workshop: Workshop, task: TrainTask, *, deadline_s: float) -> None:
        self.attempt_id = task.attempt_id
        self._task = task
        self._deadline_s = deadline_s
        self._shop = workshop
        self._meter = Meter(
            workshop.key,
            workshop.link.market.registry,
            job_id=task.job_id,
            attempt_id=task.attempt_id,
            numeric_class=workshop.numeric_class,
            step_from=task.step_from,
        )
        self._next = (task.segment_index, task.step_from)  # the segment that has to come next, and where it begins
        self._stop_reason: str | None = None  # set: it has to leave
        self._grace_s = 0.0
        self._preparing: asyncio.Task[Path] | None = None
        self._run: Run | None = None
        self._last: TrainerEvent | None = None  # finished, stopped or failed: what it said of its end
        self._results: tuple[str, ...] = ()
        self._progress_at = 0.0

    async def run(self) -> None:
        """See the attempt through to its last update.

        Raises:
            NoSpace: not even that could be journaled, so the node has to end.
        """
        structlog.contextvars.bind_contextvars(job_id=self._task.job_id, attempt_id=self.attempt_id)
        uploads: tuple[str, ...] = ()
        try:
            update = await self._work()
            if update.state == State.FINISHED:
                uploads = self._results
        except GristmillError as err:
            update = self._update(State.FAILED, str(err), code=err.code)
        except Exception:
            logger.exception("attempt_broke")
            update = self._update(State.FAILED, "The node has a fault; its log has the details.", code="internal")
        self._shop.with_incidents(update)
        logger.info("attempt_ended", state=State.Name(update.state), reason=update.reason)
        message = pb.NodeMessage(attempt=update)
        self._shop.link.deliver(message, uploads, ends=self.attempt_id, now_s=self._shop.clock())

    async def stop(self, reason: str, grace_s: float) -> None:
        """Make it save and leave within grace_s; what it has proven until then counts."""
        if self._stop_reason is not None:
            return
        self._stop_reason, self._grace_s = reason, grace_s
        if self._run is not None:
            await self._run.stop(grace_s)
        elif self._preparing is not None:
            self._preparing.cancel()

    async def _work(self) -> pb.AttemptUpdate:
        self._report(State.PREPARING)
        laying_out = self._shop.lay_out(self.attempt_id, self._task, until_s=self._deadline_s)
        self._preparing = asyncio.create_task(laying_out)
        try:
            folder = await self._preparing
            async with self._shop.started(folder, "run", self._task) as run:
                return await self._follow(run, folder)
        except asyncio.CancelledError:
            if self._stop_reason is None or not self._preparing.cancelled():
                raise
            return self._update(State.YIELDED, self._stop_reason)
        finally:
            await remove_task_dir(self._shop.runner, self._shop.tasks_dir / self.attempt_id)

    async def _follow(self, run: Run, folder: Path) -> pb.AttemptUpdate:
        self._run = run
        if self._stop_reason is not None:  # asked to leave while it was being started
            await run.stop(self._grace_s)
        async for event in run.events():
            await self._take(event, folder)
        return self._conclude(await run.wait())

    async def _take(self, event: TrainerEvent, folder: Path) -> None:
        match event:
            case Started():
                if event.numeric_class != self._shop.numeric_class:
                    raise Unavailable("This machine computes otherwise than when the node started.")
                self._report(State.RUNNING)
            case Progress():
                self._pass_on(event)
            case SegmentDone():
                await self._record(event, folder)
            case Finished():
                self._last, self._results = event, await self._take_results(event, folder)
            case Stopped() | Failed():
                self._last = event
            case _:
                raise Unavailable(f"The training program said {event.event!r} in the middle of a run.")

    async def _record(self, segment: SegmentDone, folder: Path) -> None:
        """Sign a segment and journal it; its state goes first."""
        self._require_next(segment)
        sha256 = segment.state_sha256
        await self._adopt(folder, segment.state_file, sha256)
        signed = self._meter.record(segment)
        self._note_made({f"segment {segment.index}": signed.record.leaf().hex()})
        size = self._shop.cache.size(sha256)
        seldom = size > LARGE_STATE_BYTES and (segment.index + 1) % LARGE_STATE_EVERY
        upload = not seldom or self._stop_reason is not None
        report = pb.SegmentReport(
            attempt_id=self.attempt_id,
            signed_record_json=signed.model_dump_json(),
            state=pb.Artifact(sha256=sha256, size_bytes=size),
            uploaded=upload,
        )
        self._shop.link.deliver(pb.NodeMessage(segment=report), (sha256,) if upload else ())
        self._shop.link.deliver(pb.NodeMessage(receipt=self._meter.receipt(segment)))
        logger.info("segment_recorded", index=segment.index, step_to=segment.step_to)

    def _require_next(self, segment: SegmentDone) -> None:
        if (segment.index, segment.step_from) != self._next or not (
            segment.step_from < segment.step_to <= self._task.steps
        ):
            raise Unavailable(f"The training program reported segment {segment.index} where another was due.")
        self._next = (segment.index + 1, segment.step_to)

    async def _take_results(self, finished: Finished, folder: Path) -> tuple[str, ...]:
        for name, sha256 in finished.files.items():
            await self._adopt(folder, str(PurePosixPath("out/result", name)), sha256)
        self._note_made({f"file {name}": sha256 for name, sha256 in finished.files.items()})
        return tuple(finished.files.values())

    def _note_made(self, digests: dict[str, str]) -> None:
        self._shop.journal.note_made(self.attempt_id, digests, self._shop.clock())

    async def _adopt(self, folder: Path, name: str, sha256: str) -> None:
        """Take a file over; it is kept before it is there, or it could be pruned before anything speaks of it."""
        self._shop.journal.keep(self.attempt_id, sha256)
        out = folder / "out"
        await asyncio.to_thread(self._shop.cache.adopt, folder / name, below=out, sha256=sha256)

    def _pass_on(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_EVERY_S:
            return
        self._progress_at = now
        said = pb.Progress(attempt_id=self.attempt_id, step=progress.step, metrics_json=json.dumps(progress.metrics))
        self._shop.link.send(pb.NodeMessage(progress=said))

    def _conclude(self, ended: Ended) -> pb.AttemptUpdate:
        """What the end of the training program means; reasons before their images."""
        if ended.out_of_memory:
            now_s = int(self._shop.clock())
            self._shop.journal.history.record(
                Incident(kind="out_of_memory", at_s=now_s, text=ended.cause), [self.attempt_id]
            )
        match self._last:
            case Finished() if ended.code == 0:
                update = self._update(State.FINISHED, "")
                update.finished_json = self._last.model_dump_json()
                return update
            case Failed():
                reason = " ".join(filter(None, (self._last.what, self._last.effect, self._last.todo)))
                return self._update(State.FAILED, reason, code=self._last.code, renters_fault=ended.code == 2)
        if isinstance(self._last, Stopped) or self._stop_reason is not None:
            return self._update(State.YIELDED, self._stop_reason or "The training program was asked to leave.")
        return self._update(State.FAILED, ended.cause, code=Unavailable.code)

    def _report(self, state: State.ValueType) -> None:
        self._shop.link.deliver(pb.NodeMessage(attempt=self._update(state, "")))

    def _update(
        self, state: State.ValueType, reason: str, *, code: str = "", renters_fault: bool = False
    ) -> pb.AttemptUpdate:
        return pb.AttemptUpdate(
            attempt_id=self.attempt_id, state=state, reason=reason, code=code, renters_fault=renters_fault
        )
