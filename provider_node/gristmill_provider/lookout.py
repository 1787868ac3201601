"""The machine as the owner's rules need to know it: who uses the card, which programs run, who is at the keyboard."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from gristmill_protocol.errors import GristmillError
from gristmill_provider.devices import Card, CardProcess, Reading
from gristmill_provider.keyboard import Keyboard
from gristmill_provider.rules import Rules, Seen, Stranger
from gristmill_provider.switch import paused_until_s

logger = structlog.get_logger(__name__)

_MIB = 1024**2
_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Look:
    """The machine at one moment.

    Args:
        reading: of the card; None: there is none, or it does not answer.
        wall_s, up_s, awake_s: unix time, and seconds since the machine was started, with and without its sleep.
    """

    seen: Seen
    reading: Reading | None
    wall_s: float
    up_s: float
    awake_s: float


class Lookout:
    """Looks at this machine for one device; every call blocks for milliseconds.

    Args:
        card: None: the CPU is offered.
        state_dir: where the owner's switch is, and what has to be given back is noted.
        ours: the processes that belong to the node, with all that they started.
        proc: the kernel's folder of processes.
    """

    def __init__(
        self,
        card: Card | None,
        state_dir: Path,
        *,
        ours: Callable[[], frozenset[int]],
        keyboard: Keyboard | None = None,
        proc: Path = _PROC,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._card = card
        self._state_dir = state_dir
        self._ours = ours
        self._keyboard = keyboard or Keyboard()
        self._proc = proc
        self._clock = clock
        self._used_s = 0.0
        self._may_cap: bool | None = None  # None: not tried yet

    def look(self, rules: Rules) -> Look:
        """How everything is now."""
        now_s = self._clock()
        reading, trouble = self._read_card()
        strangers = () if reading is None else tuple(self._strangers(reading, rules))
        programs = tuple(self._running(rules.yield_to_programs))
        if (strangers and rules.yield_to_card_use) or programs:
            self._used_s = now_s
        input_s = self._keyboard.last_input_s(now_s) if rules.idle_minutes else 0
        seen = Seen(
            paused_until_s=paused_until_s(self._state_dir),
            trouble=trouble,
            temperature_c=None if reading is None else reading.temperature_c,
            power_limit_w=None if reading is None else self._limit_at_work(reading, rules),
            strangers=strangers,
            programs=programs,
            input_s=input_s,
            input_unknown=self._keyboard.unknown if input_s is None else "",
            used_s=self._used_s,
        )
        return Look(seen, reading, now_s, time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())

    def cap_power(self, rules: Rules) -> None:
        """Lower the card's power limit to the owner's, while work runs; what it was is noted, to be given back."""
        if self._card is None or rules.max_power_w is None or self._may_cap is False:
            return
        try:
            limit_w = self._card.read().power_limit_w
            if limit_w is None or limit_w <= rules.max_power_w:
                return
            self._note_power(limit_w)
            self._card.set_power_limit(rules.max_power_w)
            self._may_cap = True
            logger.info("power_limited", watts=rules.max_power_w, before=limit_w)
        except GristmillError as err:
            self._may_cap = False
            logger.warning("power_not_limited", reason=str(err))

    def give_power_back(self) -> None:
        """Give the card the limit back that it had, also if an earlier life of the node has lowered it."""
        file = self._power_note
        if self._card is None or not file.exists():
            return
        try:
            noted = json.loads(file.read_text())
            if noted["boot_id"] == boot_id():  # else the restart has given it back
                self._card.set_power_limit(float(noted["watts"]))
                logger.info("power_given_back", watts=noted["watts"])
        except GristmillError as err:  # a card that is lost now may come back
            logger.warning("power_not_given_back", reason=str(err))
            return
        except (ValueError, KeyError, TypeError) as err:
            logger.warning("power_note_unreadable", reason=str(err))
        file.unlink()

    def close(self) -> None:
        self.give_power_back()
        self._keyboard.close()
        if self._card is not None:
            self._card.close()

    def _read_card(self) -> tuple[Reading | None, str]:
        if self._card is None:
            return None, ""
        try:
            return self._card.read(), ""
        except GristmillError as err:
            return None, str(err)

    def _limit_at_work(self, reading: Reading, rules: Rules) -> float | None:
        """The power limit that the card has while work runs."""
        if self._may_cap is None and rules.max_power_w is not None:
            self.cap_power(rules)
            self.give_power_back()
        if self._may_cap and reading.power_limit_w is not None and rules.max_power_w is not None:
            return min(reading.power_limit_w, rules.max_power_w)
        return reading.power_limit_w

    def _note_power(self, watts: float) -> None:
        if not self._power_note.exists():  # else what an earlier life noted is what the card had
            self._power_note.write_text(json.dumps({"watts": watts, "boot_id": boot_id()}))

    @property
    def _power_note(self) -> Path:
        """Where it says what the card's limit was before we lowered it."""
        return self._state_dir / f"power_limit-{self._card.uuid if self._card else ''}.json"

    def _strangers(self, reading: Reading, rules: Rules) -> Iterator[Stranger]:
        ours = self._ours()
        for process in reading.processes:
            if not _counts(process, rules) or self._descends(process.pid, ours):
                continue
            names = self._names(process.pid)
            if names and not names & set(rules.ignored_programs):
                yield Stranger(process.pid, sorted(names)[0], process.memory_bytes)

    def _running(self, wanted: tuple[str, ...]) -> Iterator[str]:
        """Those of the programs that run now."""
        if not wanted:
            return
        by_name = {name.lower(): name for name in wanted}
        found = set[str]()
        for folder in self._proc.iterdir():
            if folder.name.isdigit():
                found |= {by_name[name.lower()] for name in self._names(int(folder.name)) if name.lower() in by_name}
        yield from sorted(found)

    def _descends(self, pid: int, roots: frozenset[int]) -> bool:
        """Whether a process is one of these or was started by one, however indirectly."""
        while pid > 1:
            if pid in roots:
                return True
            try:
                stat = (self._proc / str(pid) / "stat").read_text()
            except OSError:
                return False
            pid = int(stat.rpartition(")")[2].split()[1])  # proc(5): pid (comm) state ppid
        return False

    def _names(self, pid: int) -> set[str]:
        """What a process calls itself and what its program is called; nothing: it is gone."""
        folder = self._proc / str(pid)
        try:
            comm = (folder / "comm").read_text().strip()
            program = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            return set()
        return {comm, re.split(r"[/\\]", program)[-1]} - {""}  # Windows games run under Wine with their own paths


def boot_id() -> str:
    """The kernel's name for the time since the machine was started."""
    return _BOOT_ID.read_text().strip()


def _counts(process: CardProcess, rules: Rules) -> bool:
    """Whether its use of the card is more than any desktop's; of unknown size, who computes counts."""
    if process.memory_bytes is None:
        return not process.graphics
    return process.memory_bytes >= rules.card_use_mib * _MIB
