"""Stage 6, settlement: the statement that pays exactly the accepted work, settled once, and the bill."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator import views
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import orders, pricing
from gristmill_coordinator.domain.jobs import Ending, JobReason, before, final
from gristmill_coordinator.domain.windows import PAYABLE
from gristmill_coordinator.stages.loop import each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, change, grant, keep
from gristmill_coordinator.store.tables import attempts, jobs, settlements, statements, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.errors import Conflict, NotFound
from gristmill_protocol.jobs import AttemptState, JobView, Quote, SignedStatement, Statement, WindowState
from gristmill_protocol.ladder import statement_for
from gristmill_protocol.money import format_usd

logger = structlog.get_logger()

_AGAIN_S = 1.0
_UNFUNDED_AGAIN_S = 30.0


async def step(co: Coordinator) -> int:
    """Choose statements, send them, confirm payments; how many moved on."""
    return await _choose(co) + await _batch(co) + await _send(co) + await _confirm(co)


async def add_statement(co: Coordinator, renter: str, job_id: str, signed: SignedStatement) -> JobView:
    """Take the statement that the job's signature_wanted asked for; the same again changes nothing.

    Raises:
        NotFound: no such job of this renter.
        BadSignature: the renter's key did not sign it.
        Conflict: this is not the statement that was asked for.
    """
    orders.require_statement(signed, renter, co.chain.info.ledger_domain)
    async with co.store.write() as tx:
        mine = sa.and_(jobs.c.job_id == job_id, jobs.c.renter == renter)
        row = await tx.row(sa.select(jobs).where(mine).with_for_update())
        if row is None:
            raise NotFound(f"You have no job {job_id}.")
        held = await _held(tx, job_id)
        wanted = None if row.wanted is None else Statement.model_validate(row.wanted)
        if signed.statement not in [one.statement for one in held] and signed.statement != wanted:
            raise Conflict(
                "This is not the statement that the job asks for.",
                effect="It was not stored.",
                todo="Sign the job's signature_wanted.",
            )
        await job_rows.hold(tx, job_id, signed)
        await change(tx, jobs, mine, reason=row.reason)
        tx.wake("settlement")
    return await views.job(co, renter, job_id)


async def _choose(co: Coordinator) -> int:
    """Find the held statement that pays the accepted work, or ask the renter to sign one."""
    config = co.config
    where = jobs.c.reason.in_((JobReason.ACCEPTED, JobReason.SIGNATURE_WANTED))
    rows = await co.store.claim(jobs, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    chosen = 0
    if rows:
        async with co.store.write() as tx:
            for row in rows:
                chosen += await _choose_one(co, tx, row)
    return chosen


async def _choose_one(co: Coordinator, tx: Tx, row: Row) -> bool:
    now, quote = co.clock(), Quote.model_validate(row.quote)
    wanted = statement_for(quote, await job_rows.accepted_work(tx, row.job_id))
    if wanted is None:
        await _hand_over(tx, row)
        return await _end(co, tx, row, None)
    held = await _held(tx, row.job_id)
    signed = pricing.choose(wanted, held)
    asked_s = row.wanted_s or now
    if signed is None and now > asked_s + co.config.signature_grace_s:
        signed = pricing.best_below(wanted, held)
    if signed is not None:
        text = "The payment is on its way."
        statement_id = statement_key(signed.statement)
        reason = JobReason.STATEMENT_HELD
        kept = await keep(tx, jobs, row, reason=reason, reason_text=text, statement_id=statement_id, wanted=None)
        if kept:
            await _hand_over(tx, row)
        return kept
    if now > quote.deadline_s:
        return await _end(co, tx, row, None)
    text = "What happened is not covered by what you signed: please sign one more statement."
    await keep(
        tx,
        jobs,
        row,
        due_s=now + _AGAIN_S,
        reason=JobReason.SIGNATURE_WANTED,
        reason_text=text,
        wanted=wanted.model_dump(mode="json"),
        wanted_s=asked_s,
    )
    if row.wanted is None:
        await job_rows.tell(tx, row.job_id, "payment", text, now=now, total_usd_micros=wanted.total_usd_micros)
        return True
    return False


async def _hand_over(tx: Tx, row: Row) -> None:
    """Open the result to the renter: a statement that pays for it is held."""
    if row.ending != Ending.NONE:
        return
    last = sa.select(attempts.c.finished).where(
        attempts.c.job_id == row.job_id, attempts.c.state == AttemptState.FINISHED
    )
    finished = await tx.value(last.order_by(attempts.c.number.desc()).limit(1))
    for ref in (finished or {"files": {}})["files"].values():
        await grant(tx, ref["sha256"], f"renter:{row.renter}")


async def _batch(co: Coordinator) -> int:
    """Put the jobs with a statement into one settlement. The intent is stored before anything is sent."""
    config = co.config
    where = sa.and_(jobs.c.reason.in_((JobReason.STATEMENT_HELD, JobReason.UNFUNDED)), jobs.c.settlement_id.is_(None))
    rows = await co.store.claim(jobs, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    settlement_id = co.new_id("settlement")
    async with co.store.write() as tx:
        await tx.run(sa.insert(settlements).values(settlement_id=settlement_id))
        for row in rows:
            await keep(tx, jobs, row, settlement_id=settlement_id)
    return len(rows)


async def _send(co: Coordinator) -> int:
    """Send settlements. What the chain has paid already, because we died after sending, is not sent again."""
    where = sa.and_(settlements.c.tx_hash.is_(None), ~settlements.c.closed)
    rows = await co.store.claim(settlements, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    return await each(co, settlements, rows, _send_one)


async def _send_one(co: Coordinator, row: Row) -> int:
    async with co.store.read() as tx:
        paying = await _paying(tx, row.settlement_id)
    unpaid = [signed for job, signed in paying if not await co.chain.nonce_used(job.renter, signed.statement.nonce)]
    tx_hash = await co.chain.settle(unpaid) if unpaid else None
    async with co.store.write() as tx:
        if tx_hash is not None:
            return await keep(tx, settlements, row, tx_hash=tx_hash, sent_s=co.clock())
        await _close(co, tx, row, paying, {job.job_id: True for job, _ in paying})
    return 1


async def _confirm(co: Coordinator) -> int:
    """Close settlements that the chain has confirmed: what is paid is done, what is not is tried again later."""
    where = sa.and_(settlements.c.tx_hash.is_not(None), ~settlements.c.closed)
    rows = await co.store.claim(settlements, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    return await each(co, settlements, rows, _confirm_one)


async def _confirm_one(co: Coordinator, row: Row) -> int:
    state, now = await co.chain.tx(row.tx_hash), co.clock()
    if state is None or (state.succeeded and state.confirmations < co.config.confirmations):
        lost = state is None and now > row.sent_s + co.config.resend_tx_s
        async with co.store.write() as tx:
            await keep(tx, settlements, row, due_s=now + _AGAIN_S, tx_hash=None if lost else row.tx_hash)
        return False
    async with co.store.read() as tx:
        paying = await _paying(tx, row.settlement_id)
    paid = {job.job_id: await co.chain.nonce_used(job.renter, signed.statement.nonce) for job, signed in paying}
    async with co.store.write() as tx:
        await _close(co, tx, row, paying, paid)
    return True


async def _close(
    co: Coordinator, tx: Tx, settlement: Row, paying: list[tuple[Row, SignedStatement]], paid: dict[str, bool]
) -> None:
    if not await keep(tx, settlements, settlement, closed=True):
        return
    now = co.clock()
    for job, signed in paying:
        if paid[job.job_id]:
            await _end(co, tx, job, signed.statement)
            continue
        if now > signed.statement.deadline_s:
            await tx.run(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(statement_id=None))
            await _end(co, tx, job, None)
            continue
        text = "The account's balance is too low for the payment; deposit, and it is tried again."
        this = jobs.c.job_id == job.job_id
        await change(tx, jobs, this, reason=JobReason.UNFUNDED, reason_text=text, settlement_id=None)
        await tx.run(sa.update(jobs).where(this).values(due_s=now + _UNFUNDED_AGAIN_S))
        if job.reason != JobReason.UNFUNDED:
            await job_rows.tell(tx, job.job_id, "payment", text, now=now)


async def _end(co: Coordinator, tx: Tx, row: Row, statement: Statement | None) -> bool:
    """DONE, STOPPED or FAILED; the last thing that happens to a job."""
    ending, now = Ending(row.ending), co.clock()
    reason = final(ending)
    paid = 0 if statement is None else statement.total_usd_micros
    text = {
        Ending.NONE: f"It is done; {format_usd(paid)} USD was paid.",
        Ending.STOPPED: f"You stopped it; {format_usd(paid)} USD was paid for the verified part.",
        Ending.FAILED: f"{row.ending_text} {format_usd(paid)} USD was paid for the verified part.",
    }[ending]
    running = sa.and_(jobs.c.job_id == row.job_id, jobs.c.reason.in_(before(reason)))
    if not await change(tx, jobs, running, reason=reason, reason_text=text, wanted=None):
        return False
    if statement is None:
        logger.warning("job_unpaid", job_id=row.job_id, reason=reason)
    passed = sa.and_(windows.c.job_id == row.job_id, windows.c.state.in_(PAYABLE))
    await tx.run(sa.update(windows).where(passed).values(state=WindowState.PAID))
    await job_rows.tell(tx, row.job_id, "payment", text, now=now, paid_usd_micros=paid)
    await job_rows.tell(tx, row.job_id, "state", f"The job is {reason.state}.", now=now, state=reason.state)
    logger.info("job_ended", job_id=row.job_id, reason=reason, paid_usd_micros=paid)
    return True


async def _paying(tx: Tx, settlement_id: str) -> list[tuple[Row, SignedStatement]]:
    """The settlement's jobs that have not ended, each with the statement that pays it."""
    where = sa.and_(
        jobs.c.settlement_id == settlement_id, jobs.c.reason.in_((JobReason.STATEMENT_HELD, JobReason.UNFUNDED))
    )
    found = await tx.rows(sa.select(jobs).where(where).order_by(jobs.c.job_id))
    mine = statements.c.job_id.in_([row.job_id for row in found])
    signed = {
        (row.job_id, row.statement_id): SignedStatement.model_validate(row.signed)
        for row in await tx.rows(sa.select(statements).where(mine))
    }
    return [(row, signed[row.job_id, row.statement_id]) for row in found]


async def _held(tx: Tx, job_id: str) -> list[SignedStatement]:
    query = sa.select(statements.c.signed).where(statements.c.job_id == job_id).order_by(statements.c.statement_id)
    return [SignedStatement.model_validate(row.signed) for row in await tx.rows(query)]


def statement_key(statement: Statement) -> str:
    """The statement's id in the store: SHA-256 of its canonical JSON."""
    return sha256_json(statement.model_dump(mode="json")).hex()
