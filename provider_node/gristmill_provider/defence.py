"""What a node does about an accusation: it runs the segment once more and goes by what comes out.

If that is not what it signed, it concedes: contesting would lose a bond as well. If it is, it answers with a bond, if
its owner lets it. What it cannot do by itself it says, with the time until which its owner can; so where other bits
prove nothing, since driver or image are not those of then.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.errors import BadRequest, Conflict, GristmillError, NotFound, Unavailable
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import Replayed
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, recover
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.accusations import Accusation, Finding, Plea
from gristmill_provider.attempt import Workshop
from gristmill_provider.audits import replay
from gristmill_provider.config import NodeConfig

logger = structlog.get_logger(__name__)

# With less time left than this the re-run waits for no free slot.
_WAIT_FOR_SLOT_S = 12 * 3600
# Nobody can re-run what was not served, so there is nothing to find out here.
_NOT_ABOUT_WORK = "state not served"


class Defence:
    """The accusations of this node.

    Args:
        idle: whether the node has a free slot.
    """

    def __init__(self, workshop: Workshop, config: Callable[[], NodeConfig], *, idle: Callable[[], bool]) -> None:
        self._shop = workshop
        self._config = config
        self._idle = idle
        self._at = set[tuple[str, int]]()  # disputes that are being considered
        self.running = 0

    async def consider(self, opened: pb.DisputeOpened) -> None:
        """Do what is to be done about a dispute now. It is told again and again, and each time this goes on."""
        key = (opened.disputes, opened.dispute_id)
        accusation = self._shop.journal.accusations.take(opened)
        if accusation.pleaded:
            self._tell(accusation)
        if key in self._at or accusation.pleaded:
            return
        self._at.add(key)
        try:
            if not accusation.finding:
                accusation = await self._examine(accusation)
            if accusation.finding in ("wrong", "right"):
                await self._plead(accusation)
        except Exception:
            logger.exception("defence_broke", dispute=opened.dispute_id)
        finally:
            self._at.discard(key)

    async def _examine(self, accusation: Accusation) -> Accusation:
        """Run the segment once more; the accusation as before while that has to wait."""
        opened = accusation.opened
        if not self._idle() and opened.answer_by_s - self._shop.clock() > _WAIT_FOR_SLOT_S:
            return accusation
        try:
            if opened.tier == _NOT_ABOUT_WORK:
                raise Conflict("It says that a state was not served, which running it again cannot settle.")
            record = self._own_record(opened)
            replayed = await self._rerun(opened, record)
            finding: Finding = "right" if _same(record, replayed) else "wrong"
            if finding == "wrong" and record.numeric_class != self._shop.numeric_class:
                raise Conflict("This machine computes otherwise than when it did the work.")
            found = replace(accusation, finding=finding, steps=replayed.step_roots)
        except Unavailable as err:  # of now: it is tried again when it is told again
            found = replace(accusation, note=_for_owner(err.what, opened))
        except GristmillError as err:
            found = replace(accusation, finding="unclear", note=_for_owner(err.what, opened))
        self._write(found, accusation)
        return found

    def _own_record(self, opened: pb.DisputeOpened) -> SegmentRecord:
        """The record that we are held to, if we signed it.

        Raises:
            BadRequest: we did not.
        """
        registry = self._shop.link.market.registry
        for document in json.loads(opened.documents_json):
            try:
                signed = SignedRecord.model_validate(document)
            except ValidationError:
                continue  # a verifier's answer
            signer = recover(registry, SEGMENT_RECORD_TYPE, signed.record.typed(), signed.signature)
            if (signed.record.index, signer) == (opened.segment, self._shop.key.address):
                return signed.record
        raise BadRequest("Nothing in it was signed by this node.")

    async def _rerun(self, opened: pb.DisputeOpened, record: SegmentRecord) -> Replayed:
        """Raises:
        NotFound: the attempt is not one of this node's.
        BadRequest: the start that was named is not the one we signed.
        """
        taken = self._shop.journal.accusations.task(opened.attempt_id)
        if taken is None or taken.job_id != record.job_id:
            raise NotFound("This node does not know the attempt.")
        self.running += 1
        try:
            replayed = await replay(self._shop, f"dispute_{opened.dispute_id}", _segment(taken, opened, record))
        finally:
            self.running -= 1
        if replayed.state_root_prev != record.state_root_prev:
            raise BadRequest("The start that it names is not the one this node signed.")
        return replayed

    async def _plead(self, accusation: Accusation) -> None:
        """Concede or answer on chain; what is in the way is noted for the owner."""
        opened, config = accusation.opened, self._config()
        if accusation.finding == "right" and not config.contest_disputes:
            why = "Its own re-run agrees with what it signed, and contest_disputes is off."
            self._write(replace(accusation, note=_for_owner(why, opened)), accusation)
            return
        try:
            pleaded = await asyncio.to_thread(_on_chain, config, self._shop.key, accusation)
            done = replace(accusation, pleaded=pleaded, note="")
        except GristmillError as err:
            done = replace(accusation, note=_for_owner(" ".join(filter(None, (err.what, err.todo))), opened))
        except ImportError:
            why = "The libraries that speak to the chain are missing: pip install 'gristmill[chain]'."
            done = replace(accusation, note=_for_owner(why, opened))
        self._write(done, accusation)

    def _write(self, fresh: Accusation, before: Accusation) -> None:
        if fresh == before:
            return
        self._shop.journal.accusations.write(fresh)
        said = {"finding": fresh.finding, "pleaded": fresh.pleaded, "note": fresh.note}
        logger.warning("dispute_considered", dispute=fresh.opened.dispute_id, **said)
        self._tell(fresh)

    def _tell(self, one: Accusation) -> None:
        """Say how it stands; the steps only once they are committed to on chain."""
        steps = one.steps if one.pleaded == "answered" else ()
        reply = pb.DisputeReply(
            dispute_id=one.opened.dispute_id, finding=one.finding, pleaded=one.pleaded, note=one.note, step_roots=steps
        )
        self._shop.link.send(pb.NodeMessage(dispute=reply))


def _on_chain(config: NodeConfig, key: LocalAccount, accusation: Accusation) -> Plea:
    # web3 is large, and few nodes are ever accused: it is loaded when it is needed.
    from gristmill_provider.pleading import plead

    return plead(config, key, accusation)


def _segment(taken: TrainTask, opened: pb.DisputeOpened, record: SegmentRecord) -> TrainTask:
    """The disputed segment as a task, by what this node was asked to run."""
    start = ArtifactRef(sha256=opened.start.sha256, size_bytes=opened.start.size_bytes) if opened.start.sha256 else None
    steps = {"step_from": record.step_from, "step_to": record.step_to}
    return taken.model_copy(update={**steps, "segment_index": record.index, "state": start, "step_roots": True})


def _same(record: SegmentRecord, replayed: Replayed) -> bool:
    ours = (record.state_root, record.data_root, record.metrics_root)
    return (replayed.state_root, replayed.data_root, replayed.metrics_root) == ours


def _for_owner(why: str, opened: pb.DisputeOpened) -> str:
    until = datetime.fromtimestamp(opened.answer_by_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{why} Decide until {until}: gristmill-node disputes answer|concede {opened.dispute_id}. Silence loses."
