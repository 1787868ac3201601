"""Beside the stages: what a provider bonds, and who paid for it, follows the chain while its nodes are connected."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import BONDS, take, watched
from gristmill_coordinator.market.nodes import provider_changed
from gristmill_coordinator.store.store import keep
from gristmill_coordinator.store.tables import cursors, ledger_events, nodes
from gristmill_protocol.errors import ChainUnavailable

logger = structlog.get_logger()

_NAMES = ("Bonded", "UnbondingRequested", "Withdrawn", "Slashed", "NodeSet")
_AGAIN_S = 3.0


async def step(co: Coordinator) -> int:
    """Look at every provider of ours that the Registry spoke of since the last look; how many."""
    one = ledger_events.c
    done_to = sa.select(cursors.c.block).where(cursors.c.name == BONDS).scalar_subquery()
    async with co.store.read() as tx:
        block, done = (await tx.rows(sa.select(watched(), done_to)))[0]
    if block is None or block == done:
        return 0
    lock = await take(co, BONDS)
    if lock is None:
        return 0
    ours = sa.select(nodes.c.provider)
    # From the block before: a block that replaced another may hold an event that the other did not.
    since = sa.and_(one.contract == "registry", one.block >= lock.block - co.config.confirmations, one.block <= block)
    query = sa.select(one.payee).distinct().where(since, one.name.in_(_NAMES), one.payee.in_(ours))
    async with co.store.read() as tx:
        changed = [row.payee for row in await tx.rows(query)]
    moved, due_s = len(changed), 0.0
    try:
        for provider in changed:
            await provider_changed(co, provider)
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", stage="bonds", why=err.what)
        block, moved, due_s = lock.block, 0, co.clock() + _AGAIN_S
    async with co.store.write() as tx:
        await keep(tx, cursors, lock, block=block, due_s=due_s)
    return moved
