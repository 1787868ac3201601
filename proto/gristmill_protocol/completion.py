"""Work that is not left in the middle, since what does it goes on all the same: a thread, a database, an engine."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Awaitable[T]) -> T:
    """What comes out of it; who is cancelled meanwhile, once or again, still returns only when it has ended."""
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as err:
            cancelled = err
    if cancelled is None:
        return running.result()
    if not running.cancelled():
        running.exception()  # nobody is left to hear of it
    raise cancelled
