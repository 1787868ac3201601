"""Stage 6, settlement: the statement that pays exactly the accepted work, settled once, and the bill."""

from collections.abc import Sequence

import sqlalchemy as sa
import structlog
from eth_utils.address import to_checksum_address

from gristmill_coordinator import views
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.chain.batches import Batch, Payment, plan
from gristmill_coordinator.chain.port import SettleCall
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain import orders, pricing
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.domain.jobs import PAYING, Ending, JobReason, before, final
from gristmill_coordinator.domain.windows import PAYABLE
from gristmill_coordinator.stages.loop import REFUSED_AGAIN_S, put_off
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, change, claimed, grant, keep
from gristmill_coordinator.store.tables import attempts, certificates, jobs, statements, transactions, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.errors import ChainUnavailable, Conflict, NotFound
from gristmill_protocol.jobs import AttemptState, JobView, Quote, SignedStatement, Statement, WindowState
from gristmill_protocol.ladder import statement_for
from gristmill_protocol.money import format_usd

logger = structlog.get_logger()

_AGAIN_S = 1.0
_UNPAID_AGAIN_S = 30.0

# Of LedgerTypes.Skip.
_EXPIRED, _NONCE_USED, _UNFUNDED = 2, 3, 6

_WAITS = {
    JobReason.UNFUNDED: "The account's balance is too low for the payment; deposit, and it is tried again.",
    JobReason.TOO_DEAR: "Gas costs too much for this payment alone; it waits for others, or for cheaper gas.",
}
_UNPAID = {
    JobReason.UNFUNDED: "The account's balance was too low until the payment's deadline.",
    JobReason.TOO_DEAR: "Until its deadline, gas would have cost more than the payment.",
}


async def step(co: Coordinator) -> int:
    """Choose statements, have them sent, confirm payments; how many moved on."""
    return await _choose(co) + await _batch(co) + await _confirm(co)


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
        held = await job_rows.held(tx, job_id)
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
    held = await job_rows.held(tx, row.job_id)
    signed = pricing.choose(wanted, held)
    asked_s = row.wanted_s or now
    if signed is None and now > await _patient_until(co, tx, row, asked_s):
        signed = pricing.best_below(wanted, held)
    if signed is not None:
        text = "The payment is on its way."
        statement_id = statement_key(signed.statement)
        reason = JobReason.STATEMENT_HELD
        await job_rows.note_payable(tx, row.job_id)
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


