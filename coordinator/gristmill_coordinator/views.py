"""What a renter sees of jobs and the market; of its money, see accounts. Reads only; a renter sees only its own jobs.

A renter is named by the lower-case 0x address of its hot key.
"""

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa

from gristmill_coordinator import wake
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import WATCHER, position
from gristmill_coordinator.domain import pricing
from gristmill_coordinator.domain.jobs import ACTIVE, UNENDED, JobReason, reasons
from gristmill_coordinator.domain.modes import why_drawn
from gristmill_coordinator.domain.windows import UNJUDGED
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import tables
from gristmill_coordinator.store.store import Row, Tx
from gristmill_protocol.api import ChainHealth, HealthView, OfferView
from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import (
    ArtifactRef,
    AttemptState,
    AttemptView,
    AuditView,
    Bill,
    DisputeView,
    JobEvent,
    JobState,
    JobView,
    Quote,
    SignedStatement,
    SlashView,
    Statement,
    WindowView,
)

_MAX_EVENTS = 500
_MAX_JOBS = 200


async def job(co: Coordinator, renter: str, job_id: str) -> JobView:
    """Raises:
    NotFound: no such job of this renter.
    """
    async with co.store.read() as tx:
        row = await _mine(tx, renter, job_id)
        return (await _views(co, tx, [row]))[0]


async def jobs(co: Coordinator, renter: str) -> list[JobView]:
    """The renter's jobs, newest first, at most 200."""
    query = sa.select(tables.jobs).where(tables.jobs.c.renter == renter)
    async with co.store.read() as tx:
        rows = await tx.rows(query.order_by(tables.jobs.c.created_s.desc(), tables.jobs.c.job_id).limit(_MAX_JOBS))
        return await _views(co, tx, rows)


async def events(co: Coordinator, renter: str, job_id: str, after: int, wait_s: float = 0) -> list[JobEvent]:
    """The job's events with seq > after, oldest first, at most 500; waits up to wait_s for the first one.

    Raises:
        NotFound: no such job of this renter.
    """
    event = co.wake.event(job_id)
    found = await _events(co, renter, job_id, after)
    if not found and wait_s > 0:
        await wake.wait(event, wait_s)
        found = await _events(co, renter, job_id, after)
    return found


async def reserved_usd_micros(tx: Tx, renter: str) -> int:
    """The caps of the renter's jobs that have not ended."""
    one = tables.jobs.c
    query = sa.select(sa.func.sum(one.cap_usd_micros)).where(one.renter == renter, one.reason.in_(UNENDED))
    return int(await tx.value(query) or 0)


async def market(co: Coordinator) -> list[OfferView]:
    """What the connected machines offer, cheapest ask first."""
    async with co.store.read() as tx:
        co.book.load(await job_rows.loads(tx), await job_rows.locks(tx))
    offers = [offer for offer in co.book.alive(listening_since(co)) if not offer.terms.paused]
    offers.sort(key=lambda offer: (offer.terms.ask_usd_micros_per_gpu_hour, offer.node_id))
    return [offer_view(co, offer) for offer in offers]


def offer_view(co: Coordinator, offer: Offer) -> OfferView:
    """A machine of the book; its load is as it was last read."""
    return OfferView(
        node_id=offer.node_id,
        provider=offer.provider,
        provider_name=offer.name,
        device=offer.terms.device,
        is_cpu=offer.terms.is_cpu,
        memory_bytes=offer.terms.memory_bytes,
        flops_per_s=offer.terms.flops_per_s,
        ask_usd_micros_per_gpu_hour=offer.terms.ask_usd_micros_per_gpu_hour,
        slots=offer.terms.slots,
        slots_free=co.book.free_slots(offer.node_id),
        sandbox=offer.terms.sandbox,
        standing=offer.standing,
        standing_text=offer.standing_text,
        proven_ms=int(offer.proven_s * 1000),
    )


