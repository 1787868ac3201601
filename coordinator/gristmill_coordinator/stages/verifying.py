"""Stage 5b's errands: boundary states are asked for, verifiers drawn and sent their segments."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.modes import MEASUREMENT, Checkers, is_whole
from gristmill_coordinator.domain.tasks import measuring_task, replay_task, run_task
from gristmill_coordinator.domain.windows import MAX_REFUSALS
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import holds, listening_since, silent, unwilling
from gristmill_coordinator.stages import wholes
from gristmill_coordinator.stages.commitment import window_seed
from gristmill_coordinator.store.cases import SECOND, SECOND_OPINION, Case
from gristmill_coordinator.store.store import Row, change, grant
from gristmill_coordinator.store.tables import audits, segments
from gristmill_protocol.commitments import draw_verifier, verifier_seed
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
    busy = {one.audit_id: one.node_id for one in case.audits if one.node_id is not None}
    for audit in [one for one in case.audits if one.replayed is None and one.outcome == "pending"]:
        offer = await _verifier(co, case, audit, busy)
        if offer is not None:
            busy[audit.audit_id] = offer.node_id
        if offer is None:
            waits_for = waits_for if await _give_up(co, case, audit, busy) else NO_VERIFIER
        elif audit.committed is not None:
            await _ask_for_answer(co, case, audit)
        elif audit.segment - 1 not in missing and not _was_sent(co, audit, offer):
            await _send(co, case, audit, offer, running)
    return waits_for


def other_verifiers(co: Coordinator, case: Case, index: int) -> list[Offer]:
    """Machines of the provider's kind that could give one more opinion: not of its owner, nor of those with theirs."""
    given = [one.node_id for one in case.of_segment(index) if one.replayed is not None and one.node_id is not None]
    return _able(co, case, given, Checkers.SAME_CLASS)


def dropped(audit: Row, refused: dict[str, float], *, refusals: int) -> dict[str, object]:
    """What an audit's row becomes when its verifier is to be another one."""
    fresh = {"node_id": None, "sent_s": 0.0, "committed": None, "commitment_signature": None, "reveal_s": 0.0}
    return {**fresh, "refused": {**audit.refused, **refused}, "refusals": audit.refusals + refusals}


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


async def _verifier(co: Coordinator, case: Case, audit: Row, busy: Mapping[str, str]) -> Offer | None:
    """The machine that runs this audit: the one it has, or a fresh draw when that one is gone or too slow."""
    now = co.clock()
    late = _is_late(co, audit, case.quote.plan.limit_s)
    if audit.node_id is not None and not silent(co, audit.node_id) and not late:
        return co.book.get(audit.node_id)
    if audit.node_id is not None:
        ignored = audit.sent_s > 0 and not silent(co, audit.node_id)
        async with co.store.write() as tx:
            values = dropped(audit, {audit.node_id: now}, refusals=ignored)
            await change(tx, audits, audits.c.audit_id == audit.audit_id, **values)
            if ignored:
                await unwilling(co, tx, audit.node_id)
        return None
    offer = await wholes.draw(co, case, audit) if is_whole(audit.why) else _draw(co, case, audit, busy)
    if offer is not None:
        values = {"node_id": offer.node_id, "verifier": offer.provider, "verifier_name": offer.name}
        async with co.store.write() as tx:
            await change(tx, audits, audits.c.audit_id == audit.audit_id, assigned_s=now, sent_s=0.0, **values)
        co.book.busy(offer.node_id)
    return offer


def _is_late(co: Coordinator, audit: Row, limit_s: int) -> bool:
    if audit.committed is not None and not audit.reveal_s:
        return False  # it waits for the other verifier of its segment
    asked_s = max(audit.reveal_s or audit.sent_s or audit.assigned_s, co.started_s)
    return bool(co.clock() > asked_s + co.config.audit_timeout_s + limit_s)


def _draw(co: Coordinator, case: Case, audit: Row, busy: Mapping[str, str]) -> Offer | None:
    """The verifier of this audit, drawn anew for each; not by the payee that the renter's statements name.

    The provider gets to see those, so a payee that it is friends with must not be the one who checks.
    """
    able = _able_for(co, case, audit, busy)
    if audit.why == SECOND and case.way.checkers is Checkers.OTHER_CLASSES:
        first = co.book.get(busy.get(case.of_segment(audit.segment)[0].audit_id, ""))
        if first is None:
            return None  # best not of the same kind as the first
        able = [one for one in able if one.terms.numeric_class != first.terms.numeric_class] or able
    quoted = {one.node_id for one in case.quote.candidates}
    able = [offer for offer in able if offer.node_id not in quoted] or able
    if not able:
        return None
    seed = verifier_seed(window_seed(case.window, bytes.fromhex(case.window.beacon)), audit.segment, audit.why)
    drawn = draw_verifier({offer.node_id: offer.bonded_usd_micros for offer in able}, seed)
    return next(offer for offer in able if offer.node_id == drawn)


