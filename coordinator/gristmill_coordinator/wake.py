"""Wake-ups inside one process: a hint that there may be work, never the truth about it."""

import asyncio
from weakref import WeakValueDictionary


class Wake:
    """One event per topic: the name of a stage, or a job's id when it has news.

    Take the event, look for work, and wait on the event only if there was none: so no wake-up is missed.
    """

    def __init__(self) -> None:
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def event(self, topic: str) -> asyncio.Event:
        """The event that the next set(topic) sets."""
        event = self._events.get(topic)
        if event is None:
            event = self._events[topic] = asyncio.Event()
        return event

    def set(self, *topics: str) -> None:
        """Wake everyone who waits on one of these topics."""
        for topic in topics:
            event = self._events.pop(topic, None)
            if event is not None:
                event.set()


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Return when the event is set, at the latest after timeout_s."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