async def health(co: Coordinator) -> HealthView:
    """Whether a person is needed."""
    watcher = await position(co, WATCHER)
    async with co.store.read() as tx:
        standing = sa.select(sa.func.count()).where(tables.alarms.c.cleared_s == 0)
        alarms = int(await tx.value(standing) or 0)
        waiting = sa.select(sa.func.count()).where(tables.jobs.c.reason.in_(reasons(JobState.QUEUED)))
        waiting_jobs = int(await tx.value(waiting) or 0)
        made_s = await tx.value(sa.select(tables.blocks.c.at_s).where(tables.blocks.c.number == watcher.block))
    behind_s = max(0, int(co.clock()) - (made_s or 0))
    return HealthView(
        status="alarm" if alarms else "chain_trouble" if watcher.trouble else "ok",
        alarms=alarms,
        waiting_jobs=waiting_jobs,
        chain=ChainHealth(block=watcher.block, behind_s=behind_s, trouble=watcher.trouble),
    )


async def _mine(tx: Tx, renter: str, job_id: str) -> Row:
    one = tables.jobs.c
    row = await tx.row(sa.select(tables.jobs).where(one.job_id == job_id, one.renter == renter))
    if row is None:
        raise NotFound(f"You have no job {job_id}.", todo="List your jobs to see their ids.")
    return row


async def _events(co: Coordinator, renter: str, job_id: str, after: int) -> list[JobEvent]:
    one = tables.events.c
    query = sa.select(tables.events).where(one.job_id == job_id, one.seq > after).order_by(one.seq).limit(_MAX_EVENTS)
    async with co.store.read() as tx:
        await _mine(tx, renter, job_id)
        return [
            JobEvent(seq=row.seq, at_ms=row.at_ms, kind=row.kind, text=row.text, fields=row.fields)
            for row in await tx.rows(query)
        ]


async def _views(co: Coordinator, tx: Tx, rows: Sequence[Row]) -> list[JobView]:
    """Views of these jobs, with one query per table whatever their number."""
    ids = [row.job_id for row in rows]
    attempts = await _by_job(tx, tables.attempts, ids, tables.attempts.c.number)
    windows = await _by_job(tx, tables.windows, ids, tables.windows.c.first_index)
    audits = await _by_job(tx, tables.audits, ids, tables.audits.c.segment)
    disputes = await _by_job(tx, tables.disputes, ids, tables.disputes.c.window_id)
    statements = await _by_job(tx, tables.statements, [row.job_id for row in rows if row.statement_id], None)
    anchors = await job_rows.by_id(tx, tables.anchors, [w.anchor_id for ws in windows.values() for w in ws])
    sent = await job_rows.by_id(tx, tables.transactions, [anchor.transaction_id for anchor in anchors.values()])
    anchor_txs = {anchor.anchor_id: newest_hash(sent.get(anchor.transaction_id)) for anchor in anchors.values()}
    return [
        _view(
            row,
            attempts=attempts[row.job_id],
            windows=[_window(w, audits[row.job_id], anchor_txs.get(w.anchor_id)) for w in windows[row.job_id]],
            disputes=disputes[row.job_id],
            bill=_bill(row, statements[row.job_id], attempts[row.job_id]),
        )
        for row in rows
    ]


async def _by_job(
    tx: Tx, table: sa.Table, ids: Sequence[str], order: sa.ColumnElement[int] | sa.ColumnElement[str] | None
) -> dict[str, list[Row]]:
    query = sa.select(table).where(table.c.job_id.in_(ids))
    found: dict[str, list[Row]] = defaultdict(list)
    for row in await tx.rows(query if order is None else query.order_by(order)):
        found[row.job_id].append(row)
    return found


