"""When may strangers' work run here? What the owner wrote, held against the machine as it is: a pure function.

What makes the owner need the machine stays between the node and its owner; the coordinator hears only that it does.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gristmill_protocol.money import format_usd
from gristmill_provider.hours import open_spans, require_hours, require_zone, zone

# A card that was too hot has to cool down so far, or it would start and stop all the time.
_COOL_DOWN_C = 10

# They draw on the card as long as somebody is logged in.
DESKTOP = (
    "Xorg", "Xwayland", "gnome-shell", "kwin_wayland", "kwin_x11", "plasmashell", "cinnamon", "mutter", "sway",
    "Hyprland", "xfwm4", "gdm-x-session", "sddm-greeter",
)  # fmt: skip


class Cause(StrEnum):
    """Why no work may run, in one word."""

    PAUSED = "paused"
    CARD_LOST = "card_lost"
    PRICE = "price"
    POWER = "power"
    HEAT = "heat"
    HOURS = "hours"
    CARD_USED = "card_used"
    PROGRAM = "program"
    KEYBOARD = "keyboard"


# What others may know of it: what is about the machine, not about who sits at it.
_OPEN_CAUSES = (Cause.CARD_LOST, Cause.HEAT)
_FOR_OTHERS = "The owner needs the machine."


class Rules(BaseModel):
    """The owner's contract: [owner] in the node's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hours: Annotated[dict[str, str], AfterValidator(require_hours)] = {}  # "mon-fri" -> "22:00-07:00"; none: always
    timezone: Annotated[str, AfterValidator(require_zone)] = ""  # "": the machine's
    idle_minutes: float = Field(default=0, ge=0)  # without keyboard, mouse, card, listed program; 0: any
    yield_to_card_use: bool = True  # leave when another process uses the card
    card_use_mib: int = Field(default=300, ge=0)  # from so much of its memory on
    ignored_programs: tuple[str, ...] = DESKTOP  # whose use of the card does not count
    yield_to_programs: tuple[str, ...] = ()  # leave while one of these runs
    max_temperature_c: int | None = Field(default=None, ge=30, le=110)
    max_power_w: int | None = Field(default=None, gt=0)

    def open_spans(self, now_s: float) -> Iterator[tuple[float, float]]:
        """The open times from yesterday on for more than a week, unix seconds; none: no hours were written."""
        return open_spans(self.hours, zone(self.timezone), now_s)


@dataclass(frozen=True)
class Stranger:
    """A process on the card that is none of ours."""

    pid: int
    program: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Seen:
    """The machine at one moment.

    Args:
        paused_until_s: by `pause`; infinite: until `resume`; None: not paused.
        trouble: why the card does not answer.
        input_s: unix time of the last touch of keyboard or mouse; 0: none was seen; None: nobody can tell.
        input_unknown: why nobody can tell.
        used_s: unix time at which the owner was last seen using the card or a listed program; 0: never.
    """

    paused_until_s: float | None = None
    trouble: str = ""
    temperature_c: int | None = None
    power_limit_w: float | None = None
    strangers: tuple[Stranger, ...] = ()
    programs: tuple[str, ...] = ()
    input_s: float | None = 0
    input_unknown: str = ""
    used_s: float = 0


@dataclass(frozen=True)
class Verdict:
    """Whether work may run.

    Args:
        cause: why not; None: it may.
        reason: the same for the owner, a sentence.
        until_s: unix time before which that does not change by itself; None: nobody knows.
    """

    cause: Cause | None = None
    reason: str = ""
    until_s: float | None = None

    @property
    def works(self) -> bool:
        return self.cause is None

    @property
    def told(self) -> str:
        """What others hear of it."""
        return self.reason if self.cause in _OPEN_CAUSES else _FOR_OTHERS


@dataclass(frozen=True)
class Price:
    """What an hour costs, micro-USD: what the owner asks, and a kilowatt-hour of electricity."""

    ask_usd_micros_per_gpu_hour: int
    electricity_usd_micros_per_kwh: int = 0


