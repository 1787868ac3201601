"""Where those who work along the chain stand: one worker to a name, whatever the number of replicas."""

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.config import Config
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import cursors

WATCHER = "watcher"
SENDER = "sender"
BOOKS = "books"
WITHDRAWALS = "withdrawals"
BONDS = "bonds"


async def position(co: Coordinator, name: str) -> Row:
    """Where the worker of this name stands."""
    async with co.store.read() as tx:
        row = await tx.row(sa.select(cursors).where(cursors.c.name == name))
    if row is None:
        async with co.store.write() as tx:
            await tx.add(cursors, {"name": name, "block": co.chain.info.start_block - 1})
        return await position(co, name)
    return row


async def take(co: Coordinator, name: str) -> Row | None:
    """The position, for this worker alone until it writes it back or dies; None while another has it or it rests."""
    await position(co, name)
    rows = await co.store.claim(cursors, cursors.c.name == name, now=co.clock(), hold_s=co.config.claim_s, limit=1)
    return rows[0] if rows else None


def watched() -> sa.ScalarSelect[int]:
    """In SQL, the newest block that the watcher has read and found to fit; NULL before the first."""
    return sa.select(cursors.c.block).where(cursors.c.name == WATCHER).scalar_subquery()


async def final_block(tx: Tx, config: Config) -> int:
    """The newest block that has its confirmations."""
    return int(await tx.value(sa.select(watched())) or 0) - config.confirmations + 1
