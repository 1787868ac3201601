"""Stage 5b for jobs that are judged as a whole: others run all of it again and vote, or measure what came out of it."""

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import modes, pricing
from gristmill_coordinator.domain.jobs import Ending
from gristmill_coordinator.domain.modes import MEASUREMENT, REPLICA, Checkers, Ruling
from gristmill_coordinator.domain.windows import MAX_REFUSALS, Finding
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.stages.commitment import new_audit, window_seed
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.cases import Case
from gristmill_coordinator.store.store import Row, Tx, change, claimed, keep
from gristmill_coordinator.store.tables import audits, jobs, windows
from gristmill_protocol.commitments import draw_verifier, verifier_seed
from gristmill_protocol.modes import Mode
from gristmill_protocol.progress import Evaluated, Replayed

_THIRD = f"{MEASUREMENT} {modes.MEASURERS + 1}"
_UNNAMED = (f"{MEASUREMENT} 2", _THIRD)  # a statement names one verifier


async def draw(co: Coordinator, case: Case, audit: Row) -> Offer | None:
    """A machine for an audit of the whole job: of another owner than all others in it, of any class.

    The quoted replica, or the verifier that the statements name, comes first, and has some time to come back.
    """
    async with co.store.read() as tx:
        judges = await _judges(tx, case.job.job_id)
    # An earlier attempt's replicas still vote; its measurers measured another model.
    votes = [one for one in judges if one.window_id == audit.window_id or one.why.startswith(REPLICA)]
    able = _able(co, case, audit, [one for one in votes if one.audit_id != audit.audit_id])
    named = [offer for offer in able if _is_named(case, audit, offer)]
    if named:
        return named[0]
    barely = co.clock() < max(case.window.sampled_s, co.started_s) + co.config.candidate_wait_s
    if barely and not audit.refused and audit.why not in _UNNAMED:
        return None
    quoted = {one.node_id for one in case.quote.candidates} | {one.node_id for one in case.quote.replicas}
    able = [offer for offer in able if offer.node_id not in quoted] or able
    if not able:
        return None
    seed = verifier_seed(window_seed(case.window, bytes.fromhex(case.window.beacon)), audit.segment, audit.why)
    drawn = draw_verifier({offer.node_id: offer.bonded_usd_micros for offer in able}, seed)
    return next(offer for offer in able if offer.node_id == drawn)


async def note(co: Coordinator, tx: Tx, audit: Row, said: Replayed | Evaluated, *, salt: bytes) -> None:
    """Keep an answer; what it is worth is seen once all are there."""
    this = audits.c.audit_id == audit.audit_id
    if not await change(tx, audits, this, replayed=said.model_dump(mode="json"), salt=salt.hex()):
        return
    text = f"The whole job was run again by {audit.verifier_name!r}."
    if isinstance(said, Evaluated):
        text = (
            f"{audit.verifier_name!r} measured the model: {said.correct} of {said.examples} hidden examples are right."
        )
    await job_rows.tell(tx, audit.job_id, "audit", text, now=co.clock())


async def conclude(co: Coordinator, case: Case) -> bool:
    """Judge a finished job if all have answered; whether it was judged."""
    if case.window.steps < case.quote.plan.steps:
        reason = "Only a finished job can be judged, and this one is not."
        return await _rule(co, case, [], Ruling(Finding.DROPPED, reason, ()))
    async with co.store.read() as tx:
        earlier = await job_rows.replicas(tx, case.job.job_id)
        missed = sa.and_(windows.c.job_id == case.job.job_id, windows.c.finding == Finding.MISSED)
        missed_before = await tx.row(sa.select(windows.c.window_id).where(missed).limit(1)) is not None
    asked = {one.why: one for one in (*case.audits, *earlier)}
    rows = [asked[why] for why in sorted(asked)]
    answered = [one for one in rows if one.replayed is not None]
    given_up = [one for one in rows if one.replayed is None and one.refusals >= MAX_REFUSALS]
    if len(answered) + len(given_up) < len(rows):
        return False
    if case.quote.mode is Mode.REPLICATE:
        votes = [Replayed.model_validate(one.replayed) for one in answered]
        ruling = modes.vote(case.record(case.last_index), votes, owners=case.spec.replicas)
        return await _rule(co, case, answered, ruling)
    if given_up:
        return await _rule(co, case, [], Ruling(Finding.NOT_RUN, "The model could not be measured by others.", ()))
    threshold = case.spec.threshold or 0
    numbers = [Evaluated.model_validate(one.replayed) for one in answered]
    if modes.third_needed(numbers, threshold):
        return await _ask_a_third(co, case)
    return await _rule(co, case, answered, modes.measure(numbers, threshold, missed_before=missed_before))


