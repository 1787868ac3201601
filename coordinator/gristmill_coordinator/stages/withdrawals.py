"""Beside the stages: money that its owner takes out of an account.

A request to withdraw leaves 24 hours. In them, what jobs have earned is settled: a job that the rest does not cover is
stopped at its last verified step, and settlement lets no payment of such an account wait. The operator's bond in
contracts/src/Cover.sol depends on that. After them, a withdrawal that was asked for through us is paid out.
"""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.chain.cursors import WITHDRAWALS, take, watched
from gristmill_coordinator.chain.port import WithdrawCall
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.domain.jobs import UNENDED, Ending, JobReason, before
from gristmill_coordinator.stages import relaying
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, keep
from gristmill_coordinator.store.tables import blocks, cursors, jobs, relays, transactions
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.money import format_usd
from gristmill_protocol.wallet import WITHDRAWAL_DELAY_S

logger = structlog.get_logger()

_AGAIN_S = 3.0
_PAY_AGAIN_S = 60.0
_STOPPABLE = before(JobReason.STOP_ASKED)


async def step(co: Coordinator) -> int:
    """Look at every withdrawal under way, once for each new block; how many jobs were stopped and payouts begun."""
    lock = await take(co, WITHDRAWALS) if await _is_news(co) else None
    if lock is None:
        return 0
    moved, due_s = 0, 0.0
    async with co.store.read() as tx:
        block = int(await tx.value(sa.select(watched())) or 0)
        now_s = int(await tx.value(sa.select(blocks.c.at_s).where(blocks.c.number == block)) or 0)
        leaving = await chain_events.withdrawals(tx)
    try:
        for key, event in leaving.items():
            moved += await _stop_jobs(co, key, event, now_s)
            if event.args["unlockAt"] <= now_s:
                moved += await _pay_out(co, key, event)
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", stage="withdrawals", why=err.what)
        block, due_s = lock.block, co.clock() + _AGAIN_S
    async with co.store.write() as tx:
        await keep(tx, cursors, lock, block=block, due_s=due_s)
    return moved


async def _is_news(co: Coordinator) -> bool:
    done_to = sa.select(cursors.c.block).where(cursors.c.name == WITHDRAWALS).scalar_subquery()
    async with co.store.read() as tx:
        block, done = (await tx.rows(sa.select(watched(), done_to)))[0]
    return bool(block is not None and block != done)


async def _stop_jobs(co: Coordinator, key: str, event: Row, now_s: int) -> int:
    """Stop the newest jobs that what is left does not cover; how many.

    What is ending already is settled before the money leaves, and mostly for less than its cap: it counts in the second
    half of the 24 hours only.
    """
    async with co.store.read() as tx:
        open_ = sa.and_(jobs.c.renter == key.lower(), jobs.c.reason.in_(UNENDED))
        rows = await tx.rows(sa.select(jobs).where(open_).order_by(jobs.c.created_s, jobs.c.job_id))
    running = [row for row in rows if _may_stop(row)]
    if not running:
        return 0
    left = (await co.chain.account(key)).balance_usd_micros
    if now_s > event.args["unlockAt"] - WITHDRAWAL_DELAY_S // 2:
        left -= sum(row.cap_usd_micros for row in rows if not _may_stop(row))
    stopped = 0
    for row in running:
        if row.cap_usd_micros > left:
            stopped += await _stop(co, row, event)
        else:
            left -= row.cap_usd_micros
    return stopped


def _may_stop(row: Row) -> bool:
    return row.reason in _STOPPABLE and row.ending == Ending.NONE


async def _stop(co: Coordinator, row: Row, event: Row) -> bool:
    why = (
        f"You asked to withdraw {format_usd(event.amount_usd_micros)} USD, and what is left does not cover the "
        f"{format_usd(row.cap_usd_micros)} USD that this job may cost, so it was stopped at its last verified step."
    )
    async with co.store.write() as tx:
        if not await job_rows.stop(tx, row.job_id, why):
            return False
        await job_rows.tell(tx, row.job_id, "state", why, now=co.clock(), withdrawal_tx=event.tx_hash)
    logger.info("job_stopped_by_withdrawal", job_id=row.job_id, cap_usd_micros=row.cap_usd_micros)
    return True


async def _pay_out(co: Coordinator, key: str, event: Row) -> bool:
    """Have a withdrawal that was asked for through us paid; whether that was begun now."""
    relay_id = f"withdraw-{event.tx_hash}-{event.log_index}"
    asked = sa.select(relays.c.relay_id).where(relays.c.renter == key.lower(), relays.c.kind == "request_withdrawal")
    sent = sa.select(relays.c.created_s, transactions.c.outcome).join(
        transactions, transactions.c.transaction_id == relays.c.transaction_id
    )
    async with co.store.write() as tx:
        row = await tx.row(sent.where(relays.c.relay_id == relay_id))
        if await tx.row(asked.limit(1)) is None or (row is not None and not _to_try_again(row, co.clock())):
            return False
        await relaying.write(co, tx, key.lower(), relay_id, WithdrawCall(key=key), worth_usd_micros=None)
    return True


def _to_try_again(row: Row, now: float) -> bool:
    failed = row.outcome not in (Outcome.PENDING, Outcome.SUCCEEDED)
    return failed and now > row.created_s + _PAY_AGAIN_S
