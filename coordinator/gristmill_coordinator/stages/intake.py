"""Stage 1, intake: a signed order, a reservation; and the renter's stop.

A renter is named by the lower-case 0x address of its hot key, here and in views.
"""

import asyncio

import sqlalchemy as sa
import structlog

from gristmill_coordinator import views
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import orders
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.stages.quoting import lock_renter
from gristmill_coordinator.stages.quoting import quote as quote
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import tables
from gristmill_coordinator.store.store import Tx
from gristmill_protocol.errors import BadData, BadRequest, BalanceBelowCap, Conflict, NotFound, QuoteExpired
from gristmill_protocol.jobs import ArtifactRef, JobSubmission, JobView, Quote
from gristmill_protocol.money import format_usd

logger = structlog.get_logger()


async def submit(co: Coordinator, renter: str, submission: JobSubmission) -> JobView:
    """Take an order; the same request_id again gives the same job.

    Raises:
        QuoteExpired, BadSignature, BalanceBelowCap, BadRequest, BadData: nothing was started or reserved.
        Conflict: the request id or the quote was used for another order.
    """
    async with co.store.read() as tx:
        known = await _job_of_request(tx, renter, submission)
    if known is not None:
        return await views.job(co, renter, known)
    quoted = await _quote(co, renter, submission.quote_id)
    orders.require_agreed(submission, quoted, renter=renter, coordinator=co.chain.info.coordinator_id)
    await asyncio.to_thread(orders.require_signatures, submission, renter, co.chain.info.ledger_domain)
    for ref in filter(None, (submission.spec.data, submission.spec.held_out)):
        await _require_data(co, renter, ref)
    account = await co.chain.account(renter)
    if account.coordinator != co.chain.info.coordinator_id:
        raise BadRequest(
            f"The account {renter} is not open at this coordinator.",
            effect="Nothing was started or reserved.",
            todo=f"Deposit into an account at coordinator {co.chain.info.coordinator_id}.",
        )
    async with co.store.write() as tx:
        await lock_renter(tx, renter)
        job_id = await _job_of_request(tx, renter, submission) or co.new_id("job")
        await _insert_job(co, tx, job_id, submission, quoted, account.balance_usd_micros)
    logger.info("job_submitted", job_id=job_id, cap_usd_micros=quoted.cap_usd_micros)
    return await views.job(co, renter, job_id)


async def stop(co: Coordinator, renter: str, job_id: str) -> JobView:
    """Ask a job to end; work that is already proven is paid. Stopping a job that is being settled changes nothing.

    Raises:
        NotFound: no such job of this renter.
    """
    jobs = tables.jobs
    async with co.store.write() as tx:
        mine = sa.and_(jobs.c.job_id == job_id, jobs.c.renter == renter)
        if await tx.row(sa.select(jobs.c.job_id).where(mine)) is None:
            raise NotFound(f"You have no job {job_id}.")
        if await job_rows.stop(tx, job_id, "You stopped it."):
            await job_rows.tell(tx, job_id, "state", "You stopped the job.", now=co.clock())
    return await views.job(co, renter, job_id)


async def _quote(co: Coordinator, renter: str, quote_id: str) -> Quote:
    quotes = tables.quotes.c
    async with co.store.read() as tx:
        found = await tx.value(sa.select(quotes.quote).where(quotes.quote_id == quote_id, quotes.renter == renter))
    quoted = None if found is None else Quote.model_validate(found)
    if quoted is None or quoted.expires_s < co.clock():
        raise QuoteExpired(
            "The quote has expired, or was never made.",
            effect="Nothing was started or charged.",
            todo="Ask for a new quote.",
        )
    return quoted


async def _job_of_request(tx: Tx, renter: str, submission: JobSubmission) -> str | None:
    jobs = tables.jobs.c
    mine = sa.and_(jobs.renter == renter, jobs.request_id == submission.request_id)
    row = await tx.row(sa.select(jobs.job_id, jobs.quote_id).where(mine))
    if row is None:
        return None
    if row.quote_id != submission.quote_id:
        raise Conflict(
            f"The request id {submission.request_id!r} was used for another order.",
            todo="Use a fresh request id for every order.",
        )
    return str(row.job_id)


async def _require_data(co: Coordinator, renter: str, ref: ArtifactRef) -> None:
    known = await co.store.allowed(ref.sha256, f"renter:{renter}") and co.artifacts.has(ref.sha256)
    if not known or co.artifacts.size(ref.sha256) != ref.size_bytes:
        raise BadData(
            "The job's data are not here.",
            effect="Nothing was started or charged.",
            todo="Upload them first.",
        )


async def _insert_job(
    co: Coordinator, tx: Tx, job_id: str, submission: JobSubmission, quoted: Quote, balance_usd_micros: int
) -> None:
    """Store the job with its reservation, unless it is stored already. The renter is locked."""
    now, renter = co.clock(), submission.order.order.key.lower()
    known = sa.select(tables.jobs.c.job_id, tables.jobs.c.quote_id)
    taken = await tx.row(known.where(tables.jobs.c.quote_id == quoted.quote_id))
    if taken is not None and taken.job_id == job_id:
        return
    if taken is not None:
        raise Conflict("This quote was ordered already.", todo="Ask for a new quote.")
    reserved = await views.reserved_usd_micros(tx, renter)
    if balance_usd_micros - reserved < quoted.cap_usd_micros:
        raise _balance_below(balance_usd_micros, reserved, quoted.cap_usd_micros)
    await tx.run(
        sa.insert(tables.jobs).values(
            job_id=job_id,
            renter=renter,
            request_id=submission.request_id,
            quote_id=quoted.quote_id,
            recipe=submission.spec.recipe,
            spec=submission.spec.model_dump(mode="json"),
            quote=quoted.model_dump(mode="json"),
            order=submission.order.model_dump(mode="json"),
            nonce=quoted.nonce,
            cap_usd_micros=quoted.cap_usd_micros,
            steps=quoted.plan.steps,
            created_s=now,
            queued_s=now,
            reason=JobReason.SUBMITTED,
            reason_text="Looking for a machine.",
        )
    )
    for signed in submission.ladder:
        await job_rows.hold(tx, job_id, signed)
    await job_rows.tell(tx, job_id, "state", "The job is queued.", now=now)
    tx.wake("matching")


def _balance_below(balance: int, reserved: int, cap: int) -> BalanceBelowCap:
    return BalanceBelowCap(
        f"The account has {format_usd(max(0, balance - reserved))} USD free; "
        f"the job may cost up to {format_usd(cap)} USD.",
        effect="Nothing was started or reserved.",
        todo=f"Deposit {format_usd(cap - balance + reserved)} USD more, or lower the budget.",
        balance_usd_micros=balance,
        reserved_usd_micros=reserved,
        cap_usd_micros=cap,
    )