def _able_for(co: Coordinator, case: Case, audit: Row, busy: Mapping[str, str]) -> list[Offer]:
    """Who may run an audit now: not who has another of the same segment, not who has just refused this one.

    Args:
        busy: audit id -> node id, of the window's audits that have a verifier.
    """
    same = {one.audit_id for one in case.of_segment(audit.segment)} - {audit.audit_id}
    others = [node_id for audit_id, node_id in busy.items() if audit_id in same]
    resting = {node_id for node_id, at_s in audit.refused.items() if co.clock() < at_s + co.config.retry_node_s}
    checkers = Checkers.SAME_CLASS if audit.why == SECOND_OPINION else case.way.checkers
    return [offer for offer in _able(co, case, others, checkers) if offer.node_id not in resting]


def _able(co: Coordinator, case: Case, others: Sequence[str], checkers: Checkers) -> list[Offer]:
    """Machines of other owners than the provider's and these nodes'."""
    return co.book.verifiers(
        numeric_class=case.attempt.numeric_class,
        renter=case.job.renter,
        recipe=case.job.recipe,
        since_s=listening_since(co),
        unrelated_to=(case.attempt.node_id, *others),
        checkers=checkers,
    )


async def _give_up(co: Coordinator, case: Case, audit: Row, busy: Mapping[str, str]) -> bool:
    """Do without a second verifier from the start where the market has none; whether it was given up."""
    waited = co.clock() >= max(case.window.sampled_s, co.started_s) + co.config.candidate_wait_s
    hopeless = audit.refusals >= MAX_REFUSALS or (waited and not _able_for(co, case, audit, busy))
    if audit.why != SECOND or not hopeless:
        return False
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, outcome="unserved")
    return True


async def _ask_for_answer(co: Coordinator, case: Case, audit: Row) -> None:
    """Have a verifier say its answer, once everybody who runs the segment is bound to one or can't do it."""
    bound = all(
        one.committed is not None or one.replayed is not None or one.refusals >= MAX_REFUSALS
        for one in case.of_segment(audit.segment)
    )
    if not bound or (audit.told_s > co.started_s and co.clock() < audit.told_s + _TELL_AGAIN_S):
        return
    now = co.clock()
    told = co.links.send(audit.node_id, pb.CoordinatorMessage(reveal=pb.RevealRequest(audit_id=audit.audit_id)))
    values = {"reveal_s": audit.reveal_s or now, "told_s": now if told else audit.told_s}
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, **values)


def _was_sent(co: Coordinator, audit: Row, offer: Offer) -> bool:
    """Whether this process has sent it; one from before our restart is sent again, which a node takes for one."""
    return bool(audit.node_id == offer.node_id and audit.sent_s > co.started_s)


async def _send(co: Coordinator, case: Case, audit: Row, offer: Offer, running: dict[str, int]) -> None:
    """Send the audit when its verifier has a slot."""
    again = audit.sent_s > 0
    if not again and running.get(offer.node_id, 0) >= offer.terms.slots:
        return
    task = _task(case, audit)
    subject = f"node:{offer.node_id}"
    async with co.store.write() as tx:
        for ref in filter(None, (task.data, task.state, *task.model.values())):
            await grant(tx, ref.sha256, subject)
    request = _request(co, case, task, offer.terms.sandbox)
    if not co.links.send(offer.node_id, pb.CoordinatorMessage(audit=request)):
        return
    running[offer.node_id] = running.get(offer.node_id, 0) + (not again)
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, sent_s=co.clock())


def _task(case: Case, audit: Row) -> TrainTask:
    if audit.why.startswith(MEASUREMENT):
        files = (case.attempt.finished or {"files": {}})["files"]
        return measuring_task(_again(case, audit.segment, audit.audit_id), case.spec, files)
    keep_state = case.way.keep_state and audit.why != SECOND_OPINION
    step_to = case.record(audit.segment).step_to
    return replay_task(_again(case, audit.segment, audit.audit_id), step_to=step_to, keep_state=keep_state)


def rerun(
    co: Coordinator, case: Case, index: int, run_id: str, sandbox: str, *, step_roots: bool = False
) -> pb.AuditRequest:
    """What has a node run a segment once more; it names the segment and its start, never the claimed end."""
    task = replay_task(_again(case, index, run_id), step_to=case.record(index).step_to, step_roots=step_roots)
    return _request(co, case, task, sandbox)


def _again(case: Case, index: int, run_id: str) -> TrainTask:
    """To run from where a segment starts."""
    record = case.record(index)
    return run_task(
        case.spec,
        case.quote,
        job_id=case.job.job_id,
        attempt_id=run_id,
        step_from=record.step_from,
        segment_index=index,
        state=case.input_of(index),
    )


def _request(co: Coordinator, case: Case, task: TrainTask, sandbox: str) -> pb.AuditRequest:
    return pb.AuditRequest(
        audit_id=task.attempt_id,
        signed_order_json=SignedOrder.model_validate(case.job.order).model_dump_json(),
        spec_json=case.spec.model_dump_json(),
        task_json=task.model_dump_json(),
        image=co.config.image(case.job.recipe, sandbox),
    )
