"""Audits: re-run a segment of somebody else's attempt and say what comes out. One after another, in one slot."""

import asyncio
import shutil

import structlog

from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Failed, Replayed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.attempt import Workshop
from gristmill_provider.runner import Run

logger = structlog.get_logger(__name__)


class Audits:
    """The audits of this node that are not answered yet."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._waiting: dict[str, TrainTask] = {}  # audit id -> task, in order of arrival
        self._running: asyncio.Task[Replayed] | None = None
        self._leaving = ""  # set: the reason why the node takes no more

    @property
    def audit_ids(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    def add(self, audit_id: str, task: TrainTask) -> bool:
        """Queue an audit; True if nobody works on the queue, so that work() has to be called."""
        idle = not self._waiting
        self._shop.journal.begin(audit_id, "audit")
        self._waiting[audit_id] = task
        return idle

    async def work(self) -> None:
        """Answer the queue until it is empty; only cancellation gets out."""
        while self._waiting:
            audit_id, task = next(iter(self._waiting.items()))
            reply = await self._answer(audit_id, task)
            logger.info("audit_answered", audit_id=audit_id, accepted=reply.accepted, reason=reply.reason)
            self._shop.link.deliver(pb.NodeMessage(audit=reply), ends=audit_id, now_s=self._shop.clock())
            del self._waiting[audit_id]

    def leave(self, reason: str) -> None:
        """Answer everything that waits with the reason why it is not done, and break off what runs."""
        self._leaving = reason
        if self._running is not None:
            self._running.cancel()

    async def _answer(self, audit_id: str, task: TrainTask) -> pb.AuditReply:
        if self._leaving:
            return refused(audit_id, self._leaving)
        self._running = asyncio.create_task(replay(self._shop, audit_id, task))
        try:
            replayed = await self._running
            return pb.AuditReply(audit_id=audit_id, accepted=True, replayed_json=replayed.model_dump_json())
        except asyncio.CancelledError:
            if not (self._leaving and self._running.cancelled()):
                self._running.cancel()
                raise
            return refused(audit_id, self._leaving)
        except GristmillError as err:
            return refused(audit_id, str(err))
        except Exception:
            logger.exception("audit_broke", audit_id=audit_id)
            return refused(audit_id, "The node has a fault; its log has the details.")
        finally:
            self._running = None


async def replay(shop: Workshop, run_id: str, task: TrainTask) -> Replayed:
    """Run a segment once more in a task folder of its own; what came out.

    Raises:
        GristmillError: it could not be run, with the reason.
    """
    try:
        folder = await shop.lay_out(run_id, task)
        run = await shop.runner.start(folder, "replay")
        try:
            return await _outcome(run)
        finally:
            await run.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, shop.tasks_dir / run_id, ignore_errors=True)


async def _outcome(run: Run) -> Replayed:
    found: Replayed | None = None
    async for event in run.events():
        match event:
            case Replayed():
                found = event
            case Failed():
                raise GristmillError(event.what, effect=event.effect, todo=event.todo)
    ended = await run.wait()
    if found is None or ended.code != 0:
        raise Unavailable(ended.cause)
    return found


def refused(audit_id: str, reason: str) -> pb.AuditReply:
    return pb.AuditReply(audit_id=audit_id, accepted=False, reason=reason)
