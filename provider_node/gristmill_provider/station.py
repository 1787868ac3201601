"""One device under its owner's rules, and the nodes that sell its time: one for each coordinator, never two at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from gristmill_protocol.incidents import Incident
from gristmill_protocol.progress import Probed
from gristmill_provider.config import NodeConfig
from gristmill_provider.devices import Device
from gristmill_provider.lookout import Look, Lookout
from gristmill_provider.rules import Cause, Verdict, decide
from gristmill_provider.symptoms import symptoms

logger = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
_SAME_AGAIN_S = 600  # the same incident is recorded again only after so long


class Member(Protocol):
    """A node that sells the station's time to one coordinator."""

    @property
    def taken(self) -> int:
        """How many slots it uses."""
        ...

    def judged(self) -> None:
        """The verdict has changed, or what others have taken."""
        ...

    def happened(self, incident: Incident) -> None:
        """Something went wrong with the machine."""
        ...

    def account(self) -> None:
        """Note what the device is at."""
        ...


class Station:
    """Whether the device may work, and for whom it does.

    Its nodes join it before it looks for the first time.
    """

    def __init__(
        self,
        device: Device,
        lookout: Lookout,
        config: NodeConfig,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.device = device
        self._lookout = lookout
        self._config = config
        self._look_every_s = look_every_s
        self._members: list[Member] = []
        self._last: Look | None = None
        self._told: dict[str, float] = {}  # an incident's text -> when it was recorded
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._measuring: asyncio.Future[Probed] | None = None
        self._probed: Probed | None = None
        self.verdict = Verdict(Cause.PAUSED, "The node has not looked at the machine yet.")

    def join(self, member: Member) -> None:
        self._members.append(member)

    @property
    def taken(self) -> int:
        """Slots in use, whoever's."""
        return sum(member.taken for member in self._members)

    @property
    def has_room(self) -> bool:
        """Whether more work may begin now."""
        return self.verdict.works and self.taken < self._config.slots

    def full_for(self, member: Member) -> bool:
        """Whether others have taken all slots, so that a node has none to offer."""
        return self.taken - member.taken >= self._config.slots

    def slots_changed(self) -> None:
        """Have every node say anew what it offers."""
        for member in self._members:
            member.judged()

    async def run(self) -> None:
        """Look again and again, until cancelled; the card then is as it was found."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._look_every_s)
        finally:
            await asyncio.to_thread(self._lookout.close)

    async def look(self) -> None:
        """Look at the machine once, and have the nodes act on it."""
        config = self._config
        try:
            now = await asyncio.to_thread(self._lookout.look, config.owner)
        except Exception:  # the owner's rules must not end because something else is odd
            logger.exception("machine_not_seen")
            return
        if self._last is not None:
            for incident in symptoms(self._last, now):
                self._tell(incident)
        self._last = now
        verdict = decide(config.owner, config.price, now.seen, before=self.verdict, now_s=now.wall_s)
        await self._apply(verdict, config)
        for member in self._members:
            member.account()

    def adopt(self, config: NodeConfig) -> None:
        """Go by other rules and another price from the next look on."""
        self._config = config

    async def measured(self, measure: Callable[[], Awaitable[Probed]]) -> Probed:
        """What the device can do, measured once work may run, by the node that asks first."""
        async with self._lock:
            while self._probed is None:
                await self._until_works()
                self._measuring = asyncio.ensure_future(measure())
                try:
                    self._probed = await self._measuring
                except asyncio.CancelledError:
                    if self.verdict.works or not self._measuring.cancelled():
                        self._measuring.cancel()
                        raise
                    logger.info("measuring_broken_off", reason=self.verdict.reason)
                finally:
                    self._measuring = None
            return self._probed

    async def _until_works(self) -> None:
        while not self.verdict.works:
            self._changed.clear()
            await self._changed.wait()

    async def _apply(self, verdict: Verdict, config: NodeConfig) -> None:
        before, self.verdict = self.verdict, verdict
        if verdict.works:
            await asyncio.to_thread(self._lookout.cap_power, config.owner)
        if verdict.cause is not before.cause:
            if verdict.works:
                logger.info("work_may_run", until_s=verdict.until_s)
            else:
                logger.info("work_must_not_run", cause=verdict.cause, reason=verdict.reason, until_s=verdict.until_s)
            self._changed.set()
            if self._measuring is not None and not verdict.works:
                self._measuring.cancel()
            self.slots_changed()
        if not verdict.works and not self.taken:  # what leaves still keeps to the limit
            await asyncio.to_thread(self._lookout.give_power_back)

    def _tell(self, incident: Incident) -> None:
        if incident.at_s - self._told.get(incident.text, -_SAME_AGAIN_S) < _SAME_AGAIN_S:
            return
        self._told[incident.text] = incident.at_s
        logger.warning("incident", kind=incident.kind, text=incident.text)
        for member in self._members:
            member.happened(incident)