async def checked_as_a_whole(co: Coordinator, tx: Tx, job_ids: list[str]) -> dict[str, set[str]]:
    """Job id -> nodes of the owners that judged it: they know its result or its hidden examples and can't run it."""
    found: dict[str, set[str]] = {}
    for job_id in job_ids:
        judges = await _judges(tx, job_id)
        knowing = {one.node_id for one in judges if one.replayed is not None or one.why.startswith(MEASUREMENT)}
        knowing |= {node_id for one in judges if one.why.startswith(MEASUREMENT) for node_id in one.refused}
        found[job_id] = {
            offer.node_id
            for offer in (co.book.alive(0.0) if knowing else ())
            if any(co.book.related(offer.node_id, node_id) for node_id in knowing if node_id is not None)
        }
    return found


def _able(co: Coordinator, case: Case, audit: Row, others: list[Row]) -> list[Offer]:
    resting = {node_id for node_id, at_s in audit.refused.items() if co.clock() < at_s + co.config.retry_node_s}
    able = co.book.verifiers(
        numeric_class=case.attempt.numeric_class,
        renter=case.job.renter,
        recipe=case.job.recipe,
        since_s=listening_since(co),
        unrelated_to=(case.attempt.node_id, *(one.node_id for one in others if one.node_id is not None)),
        checkers=Checkers.ANY,
    )
    able = [offer for offer in able if offer.node_id not in resting]
    if audit.why.startswith(MEASUREMENT):
        return able
    most = case.quote.replicas[modes.slot(audit.why)].price_usd_micros
    return [offer for offer in able if _price(case, offer) <= most]


def _price(case: Case, offer: Offer) -> int:
    """What running the whole job costs there."""
    return pricing.price(
        case.quote.plan,
        ask_usd_micros_per_gpu_hour=offer.terms.ask_usd_micros_per_gpu_hour,
        flops_per_s=offer.terms.flops_per_s,
        verifier_bps=case.quote.verifier_bps,
        royalty_bps=case.quote.royalty_bps,
    ).usd_micros


def _is_named(case: Case, audit: Row, offer: Offer) -> bool:
    if audit.why.startswith(REPLICA):
        return offer.node_id == case.quote.replicas[modes.slot(audit.why)].node_id
    return audit.why not in _UNNAMED and offer.provider == case.attempt.verifier


async def _judges(tx: Tx, job_id: str) -> list[Row]:
    """The audits of the whole job."""
    kind = sa.or_(audits.c.why.startswith(REPLICA), audits.c.why.startswith(MEASUREMENT))
    return list(await tx.rows(sa.select(audits).where(audits.c.job_id == job_id, kind)))


async def _ask_a_third(co: Coordinator, case: Case) -> bool:
    async with co.store.write() as tx:
        if await keep(tx, windows, case.window):
            await tx.add(audits, new_audit(case.window, case.window.first_index, _THIRD))
            text = "The measurements contradict one another; a third one decides."
            await job_rows.tell(tx, case.job.job_id, "audit", text, now=co.clock())
            tx.wake("audit")
    return False


async def _rule(co: Coordinator, case: Case, answered: list[Row], ruling: Ruling) -> bool:
    """Write the ruling down: what it makes of the window, of each answer, and of the job."""
    async with co.store.write() as tx:
        if not await claimed(tx, windows, case.window):
            return False
        for one, right in zip(answered, ruling.right, strict=True):
            outcome = "passed" if right else "mismatch"
            await change(tx, audits, audits.c.audit_id == one.audit_id, outcome=outcome)
        given_up = sa.and_(audits.c.window_id == case.window.window_id, audits.c.replayed.is_(None))
        await change(tx, audits, given_up, outcome="unserved")
        if ruling.finding is not None:
            await verdicts.void(tx, case.window, ruling.finding, ruling.reason, now=co.clock())
            if ruling.ends_job:
                undecided = sa.and_(jobs.c.job_id == case.job.job_id, jobs.c.ending == Ending.NONE)
                await change(tx, jobs, undecided, ending=Ending.FAILED, ending_text=ruling.reason)
            return True
        agreeing = [one.verifier for one, right in zip(answered, ruling.right, strict=True) if right]
        await verdicts.accept(
            tx,
            case.window,
            verifier=case.attempt.verifier if case.attempt.verifier in agreeing else agreeing[0],
            steps_from=0,
            state_root=case.record(case.last_index).state_root,
            state=case.state_after(case.last_index),
            credit=case.attempt.provider if case.quote.mode is Mode.REPLICATE else None,
        )
    return True
