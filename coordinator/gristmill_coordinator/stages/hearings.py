"""Disputes' errands: drawn referees run the segment blindly; who has told its digest is shown what both sides say."""

import json

import sqlalchemy as sa
import structlog
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.disputes import Course, first_difference
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.stages.verifying import rerun
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.cases import Case
from gristmill_coordinator.store.store import Row, Tx, change, grant
from gristmill_coordinator.store.tables import disputes, nodes
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.progress import Replayed
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()


async def summon(co: Coordinator, row: Row, found: Course, case: Case) -> bool:
    """Tell the nodes of referees who have not ruled what is theirs to do next; whether any was there."""
    told = False
    for referee in [one for one in found.referees if one not in found.votes]:
        offer = _node_of(co, referee, case)
        if offer is None:
            continue
        if str(referee) in row.digests:
            reveal = pb.RefereeReveal(
                dispute_id=found.dispute, disputes=co.chain.info.disputes, documents_json=json.dumps(row.documents)
            )
            told |= co.links.send(offer.node_id, pb.CoordinatorMessage(referee_reveal=reveal))
        else:
            told |= await _have_run(co, row, found, case, offer)
    return told


async def digest_told(co: Coordinator, node_id: str, reply: pb.RefereeReply) -> None:
    """Keep what a drawn referee's re-run gave, the first answer; from then on it is shown what both sides say."""
    said = {"ruled": reply.ruled, "reason": reply.reason}
    logger.info("referee_said", node_id=node_id, dispute=reply.dispute_id, **said)
    if not reply.digest:
        return
    async with co.store.write() as tx:
        referee = await tx.value(sa.select(nodes.c.provider).where(nodes.c.node_id == node_id))
        which = sa.and_(disputes.c.dispute == reply.dispute_id, ~disputes.c.closed)
        row = await tx.row(sa.select(disputes).where(which))
        if row is None or referee is None:
            return
        if str(referee) in row.digests:
            await _compare(co, tx, row, reply, row.digests[str(referee)])
            return
        digests = {**row.digests, str(referee): reply.digest}
        await change(tx, disputes, which, digests=digests, told_s=0.0)
        tx.wake("disputes")


async def _compare(co: Coordinator, tx: Tx, row: Row, reply: pb.RefereeReply, told: str) -> None:
    """Say at which step provider and referee part, once, for people and the arbiter."""
    try:
        replayed = Replayed.model_validate_json(reply.replayed_json)
    except ValidationError:
        return
    if sha256_json(replayed.model_dump(mode="json")).hex() != told or row.steps is None or row.parted_step is not None:
        return
    at = first_difference(row.steps, replayed.step_roots)
    if at is None:
        return
    step = replayed.step_from + at
    await change(tx, disputes, disputes.c.window_id == row.window_id, parted_step=step)
    text = f"The states of {row.provider_name!r} and of a referee are the same up to step {step}, and differ after it."
    await job_rows.tell(tx, row.job_id, "dispute", text, now=co.clock(), step=step)


def _node_of(co: Coordinator, referee: int, case: Case) -> Offer | None:
    """A connected machine of the referee, of the work's numeric class if it has one."""
    theirs = [one for one in co.book.alive(listening_since(co)) if one.provider == referee]
    return min(
        theirs, key=lambda one: (one.terms.numeric_class != case.attempt.numeric_class, one.node_id), default=None
    )


async def _have_run(co: Coordinator, row: Row, found: Course, case: Case, offer: Offer) -> bool:
    state, subject = case.input_of(row.segment), f"node:{offer.node_id}"
    async with co.store.write() as tx:
        await grant(tx, case.spec.data.sha256, subject)
        if state is not None:
            await grant(tx, state.sha256, subject)
    request = pb.RefereeRequest(
        dispute_id=found.dispute,
        disputes=co.chain.info.disputes,
        again=rerun(co, case, row.segment, f"hearing_{found.dispute}", offer.terms.sandbox, step_roots=True),
    )
    return co.links.send(offer.node_id, pb.CoordinatorMessage(referee=request))
