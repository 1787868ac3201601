"""A store whose process dies: the first time each place in the code writes, just before or just after the commit."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from gristmill_coordinator.store.store import Store, Tx
from gristmill_coordinator.wake import Wake

_PLUMBING = ("store/store.py", "contextlib.py", "fakes/", "sqlalchemy", "greenlet")


class Died(BaseException):
    """As kill -9 would: nothing between here and the process's end runs, but for the rollback of what is open."""


class CrashingStore(Store):
    """Args:
    died: places that have had their crash; shared by all processes of a test.
    """

    def __init__(self, store: Store, died: set[str], when: Literal["before", "after"]) -> None:
        super().__init__(store.engine, Wake())
        self._died = died
        self._when = when

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        place = _place()
        dies = place not in self._died
        self._died.add(place)
        async with super().write() as tx:
            yield tx
            if dies and self._when == "before":
                raise Died(place)
        if dies:
            raise Died(place)


def _place() -> str:
    """The line of the coordinator's code that opened the transaction, and the line that called it."""
    frame, lines = sys._getframe(1), list[str]()
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if "gristmill_coordinator" in name and not any(part in name for part in _PLUMBING):
            lines.append(f"{Path(name).name}:{frame.f_lineno}")
        if "store/store.py" in name and frame.f_code.co_name == "claim":
            return f"claim by {_place_of_claim(frame.f_locals['table'].name, frame.f_locals['where'])}"
        frame = frame.f_back
    return " < ".join(lines[:2]) or "test"


def _place_of_claim(table: str, where: object) -> str:
    return f"{table} {where}"
