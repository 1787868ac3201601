"""Stage 2, matching: a queued job gets the machine that finishes it for the lowest expected total."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import pricing, sampling
from gristmill_coordinator.domain.jobs import JobReason, reasons
from gristmill_coordinator.domain.modes import WAYS
from gristmill_coordinator.domain.windows import EXCLUDING
from gristmill_coordinator.market.book import Demand, Offer
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.stages.quoting import draw_verifier
from gristmill_coordinator.stages.wholes import checked_as_a_whole
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, keep
from gristmill_coordinator.store.tables import attempts, jobs, windows
from gristmill_protocol.errors import NoOfferFits
from gristmill_protocol.jobs import AttemptState, JobSpec, JobState, Quote, QuotedProvider
from gristmill_protocol.ladder import Work

_AGAIN_S = 1.0  # until a job that found no machine looks again


@dataclass(frozen=True)
class Past:
    """What a job has been through."""

    number: int  # of its latest attempt
    accepted: Sequence[Work]
    excluded: frozenset[str]  # nodes that had their chance


@dataclass(frozen=True)
class Placement:
    """A machine for a job, at a price that its statements can pay."""

    offer: Offer
    verifier: int
    price_usd_micros: int


async def step(co: Coordinator) -> int:
    """Place a batch of queued jobs; how many found a machine."""
    config = co.config
    where = jobs.c.reason.in_(reasons(JobState.QUEUED))
    rows = await co.store.claim(jobs, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    async with co.store.read() as tx:
        co.book.load(await job_rows.loads(tx), await job_rows.locks(tx))
        pasts = await _pasts(co, tx, rows)
    placed: list[tuple[Row, Placement | str]] = []
    for row in rows:
        found = _place(co, row, pasts[row.job_id])
        if isinstance(found, Placement):
            co.book.busy(found.offer.node_id, lock_usd_micros=_lock(row, found))
        placed.append((row, found))
    async with co.store.write() as tx:
        for row, found in placed:
            if isinstance(found, Placement):
                await _lease(co, tx, row, pasts[row.job_id], found)
            else:
                await _wait(co, tx, row, found)
        tx.wake("dispatch")
    return sum(isinstance(found, Placement) for _, found in placed)


def demand_of(co: Coordinator, row: Row, quote: Quote, excluded: frozenset[str] = frozenset()) -> Demand:
    """What a job asks of a machine.

    Args:
        excluded: nodes that had their chance with it.
    """
    return Demand(
        renter=row.renter,
        recipe=row.recipe,
        plan=quote.plan,
        gpu=JobSpec.model_validate(row.spec).gpu,
        verifier_bps=quote.verifier_bps,
        royalty_bps=quote.royalty_bps,
        excluded=excluded,
        checkers=WAYS[quote.mode].checkers,
        long_s=co.config.long_job_s,
        tested_since_s=co.clock() - co.config.long_job_s,
    )


def _place(co: Coordinator, row: Row, past: Past) -> Placement | str:
    """A machine for the job, or why it has to wait.

    The quoted machines come first, at the price they were quoted at: the renter has signed for them. Any other
    machine needs one more signature, so a quoted one that is only busy is given some time.
    """
    quote = Quote.model_validate(row.quote)
    demand = demand_of(co, row, quote, past.excluded)
    steps_left = quote.plan.steps - row.steps_accepted
    since_s = listening_since(co)
    quoted = co.book.rank(demand, since_s=since_s, only=[one.node_id for one in quote.candidates])
    offers = {fit.offer.node_id: fit.offer for fit in quoted.fits}
    for one in quote.candidates:
        work = Work(one.provider, one.verifier, one.price_usd_micros, steps_left)
        offer = offers.get(one.node_id)
        if offer is not None and offer.provider == one.provider and pricing.fits_cap(quote, past.accepted, work):
            return Placement(offer, one.verifier, one.price_usd_micros)
    if _worth_waiting(co, row, quote.candidates, past):
        return "The quoted machine is busy."
    ranking = co.book.rank(demand, since_s=since_s)
    for fit in ranking.fits:
        try:
            seed = f"{row.job_id}/{past.number}".encode()
            verifier = (
                quote.replicas[0].provider if quote.replicas else draw_verifier(co, fit, demand, without=(), seed=seed)
            )
        except NoOfferFits:
            continue
        work = Work(fit.offer.provider, verifier, fit.price.usd_micros, steps_left)
        if pricing.fits_cap(quote, past.accepted, work):
            return Placement(fit.offer, verifier, fit.price.usd_micros)
    if ranking.fits:
        return (
            "Every machine that could go on with it is too dear for what is left of the job's cap. "
            "It waits for a cheaper one; stop it to pay for the verified part only."
        )
    return f"No machine can go on with it now. {ranking.why_none()}"


def _worth_waiting(co: Coordinator, row: Row, candidates: Iterable[QuotedProvider], past: Past) -> bool:
    hopeful = any(one.node_id not in past.excluded for one in candidates)
    return hopeful and co.clock() < max(row.queued_s, co.started_s) + co.config.candidate_wait_s


async def _pasts(co: Coordinator, tx: Tx, rows: Sequence[Row]) -> dict[str, Past]:
    ids = [row.job_id for row in rows]
    one = attempts.c
    query = sa.select(one.job_id, one.number, one.node_id, one.state, one.ended_s).where(one.job_id.in_(ids))
    tried: dict[str, list[Row]] = defaultdict(list)
    for attempt in await tx.rows(query):
        tried[attempt.job_id].append(attempt)
    found = sa.select(windows.c.job_id, one.node_id).join(attempts, one.attempt_id == windows.c.attempt_id)
    found = found.where(windows.c.job_id.in_(ids), windows.c.finding.in_(EXCLUDING))
    barred: dict[str, set[str]] = defaultdict(set)
    for job_id, node_id in await tx.rows(found):
        barred[job_id].add(node_id)
    for job_id, nodes in (await checked_as_a_whole(co, tx, list(tried))).items():
        barred[job_id] |= nodes
    return {
        job_id: Past(
            number=max((attempt.number for attempt in tried[job_id]), default=0),
            accepted=await job_rows.accepted_work(tx, job_id) if tried[job_id] else (),
            excluded=frozenset(barred[job_id] | _resting(co, tried[job_id])),
        )
        for job_id in ids
    }


def _resting(co: Coordinator, tried: Sequence[Row]) -> set[str]:
    """Nodes that did not finish the job and are not asked again yet: the more often, the longer."""
    ended = [one for one in tried if AttemptState(one.state).ended]
    times = Counter(one.node_id for one in ended)
    return {one.node_id for one in ended if co.clock() < one.ended_s + co.config.retry_node_s * times[one.node_id]}


async def _lease(co: Coordinator, tx: Tx, row: Row, past: Past, found: Placement) -> None:
    text = f"Provider {found.offer.name!r} is asked to run it."
    if not await keep(tx, jobs, row, reason=JobReason.LEASED, reason_text=text):
        return
    now, terms = co.clock(), found.offer.terms
    await tx.run(
        sa.insert(attempts).values(
            attempt_id=co.new_id("attempt"),
            job_id=row.job_id,
            number=past.number + 1,
            node_id=found.offer.node_id,
            node_key=found.offer.key,
            provider=found.offer.provider,
            payout=found.offer.payout,
            provider_name=found.offer.name,
            device=terms.device,
            sandbox=terms.sandbox,
            numeric_class=terms.numeric_class,
            verifier=found.verifier,
            price_usd_micros=found.price_usd_micros,
            lock_usd_micros=_lock(row, found),
            lease_id=co.new_id("lease"),
            state=AttemptState.OFFERED,
            step_from=row.steps_accepted,
            segment_from=row.segments_accepted,
            state_root=row.state_root,
            start=row.state,
            step_to=row.steps_accepted,
            step_seen=row.steps_accepted,
            created_s=now,
        )
    )
    await job_rows.tell(tx, row.job_id, "state", text, now=now, provider=found.offer.provider, device=terms.device)


def _lock(row: Row, found: Placement) -> int:
    plan = Quote.model_validate(row.quote).plan
    return sampling.lock_usd_micros(found.price_usd_micros, plan)


async def _wait(co: Coordinator, tx: Tx, row: Row, why: str) -> None:
    now = co.clock()
    kept = await keep(tx, jobs, row, due_s=now + _AGAIN_S, reason=JobReason.NO_OFFER, reason_text=why)
    if kept and why != row.reason_text:
        await job_rows.tell(tx, row.job_id, "state", why, now=now)