def _view(
    row: Row, *, attempts: list[Row], windows: list[WindowView], disputes: list[Row], bill: Bill | None
) -> JobView:
    quote = Quote.model_validate(row.quote)
    state = JobReason(row.reason).state
    unjudged = {window.attempt_id for window in windows if window.state in UNJUDGED}
    open_ = [one for one in attempts if one.state in ACTIVE or one.attempt_id in unjudged]
    finished = attempts[-1].finished if state is JobState.DONE and attempts else None
    return JobView(
        job_id=row.job_id,
        name=row.spec["name"],
        recipe=row.recipe,
        state=state,
        reason=row.reason_text,
        created_ms=int(row.created_s * 1000),
        price_usd_micros=quote.price_usd_micros,
        cap_usd_micros=quote.cap_usd_micros,
        mode=quote.mode,
        guarantee=quote.guarantee,
        steps_total=quote.plan.steps,
        steps_done=max([row.steps_accepted, *(max(a.step_seen, a.step_to) for a in open_)]),
        steps_accepted=row.steps_accepted,
        last_event=row.last_event,
        attempts=tuple(_attempt(attempt) for attempt in attempts),
        windows=tuple(windows),
        slashes=tuple(
            SlashView(
                provider=one.provider,
                provider_name=one.provider_name,
                amount_usd_micros=one.slashed_usd_micros,
                tx=one.tx_hash,
                reason=one.reason,
            )
            for one in disputes
            if one.slashed_usd_micros
        ),
        disputes=tuple(_dispute(one) for one in disputes),
        outputs={} if finished is None else {name: ArtifactRef(**ref) for name, ref in finished["files"].items()},
        final_state_root=row.state_root if state is JobState.DONE else None,
        scorecard=None if finished is None else finished["scorecard"],
        bill=bill,
        signature_wanted=None if row.wanted is None else Statement.model_validate(row.wanted),
    )


def _attempt(row: Row) -> AttemptView:
    return AttemptView(
        attempt_id=row.attempt_id,
        number=row.number,
        state=AttemptState(row.state),
        reason=row.reason,
        provider=row.provider,
        provider_name=row.provider_name,
        device=row.device,
        price_usd_micros=row.price_usd_micros,
        step_from=row.step_from,
        step_to=row.step_to,
    )


def _window(row: Row, audits: list[Row], anchor_tx: str | None) -> WindowView:
    return WindowView(
        window_id=row.window_id,
        attempt_id=row.attempt_id,
        state=row.state,
        root=row.root,
        anchor_tx=anchor_tx,
        beacon=row.beacon,
        first_index=row.first_index,
        segments=row.segments,
        samples_ppm=row.samples_ppm,
        basis=row.basis,
        audits=tuple(
            AuditView(
                window_id=row.window_id,
                segment=audit.segment,
                # Not before it has answered: a renter may be the provider's friend.
                verifier=0 if audit.replayed is None else audit.verifier,
                verifier_name="" if audit.replayed is None else audit.verifier_name,
                outcome=audit.outcome,
                why_drawn=why_drawn(audit.why),
            )
            for audit in audits
            if audit.window_id == row.window_id
        ),
        reason=row.reason,
    )


async def paid_statement(tx: Tx, row: Row) -> SignedStatement | None:
    """The statement that paid an ended job."""
    one = tables.statements.c
    query = sa.select(one.signed).where(one.job_id == row.job_id, one.statement_id == row.statement_id)
    signed = await tx.value(query)
    return None if signed is None else SignedStatement.model_validate(signed)


def _dispute(row: Row) -> DisputeView:
    return DisputeView(
        window_id=row.window_id,
        dispute=row.dispute,
        provider=row.provider,
        provider_name=row.provider_name,
        amount_usd_micros=row.amount_usd_micros,
        reason=row.reason,
        course=row.course,
        closed=row.closed,
        tx=row.tx_hash,
    )


def newest_hash(sent: Row | None) -> str | None:
    """The hash under which a transaction was last sent, or under which a block holds it; None before."""
    if sent is None or not sent.sends:
        return None
    newest: str = sent.tx_hash or sent.sends[-1]["hash"]
    return newest


def _bill(row: Row, statements: list[Row], attempts: list[Row]) -> Bill | None:
    """The bill of a job that is paid for; none while it is not, and none if nothing was due."""
    held = next((one.signed for one in statements if one.statement_id == row.statement_id), None)
    if held is None or not JobReason(row.reason).state.ended:
        return None
    quote = Quote.model_validate(row.quote)
    return pricing.bill(
        SignedStatement.model_validate(held).statement,
        verifier_bps=quote.verifier_bps,
        royalty_bps=quote.royalty_bps,
        settle_tx=row.settle_tx,
        ran_by={one.provider for one in attempts},
    )
