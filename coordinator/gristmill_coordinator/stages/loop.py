"""How every stage runs: step after step while there is work, woken by whoever leaves it some, looking by itself too."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa
import structlog

from gristmill_coordinator import wake
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.store.store import Row, keep
from gristmill_protocol.errors import ChainUnavailable

logger = structlog.get_logger()

_CHAIN_AGAIN_S = 3.0

Step = Callable[[Coordinator], Awaitable[int]]


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


@asynccontextmanager
async def patience(co: Coordinator, table: sa.Table, rows: Sequence[Row]) -> AsyncIterator[None]:
    """Put claimed rows off for a while if the chain cannot be reached; those already written back stay as they are."""
    try:
        yield
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", table=table.name, rows=len(rows), why=err.what)
        async with co.store.write() as tx:
            for row in rows:
                await keep(tx, table, row, due_s=co.clock() + _CHAIN_AGAIN_S)
