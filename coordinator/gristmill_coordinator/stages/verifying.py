"""Stage 5b's errands: boundary states are asked for, verifiers drawn and sent their segments."""

from hashlib import sha256

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import verifiers
from gristmill_coordinator.domain.tasks import replay_task, run_task
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import holds, listening_since, silent
from gristmill_coordinator.store.cases import SECOND_OPINION, Case
from gristmill_coordinator.store.store import Row, change, grant
from gristmill_coordinator.store.tables import audits, segments
from gristmill_protocol.jobs import SignedOrder
from gristmill_protocol.v1 import provider_pb2 as pb

_TELL_AGAIN_S = 30.0

NO_VERIFIER = "It waits for another owner's machine that can check it."


async def serve(co: Coordinator, case: Case, running: dict[str, int]) -> str:
    """Ask for states and have verifiers run what is not answered yet; what the window waits for, in words.

    Args:
        running: node id -> attempts it has and audits it was sent; counted up here.
    """
    missing = [index for index in sorted(case.needed_states()) if not await _ask_for_state(co, case, index)]
    waits_for = "It waits for a state from the provider." if missing else ""
    for audit in [one for one in case.audits if one.replayed is None and one.outcome == "pending"]:
        offer = await _verifier(co, case, audit)
        if offer is None:
            waits_for = NO_VERIFIER
        elif audit.segment - 1 not in missing and not _was_sent(co, audit, offer):
            await _send(co, case, audit, offer, running)
    return waits_for


def second_verifiers(co: Coordinator, case: Case, index: int) -> list[Offer]:
    """Machines that could give a second opinion: of neither the provider's nor the first verifier's owner."""
    return _able(co, case, case.of_segment(index)[0])


async def _ask_for_state(co: Coordinator, case: Case, index: int) -> bool:
    """Whether the state after a segment is here; asks the node for it if not."""
    row, now = case.segments[index], co.clock()
    if row.uploaded or await holds(co, case.attempt.node_id, row.state["sha256"]):
        return True
    if now < row.told_s + _TELL_AGAIN_S and row.told_s > co.started_s:
        return False
    request = pb.StateRequest(attempt_id=row.attempt_id, sha256=row.state["sha256"])
    told = co.links.send(case.attempt.node_id, pb.CoordinatorMessage(state_request=request))
    this = sa.update(segments).where(segments.c.attempt_id == row.attempt_id, segments.c.segment == index)
    async with co.store.write() as tx:
        await tx.run(this.values(asked_s=row.asked_s or now, told_s=now if told else row.told_s))
    return False


async def _verifier(co: Coordinator, case: Case, audit: Row) -> Offer | None:
    """The machine that runs this audit: the one it has, or a fresh draw when that one is gone or too slow."""
    now = co.clock()
    asked_s = max(audit.sent_s or audit.assigned_s, co.started_s)
    if audit.node_id is not None and not silent(co, audit.node_id) and now <= asked_s + co.config.audit_timeout_s:
        return co.book.get(audit.node_id)
    if audit.node_id is not None:
        refused = {**audit.refused, audit.node_id: now}
        refusals = audit.refusals + (audit.sent_s > 0 and not silent(co, audit.node_id))
        async with co.store.write() as tx:
            this = audits.c.audit_id == audit.audit_id
            await change(tx, audits, this, node_id=None, sent_s=0.0, refused=refused, refusals=refusals)
        return None
    offer = _draw(co, case, audit)
    if offer is not None:
        values = {"node_id": offer.node_id, "verifier": offer.provider, "verifier_name": offer.name}
        async with co.store.write() as tx:
            await change(tx, audits, audits.c.audit_id == audit.audit_id, assigned_s=now, sent_s=0.0, **values)
        co.book.busy(offer.node_id)
    return offer


def _draw(co: Coordinator, case: Case, audit: Row) -> Offer | None:
    """The verifier that the renter's statements name if it can; else one drawn by the beacon, for the whole window.

    A named verifier that is away gets some time to come back: paying another takes one more signature.
    """
    able = _able(co, case, audit)
    if audit.why != SECOND_OPINION:
        named = [offer for offer in able if offer.provider == case.attempt.verifier]
        if named:
            return named[0]
        barely = co.clock() < max(case.window.sampled_s, co.started_s) + co.config.candidate_wait_s
        if barely and not audit.refused:
            return None
    quoted = {one.node_id for one in case.quote.candidates}
    able = [offer for offer in able if offer.node_id not in quoted] or able
    if not able:
        return None
    seed = sha256(f"{case.window.beacon}/{case.window.window_id}/{audit.why == SECOND_OPINION}".encode()).digest()
    drawn = verifiers.draw({offer.node_id: offer.bonded_usd_micros for offer in able}, seed)
    return next(offer for offer in able if offer.node_id == drawn)


def _able(co: Coordinator, case: Case, audit: Row) -> list[Offer]:
    """Who may run an audit: the same numeric class, another owner, not one that has just refused it."""
    now = co.clock()
    without = {case.attempt.payout.lower(), case.attempt.node_id}
    without |= {node_id for node_id, at_s in audit.refused.items() if now < at_s + co.config.retry_node_s}
    first = case.of_segment(audit.segment)[0]
    if first.replayed is not None:
        before = co.book.get(first.node_id)
        without |= {first.node_id} | (set() if before is None else {before.payout.lower()})
    return co.book.verifiers(
        numeric_class=case.attempt.numeric_class,
        renter=case.job.renter,
        recipe=case.job.recipe,
        since_s=listening_since(co),
        without=without,
    )


def _was_sent(co: Coordinator, audit: Row, offer: Offer) -> bool:
    """Whether this process has sent it; one from before our restart is sent again, which a node takes for one."""
    return bool(audit.node_id == offer.node_id and audit.sent_s > co.started_s)


async def _send(co: Coordinator, case: Case, audit: Row, offer: Offer, running: dict[str, int]) -> None:
    """Send the audit when its verifier has a slot."""
    again = audit.sent_s > 0
    if not again and running.get(offer.node_id, 0) >= offer.terms.slots:
        return
    state = case.input_of(audit.segment)
    subject = f"node:{offer.node_id}"
    async with co.store.write() as tx:
        await grant(tx, case.spec.data.sha256, subject)
        if state is not None:
            await grant(tx, state.sha256, subject)
    request = rerun(co, case, audit.segment, audit.audit_id, offer.terms.sandbox)
    if not co.links.send(offer.node_id, pb.CoordinatorMessage(audit=request)):
        return
    running[offer.node_id] = running.get(offer.node_id, 0) + (not again)
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, sent_s=co.clock())


def rerun(
    co: Coordinator, case: Case, index: int, run_id: str, sandbox: str, *, step_roots: bool = False
) -> pb.AuditRequest:
    """What has a node run a segment once more; it names the segment and its start, never the claimed end."""
    record = case.record(index)
    task = run_task(
        case.spec,
        case.quote,
        job_id=case.job.job_id,
        attempt_id=run_id,
        step_from=record.step_from,
        segment_index=index,
        state=case.input_of(index),
    )
    return pb.AuditRequest(
        audit_id=run_id,
        signed_order_json=SignedOrder.model_validate(case.job.order).model_dump_json(),
        spec_json=case.spec.model_dump_json(),
        task_json=replay_task(task, step_to=record.step_to, step_roots=step_roots).model_dump_json(),
        image=co.config.image(case.job.recipe, sandbox),
    )
