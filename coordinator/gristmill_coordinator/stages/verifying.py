"""Stage 5b's errands: boundary states are asked for, verifiers drawn and sent their segments."""

from hashlib import sha256

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import verifiers
from gristmill_coordinator.domain.modes import MEASUREMENT, Checkers, is_whole
from gristmill_coordinator.domain.tasks import measuring_task, replay_task, run_task
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import holds, listening_since, silent
from gristmill_coordinator.stages import wholes
from gristmill_coordinator.store.cases import SECOND, SECOND_OPINION, Case
from gristmill_coordinator.store.store import Row, change, grant
from gristmill_coordinator.store.tables import audits, segments
from gristmill_protocol.jobs import SignedOrder, TrainTask
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
    return _able(co, case, case.of_segment(index)[0], Checkers.SAME_CLASS)


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
    patience_s = co.config.audit_timeout_s + case.quote.plan.limit_s
    if audit.node_id is not None and not silent(co, audit.node_id) and now <= asked_s + patience_s:
        return co.book.get(audit.node_id)
    if audit.node_id is not None:
        refused = {**audit.refused, audit.node_id: now}
        refusals = audit.refusals + (audit.sent_s > 0 and not silent(co, audit.node_id))
        async with co.store.write() as tx:
            this = audits.c.audit_id == audit.audit_id
            await change(tx, audits, this, node_id=None, sent_s=0.0, refused=refused, refusals=refusals)
        return None
    offer = await wholes.draw(co, case, audit) if is_whole(audit.why) else _draw(co, case, audit)
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
    able = _able(co, case, audit, Checkers.SAME_CLASS if audit.why == SECOND_OPINION else case.way.checkers)
    if audit.why == SECOND:
        first = co.book.get(case.of_segment(audit.segment)[0].node_id)
        if first is None:
            return None  # it must not be the same machine, and best not the same kind
        able = [one for one in able if one.terms.numeric_class != first.terms.numeric_class] or able
    elif audit.why != SECOND_OPINION:
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
    asked = audit.why if audit.why in (SECOND, SECOND_OPINION) else ""
    seed = sha256(f"{case.window.beacon}/{case.window.window_id}/{asked}".encode()).digest()
    drawn = verifiers.draw({offer.node_id: offer.bonded_usd_micros for offer in able}, seed)
    return next(offer for offer in able if offer.node_id == drawn)


def _able(co: Coordinator, case: Case, audit: Row, checkers: Checkers) -> list[Offer]:
    """Who may run an audit: another owner than all else of this segment, not one that has just refused it."""
    now = co.clock()
    without = {case.attempt.payout.lower(), case.attempt.node_id}
    without |= {node_id for node_id, at_s in audit.refused.items() if now < at_s + co.config.retry_node_s}
    others = [one for one in case.of_segment(audit.segment) if one.audit_id != audit.audit_id or one.replayed]
    for node_id in [one.node_id for one in others if one.node_id is not None]:
        before = co.book.get(node_id)
        without |= {node_id} | (set() if before is None else {before.payout.lower()})
    return co.book.verifiers(
        numeric_class=case.attempt.numeric_class,
        renter=case.job.renter,
        recipe=case.job.recipe,
        since_s=listening_since(co),
        without=without,
        checkers=checkers,
    )


def _was_sent(co: Coordinator, audit: Row, offer: Offer) -> bool:
    """Whether this process has sent it; one from before our restart is sent again, which a node takes for one."""
    return bool(audit.node_id == offer.node_id and audit.sent_s > co.started_s)


async def _send(co: Coordinator, case: Case, audit: Row, offer: Offer, running: dict[str, int]) -> None:
    """Send the audit when its verifier has a slot. It is told the segment and its start, never the claimed end."""
    again = audit.sent_s > 0
    if not again and running.get(offer.node_id, 0) >= offer.terms.slots:
        return
    task = _task(case, audit)
    subject = f"node:{offer.node_id}"
    async with co.store.write() as tx:
        for ref in filter(None, (task.data, task.state, *task.model.values())):
            await grant(tx, ref.sha256, subject)
    if not co.links.send(offer.node_id, _request(co, case, task, offer)):
        return
    running[offer.node_id] = running.get(offer.node_id, 0) + (not again)
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, sent_s=co.clock())


def _task(case: Case, audit: Row) -> TrainTask:
    record = case.record(audit.segment)
    task = run_task(
        case.spec,
        case.quote,
        job_id=case.job.job_id,
        attempt_id=audit.audit_id,
        step_from=record.step_from,
        segment_index=audit.segment,
        state=case.input_of(audit.segment),
    )
    if audit.why.startswith(MEASUREMENT):
        return measuring_task(task, case.spec, (case.attempt.finished or {"files": {}})["files"])
    keep_state = case.way.keep_state and audit.why != SECOND_OPINION
    return replay_task(task, step_to=record.step_to, keep_state=keep_state)


def _request(co: Coordinator, case: Case, task: TrainTask, offer: Offer) -> pb.CoordinatorMessage:
    return pb.CoordinatorMessage(
        audit=pb.AuditRequest(
            audit_id=task.attempt_id,
            signed_order_json=SignedOrder.model_validate(case.job.order).model_dump_json(),
            spec_json=case.spec.model_dump_json(),
            task_json=task.model_dump_json(),
            image=co.config.image(case.job.recipe, offer.terms.sandbox),
        )
    )
