"""After stage 5: a proven fraud costs the provider its whole stake; half of it goes to the renter."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.port import Award
from gristmill_coordinator.domain.pricing import split_slash
from gristmill_coordinator.stages.loop import each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, keep
from gristmill_coordinator.store.tables import jobs, slashes
from gristmill_protocol.errors import Conflict
from gristmill_protocol.money import format_usd

logger = structlog.get_logger()

_AGAIN_S = 1.0
_TREASURY = 0  # the Ledger's payee id of the commons


async def step(co: Coordinator) -> int:
    """Send slashes and confirm them; how many moved on."""
    rows = await co.store.claim(
        slashes, ~slashes.c.closed, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch
    )
    return await each(co, slashes, rows, _advance)


async def _advance(co: Coordinator, row: Row) -> int:
    return await (_send(co, row) if row.tx_hash is None else _confirm(co, row))


async def _send(co: Coordinator, row: Row) -> bool:
    """Take what stake there is. It is noted before it is sent: if we die in between, it is not taken twice."""
    stake = (await co.chain.provider(row.provider)).slashable_usd_micros
    taken = row.sent_s > 0 and stake < row.amount_usd_micros
    if taken or stake == 0:
        return await _close(co, row, tx_hash=None)
    async with co.store.write() as tx:
        await tx.run(
            sa.update(slashes)
            .where(slashes.c.window_id == row.window_id, slashes.c.lock_token == row.lock_token)
            .values(amount_usd_micros=stake, sent_s=co.clock())
        )
        renter = await tx.value(sa.select(jobs.c.renter).where(jobs.c.job_id == row.job_id))
    split = split_slash(stake, row.verifiers)
    parts: list[tuple[str | int, int]] = [(renter, split.renter), *split.verifiers.items(), (_TREASURY, split.commons)]
    awards = [Award(to, amount) for to, amount in parts if amount]
    try:
        tx_hash = await co.chain.slash(row.provider, awards, bytes.fromhex(row.evidence))
    except Conflict:
        async with co.store.write() as tx:
            await tx.run(sa.update(slashes).where(slashes.c.window_id == row.window_id).values(sent_s=0.0))
        raise
    async with co.store.write() as tx:
        return await keep(tx, slashes, row, tx_hash=tx_hash)


async def _confirm(co: Coordinator, row: Row) -> bool:
    state, now = await co.chain.tx(row.tx_hash), co.clock()
    if state is not None and state.succeeded and state.confirmations >= co.config.confirmations:
        return await _close(co, row, tx_hash=row.tx_hash)
    lost = state is None and now > row.sent_s + co.config.resend_tx_s
    failed = state is not None and not state.succeeded
    if failed:
        logger.error("slash_reverted", window_id=row.window_id, provider=row.provider, tx_hash=row.tx_hash)
    async with co.store.write() as tx:
        again = lost or failed
        due_s = now + (co.config.resend_tx_s if failed else _AGAIN_S)
        # sent_s 0: nothing is on its way any more, whatever stake there is then is taken.
        values = {"tx_hash": None, "sent_s": 0.0} if again else {"tx_hash": row.tx_hash}
        await keep(tx, slashes, row, due_s=due_s, **values)
    return False


async def _close(co: Coordinator, row: Row, *, tx_hash: str | None) -> bool:
    async with co.store.write() as tx:
        if not await keep(tx, slashes, row, closed=True, tx_hash=tx_hash):
            return False
        amount = row.amount_usd_micros
        part = split_slash(amount, row.verifiers).renter
        text = (
            f"Provider {row.provider_name!r} lost its bond of {format_usd(amount)} USD; "
            f"{format_usd(part)} USD of it went to your account."
            if amount
            else f"Provider {row.provider_name!r} had no bond left to take."
        )
        await job_rows.tell(tx, row.job_id, "slash", text, now=co.clock(), amount_usd_micros=amount)
    logger.info("provider_slashed", provider=row.provider, amount_usd_micros=amount, window_id=row.window_id)
    return True