async def _patient_until(co: Coordinator, tx: Tx, row: Row, asked_s: float) -> float:
    """Until when the renter may sign what is wanted; not for long while the money is being withdrawn."""
    event = (await chain_events.withdrawals(tx)).get(_nonce(row)[0])
    grace_s = co.config.signature_grace_s
    return asked_s + (grace_s if event is None else min(grace_s, (event.args["unlockAt"] - asked_s) / 2))


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
    """Have the sender settle what is to be paid, as far as it is worth the gas. What is paid already is done."""
    config = co.config
    where = sa.and_(jobs.c.reason.in_(PAYING), jobs.c.transaction_id.is_(None))
    rows = await co.store.claim(jobs, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    async with co.store.read() as tx:
        signed = await _chosen(tx, rows)
        paid = await chain_events.payments(tx, config, [_nonce(row) for row in rows])
        leaving = await chain_events.withdrawals(tx)
    open_ = [row for row in rows if not (_nonce(row) in paid or _expired(co, signed[row.job_id]))]
    try:
        payments = [_payment(co, row, signed[row.job_id], leaving=_nonce(row)[0] in leaving) for row in open_]
        batches = await plan(co, payments) if payments else []
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", stage="settlement", jobs=len(rows), why=err.what)
        await put_off(co, jobs, rows)
        return 0
    except Conflict as err:
        logger.error("chain_refused", stage="settlement", jobs=len(rows), why=err.what)
        await put_off(co, jobs, rows, REFUSED_AGAIN_S)
        return 0
    async with co.store.write() as tx:
        held = {row.job_id: row for row in rows if await claimed(tx, jobs, row)}
        for batch in batches:
            await _submit(co, tx, held, batch)
        for row in held.values():  # those in no batch
            event = paid.get(_nonce(row))
            if event is not None or _expired(co, signed[row.job_id]):
                await _end(co, tx, row, event)
            else:
                await _wait(co, tx, row, JobReason.TOO_DEAR)
    return len(rows)


async def _submit(co: Coordinator, tx: Tx, held: dict[str, Row], batch: Batch) -> None:
    """Leave a batch for the sender, without the jobs that somebody else has changed meanwhile."""
    mine = [one for one in batch.payments if one.job_id in held]
    if not mine:
        return
    call = SettleCall(batch=tuple(one.signed for one in mine))
    transaction_id = await submit(co, tx, call, worth_usd_micros=batch.worth_usd_micros)
    for one in mine:
        await keep(tx, jobs, held.pop(one.job_id), transaction_id=transaction_id)


async def _confirm(co: Coordinator) -> int:
    """Close what was settled: what is paid, by an event that is final, is done; what is not is tried again later."""
    config = co.config
    final_ = sa.exists().where(
        transactions.c.transaction_id == jobs.c.transaction_id, transactions.c.outcome != Outcome.PENDING
    )
    where = sa.and_(jobs.c.reason.in_(PAYING), jobs.c.transaction_id.is_not(None), final_)
    rows = await co.store.claim(jobs, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    async with co.store.write() as tx:
        sent = await job_rows.by_id(tx, transactions, [row.transaction_id for row in rows])
        paid = await chain_events.payments(tx, config, [_nonce(row) for row in rows])
        for row in rows:
            if not await claimed(tx, jobs, row):
                continue
            if _nonce(row) in paid:
                await _end(co, tx, row, paid[_nonce(row)])
            else:
                await _retry(co, tx, row, sent[row.transaction_id])
    return len(rows)


async def _retry(co: Coordinator, tx: Tx, row: Row, sent: Row) -> None:
    """Free a job that its settlement did not pay, for another one."""
    if sent.outcome == Outcome.SUCCEEDED:
        why = (await chain_events.skipped(tx, [_nonce(row)], sent.tx_hash)).get(_nonce(row))
        if why not in (_UNFUNDED, _EXPIRED, _NONCE_USED):
            logger.error("statement_not_paid", job_id=row.job_id, tx_hash=sent.tx_hash, why=why)
        await _wait(co, tx, row, JobReason.STATEMENT_HELD if why == _NONCE_USED else JobReason.UNFUNDED)
    else:
        await _wait(co, tx, row, JobReason.TOO_DEAR if sent.outcome == Outcome.TOO_DEAR else JobReason(row.reason))


async def _wait(co: Coordinator, tx: Tx, row: Row, reason: JobReason) -> None:
    now = co.clock()
    text = _WAITS.get(reason, row.reason_text)
    await keep(tx, jobs, row, due_s=now + _UNPAID_AGAIN_S, reason=reason, reason_text=text, transaction_id=None)
    if row.reason != reason:
        await job_rows.tell(tx, row.job_id, "payment", text, now=now)


async def _end(co: Coordinator, tx: Tx, row: Row, payment: Row | None) -> bool:
    """DONE, STOPPED or FAILED; the last thing that happens to a job.

    Args:
        payment: the StatementSettled event that paid it.
    """
    ending, now = Ending(row.ending), co.clock()
    reason = final(ending)
    paid = 0 if payment is None else payment.amount_usd_micros
    text = f"It is done; {format_usd(paid)} USD was paid."
    if ending is not Ending.NONE:
        text = f"{row.ending_text} {format_usd(paid)} USD was paid for the verified part."
    if payment is None:
        text = f"{text} {_UNPAID.get(JobReason(row.reason), '')}".rstrip()
    values = {
        "statement_id": await _paid_by(tx, row, payment),
        "settle_tx": None if payment is None else payment.tx_hash,
        "paid_usd_micros": paid,
    }
    running = sa.and_(jobs.c.job_id == row.job_id, jobs.c.reason.in_(before(reason)))
    if not await change(tx, jobs, running, reason=reason, reason_text=text, wanted=None, **values):
        return False
    if payment is None:
        logger.warning("job_unpaid", job_id=row.job_id, reason=reason)
    passed = sa.and_(windows.c.job_id == row.job_id, windows.c.state.in_(PAYABLE))
    await tx.run(sa.update(windows).where(passed).values(state=WindowState.PAID))
    if reason is JobReason.DONE:
        await tx.add(certificates, {"job_id": row.job_id, "signatures": {}, "unsigned": {}})
        tx.wake("certifying")
    await job_rows.tell(tx, row.job_id, "payment", text, now=now, paid_usd_micros=paid)
    await job_rows.tell(tx, row.job_id, "state", f"The job is {reason.state}.", now=now, state=reason.state)
    logger.info("job_ended", job_id=row.job_id, reason=reason, paid_usd_micros=paid)
    return True


async def _paid_by(tx: Tx, row: Row, payment: Row | None) -> str | None:
    """The statement that an event paid. A provider may have handed in an earlier rung of the ladder than we chose."""
    if payment is None:
        return None
    chosen = (await _chosen(tx, [row]))[row.job_id].statement
    held = [chosen, *(signed.statement for signed in await job_rows.held(tx, row.job_id))]
    matching = [one for one in held if one.total_usd_micros == payment.amount_usd_micros]
    return statement_key(matching[0] if matching else chosen)


def _nonce(row: Row) -> chain_events.Nonce:
    """Under which the job is paid, whatever statement of it is settled."""
    return to_checksum_address(row.renter), row.nonce


def _payment(co: Coordinator, row: Row, signed: SignedStatement, *, leaving: bool) -> Payment:
    """A payment waits for no company when its deadline is near, or the money that backs it is being withdrawn."""
    urgent = leaving or co.clock() > signed.statement.deadline_s - co.config.settle_within_s
    return Payment(row.job_id, signed, urgent)


def _expired(co: Coordinator, signed: SignedStatement) -> bool:
    return co.clock() > signed.statement.deadline_s


async def _chosen(tx: Tx, rows: Sequence[Row]) -> dict[str, SignedStatement]:
    """The statement that is to pay each of these jobs."""
    one = statements.c
    these = sa.tuple_(one.job_id, one.statement_id).in_([(row.job_id, row.statement_id) for row in rows])
    found = await tx.rows(sa.select(statements).where(these))
    return {row.job_id: SignedStatement.model_validate(row.signed) for row in found}


def statement_key(statement: Statement) -> str:
    """The statement's id in the store: SHA-256 of its canonical JSON."""
    return sha256_json(statement.model_dump(mode="json")).hex()
