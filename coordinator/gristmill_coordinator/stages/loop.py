"""How every stage runs: step after step while there is work, woken by whoever leaves it some, looking by itself too."""

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa
import structlog

from gristmill_coordinator import wake
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.store.store import Row, keep
from gristmill_protocol.errors import ChainUnavailable, Conflict

logger = structlog.get_logger()

CHAIN_AGAIN_S = 3.0
REFUSED_AGAIN_S = 60.0

Step = Callable[[Coordinator], Awaitable[int]]
Handle = Callable[[Coordinator, Row], Awaitable[int]]


async def run(co: Coordinator, stage: str, step: Step) -> None:
    """Run a stage until cancelled. An error costs one step: its rows are free again when their claim expires."""
    while True:
        event = co.wake.event(stage)
        try:
            moved = await step(co)
        except Exception:
            logger.exception("stage_failed", stage=stage)
            moved = 0
        if not moved:
            await wake.wait(event, co.config.poll_s)


async def each(co: Coordinator, table: sa.Table, rows: Sequence[Row], handle: Handle) -> int:
    """Handle claimed rows one after another; the sum of what handle gives.

    A row that the contracts refuse is put off alone; when the chain cannot be reached, all that are left are.
    """
    handled = 0
    for at, row in enumerate(rows):
        try:
            handled += await handle(co, row)
        except ChainUnavailable as err:
            logger.warning("chain_unavailable", table=table.name, rows=len(rows) - at, why=err.what)
            await put_off(co, table, rows[at:])
            break
        except Conflict as err:
            logger.error("chain_refused", table=table.name, why=err.what)
            await put_off(co, table, [row], REFUSED_AGAIN_S)
    return handled


async def put_off(co: Coordinator, table: sa.Table, rows: Sequence[Row], seconds: float = CHAIN_AGAIN_S) -> None:
    """Free claimed rows, to be looked at again later."""
    async with co.store.write() as tx:
        for row in rows:
            await keep(tx, table, row, due_s=co.clock() + seconds)
