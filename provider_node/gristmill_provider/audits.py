"""Audits: re-run a segment of somebody else's attempt, or measure a model, and say what comes out.

One after another, in one slot. The answer itself stays here until the coordinator asks for it; until then it only has a
digest that binds the node.
"""

import asyncio
import secrets
from pathlib import Path

import structlog

from gristmill_protocol.commitments import answer_digest
from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Evaluated, Failed, Replayed
from gristmill_protocol.signing import AUDIT_COMMITMENT_TYPE, sign
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.attempt import WITHOUT_FILES_S, Workshop
from gristmill_provider.journal import Answer, Said
from gristmill_provider.runner import Run
from gristmill_provider.task_dirs import remove_task_dir

logger = structlog.get_logger(__name__)


class Audits:
    """The audits of this node that are not answered yet."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._waiting: dict[str, TrainTask] = {}  # audit id -> task, in order of arrival

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
            message, uploads = await self._answer(audit_id, task)
            logger.info("audit_done", audit_id=audit_id, refused=message.audit.reason)
            self._shop.link.deliver(message, uploads, ends=audit_id, now_s=self._shop.clock())
            del self._waiting[audit_id]

    def commit_again(self, audit_id: str) -> bool:
        """Say once more what binds the node to an answer that it has; False if it has none."""
        answer = self._shop.journal.answer(audit_id)
        if answer is not None:
            self._shop.link.deliver(self._commitment(audit_id, answer))
        return answer is not None

    def reveal(self, audit_id: str) -> pb.AuditReply:
        """The answer to an audit that the node has committed to."""
        answer = self._shop.journal.answer(audit_id)
        if answer is None:
            return refused(audit_id, "This node has no answer to it any more.")
        said = answer.said.model_dump_json()
        return pb.AuditReply(audit_id=audit_id, accepted=True, replayed_json=said, salt=answer.salt)

    async def _answer(self, audit_id: str, task: TrainTask) -> tuple[pb.NodeMessage, tuple[str, ...]]:
        """The commitment to what came out and the states to upload before it, or why nothing came out."""
        try:
            answer = Answer(secrets.token_bytes(32), await rerun(self._shop, audit_id, task))
        except GristmillError as err:
            return pb.NodeMessage(audit=refused(audit_id, str(err))), ()
        except Exception:
            logger.exception("audit_broke", audit_id=audit_id)
            return pb.NodeMessage(audit=refused(audit_id, "The node has a fault; its log has the details.")), ()
        self._shop.journal.remember(audit_id, answer, self._shop.clock())
        return self._commitment(audit_id, answer), _kept_states(answer.said)

    def _commitment(self, audit_id: str, answer: Answer) -> pb.NodeMessage:
        digest = answer_digest(audit_id, answer.salt, answer.said)
        signed = {"audit": id_bytes32(audit_id), "digest": digest}
        signature = sign(self._shop.key, self._shop.link.market.registry, AUDIT_COMMITMENT_TYPE, signed)
        return pb.NodeMessage(commitment=pb.AuditCommitment(audit_id=audit_id, digest=digest, signature=signature))


async def replay(shop: Workshop, run_id: str, task: TrainTask) -> Replayed:
    """Run a segment once more in a task folder of its own; what came out.

    Raises:
        GristmillError: it could not be run, with the reason.
    """
    said = await rerun(shop, run_id, task)
    if not isinstance(said, Replayed):
        raise Unavailable("The training program measured a model instead of running a segment.")
    return said


async def rerun(shop: Workshop, run_id: str, task: TrainTask) -> Said:
    """Run a segment once more, or measure a model, in a task folder of its own; what came out.

    Raises:
        GristmillError: it could not be run, with the reason.
    """
    return await shop.reruns.run(_rerun(shop, run_id, task))


async def _rerun(shop: Workshop, run_id: str, task: TrainTask) -> Said:
    try:
        folder = await shop.lay_out(run_id, task, until_s=shop.clock() + WITHOUT_FILES_S)
        async with shop.started(folder, "evaluate" if task.model else "replay", task) as run:
            said = await _outcome(run)
        if isinstance(said, Replayed):
            await _take_in(shop, run_id, folder, task, said)
        return said
    finally:
        await remove_task_dir(shop.runner, shop.tasks_dir / run_id)


async def _take_in(shop: Workshop, run_id: str, folder: Path, task: TrainTask, replayed: Replayed) -> None:
    """Have the kept states where they are uploaded from with the answer."""
    for name, state in ((str(task.segment_index), replayed.state), ("start", replayed.start)):
        if state is not None:
            shop.journal.keep(run_id, state.sha256)
            path = folder / "out" / "states" / f"{name}.safetensors"
            await asyncio.to_thread(shop.cache.adopt, path, below=folder / "out", sha256=state.sha256)


async def _outcome(run: Run) -> Said:
    found: Said | None = None
    async for event in run.events():
        match event:
            case Replayed() | Evaluated():
                found = event
            case Failed():
                raise GristmillError(event.what, effect=event.effect, todo=event.todo)
    ended = await run.wait()
    if found is None or ended.code != 0:
        raise Unavailable(ended.cause)
    return found


def _kept_states(said: Said) -> tuple[str, ...]:
    if not isinstance(said, Replayed):
        return ()
    return tuple(state.sha256 for state in (said.state, said.start) if state is not None)


def refused(audit_id: str, reason: str) -> pb.AuditReply:
    return pb.AuditReply(audit_id=audit_id, accepted=False, reason=reason)