def decide(rules: Rules, price: Price, seen: Seen, *, before: Verdict, now_s: float) -> Verdict:
    """Whether work may run now; if not, the first reason, and until when at least.

    Args:
        before: the verdict until now; a hot card has to cool down first.
    """
    against = list(_objections(rules, price, seen, before=before, now_s=now_s))
    if not against:
        return Verdict(until_s=_hours_end(rules, now_s))
    untils = [verdict.until_s for verdict in against]
    known = [until_s for until_s in untils if until_s is not None]
    first = against[0]
    return Verdict(first.cause, first.reason, max(known) if len(known) == len(untils) else None)


def electricity_usd_micros_per_hour(price: Price, watts: float) -> int:
    """What that draw costs an hour, rounded up."""
    return math.ceil(price.electricity_usd_micros_per_kwh * watts / 1000)


def _objections(rules: Rules, price: Price, seen: Seen, *, before: Verdict, now_s: float) -> Iterator[Verdict]:
    if seen.paused_until_s is not None and seen.paused_until_s > now_s:
        until_s = None if math.isinf(seen.paused_until_s) else seen.paused_until_s
        yield Verdict(Cause.PAUSED, "You have paused this node; `gristmill-node resume` ends that.", until_s)
    if seen.trouble:
        yield Verdict(Cause.CARD_LOST, seen.trouble)
    yield from _card_objections(rules, price, seen, before=before)
    opens_s = _opens_s(rules, now_s)
    if opens_s is not None:
        at = datetime.fromtimestamp(opens_s, zone(rules.timezone))
        yield Verdict(Cause.HOURS, f"Your hours begin {at:%A at %H:%M}.", opens_s)
    yield from _use_objections(rules, seen, now_s)


def _card_objections(rules: Rules, price: Price, seen: Seen, *, before: Verdict) -> Iterator[Verdict]:
    watts = seen.power_limit_w
    if watts is not None:
        electricity = electricity_usd_micros_per_hour(price, watts)
        if price.ask_usd_micros_per_gpu_hour < electricity:
            yield Verdict(
                Cause.PRICE,
                f"Your price of {format_usd(price.ask_usd_micros_per_gpu_hour)} an hour does not pay the card's"
                f" electricity, {format_usd(electricity)} at {watts:g} W: raise the one or lower the other.",
            )
        if rules.max_power_w is not None and watts > rules.max_power_w:
            yield Verdict(
                Cause.POWER,
                f"The card may draw {watts:g} W, you allow {rules.max_power_w} W, and the node could not set it: run it"
                f" as root, or set it yourself (nvidia-smi -pl {rules.max_power_w}).",
            )
    if rules.max_temperature_c is not None and seen.temperature_c is not None:
        limit = rules.max_temperature_c - (_COOL_DOWN_C if before.cause is Cause.HEAT else 0)
        if seen.temperature_c > limit:
            yield Verdict(Cause.HEAT, f"The graphics card is hotter than {limit} °C.")


def _use_objections(rules: Rules, seen: Seen, now_s: float) -> Iterator[Verdict]:
    if rules.yield_to_card_use and seen.strangers:
        one = seen.strangers[0]
        yield Verdict(Cause.CARD_USED, f"{one.program} (process {one.pid}) uses the card.")
    if seen.programs:
        yield Verdict(Cause.PROGRAM, f"{seen.programs[0]} runs.")
    if not rules.idle_minutes:
        return
    if seen.input_s is None:
        yield Verdict(
            Cause.KEYBOARD,
            f"Whether somebody is at the keyboard cannot be seen: {seen.input_unknown}"
            " Mend that, or set idle_minutes = 0.",
        )
        return
    idle_s = max(seen.input_s, seen.used_s) + rules.idle_minutes * 60
    if idle_s > now_s:
        what = "Keyboard and mouse have" if seen.input_s >= seen.used_s else "The card has"
        yield Verdict(Cause.KEYBOARD, f"{what} not been idle for {rules.idle_minutes:g} min.", idle_s)


def _opens_s(rules: Rules, now_s: float) -> float | None:
    """Unix time of the next opening; None: it is open."""
    if not rules.hours:
        return None
    coming = [(begin_s, end_s) for begin_s, end_s in rules.open_spans(now_s) if end_s > now_s]
    return None if not coming or coming[0][0] <= now_s else coming[0][0]


def _hours_end(rules: Rules, now_s: float) -> float | None:
    ends = [end_s for begin_s, end_s in rules.open_spans(now_s) if begin_s <= now_s < end_s]
    return ends[0] if ends and ends[0] - now_s < 7 * 86_400 else None
