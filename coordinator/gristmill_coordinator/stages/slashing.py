"""After stage 5: a proven fraud costs the provider its whole stake; half of it goes to the renter."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.chain.port import Award, SlashCall
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.domain.pricing import split_slash
from gristmill_coordinator.stages.loop import REFUSED_AGAIN_S, each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, claimed, keep
from gristmill_coordinator.store.tables import jobs, slashes, transactions
from gristmill_protocol.money import format_usd

logger = structlog.get_logger()


async def step(co: Coordinator) -> int:
    """Have slashes sent and confirm them; how many moved on."""
    sent = transactions.c
    final = sa.exists().where(sent.transaction_id == slashes.c.transaction_id, sent.outcome != Outcome.PENDING)
    where = sa.and_(~slashes.c.closed, sa.or_(slashes.c.transaction_id.is_(None), final))
    rows = await co.store.claim(slashes, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    return await each(co, slashes, rows, _advance)


async def _advance(co: Coordinator, row: Row) -> int:
    """Close a slash that the chain has, by its evidence; else have what stake there is taken."""
    async with co.store.read() as tx:
        event = await chain_events.slash(tx, co.config, row.provider, row.evidence)
        renter = await tx.value(sa.select(jobs.c.renter).where(jobs.c.job_id == row.job_id))
    if event is not None:
        return await _close(co, row, event.amount_usd_micros, tx_hash=event.tx_hash)
    if row.transaction_id is not None:
        async with co.store.write() as tx:
            await keep(tx, slashes, row, transaction_id=None, due_s=co.clock() + REFUSED_AGAIN_S)
        return False
    stake = (await co.chain.provider(row.provider)).slashable_usd_micros
    if stake == 0:
        return await _close(co, row, 0, tx_hash=None)
    split = split_slash(stake, row.verifiers)
    commons = co.chain.info.commons_payee
    parts: list[tuple[str | int, int]] = [(renter, split.renter), *split.verifiers.items(), (commons, split.commons)]
    awards = tuple(Award(to, amount) for to, amount in parts if amount)
    async with co.store.write() as tx:
        if not await claimed(tx, slashes, row):
            return False
        call = SlashCall(provider=row.provider, awards=awards, evidence=row.evidence)
        return await keep(tx, slashes, row, transaction_id=await submit(co, tx, call))


async def _close(co: Coordinator, row: Row, amount: int, *, tx_hash: str | None) -> bool:
    async with co.store.write() as tx:
        if not await keep(tx, slashes, row, closed=True, amount_usd_micros=amount, tx_hash=tx_hash):
            return False
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
