"""Runs of other people's segments: worth nothing half done, so they end at once when the owner needs the card."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from gristmill_protocol.errors import Unavailable

T = TypeVar("T")


class Reruns:
    """Those that run now."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._forbidden = ""  # set: why none may run

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes out of it.

        Raises:
            Unavailable: it may not run, or was broken off; with the reason.
        """
        if self._forbidden:
            work.close()
            raise Unavailable(self._forbidden)
        task = asyncio.create_task(work)
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not (self._forbidden and task.cancelled()):
                task.cancel()
                raise
            raise Unavailable(self._forbidden) from None
        finally:
            self._running.discard(task)

    def forbid(self, reason: str) -> None:
        """Break off what runs, and let nothing run."""
        breaks_off, self._forbidden = not self._forbidden, reason
        for task in self._running if breaks_off else ():
            task.cancel()

    def allow(self) -> None:
        self._forbidden = ""
