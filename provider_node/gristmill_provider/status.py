"""How a node does, for its owner: what runs, what it has earned, when it earned nothing and why. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from gristmill_protocol.api import OfferView
from gristmill_provider.history import GAP_S, Span
from gristmill_provider.rules import Price, electricity_usd_micros_per_hour

WORKING = "working"

_HOUR_S = 3600
_WORTH_TELLING_S = 30
_WORDS = {"no_work": "No work that fits this card at this price has come.", WORKING: "Working"}


@dataclass(frozen=True)
class Task:
    """Work at hand.

    Args:
        kind: a job's, or a check of others' work.
        segments: of the whole job; 0: unknown.
    """

    kind: Literal["job", "check"]
    work_id: str
    segments_done: int = 0
    segments: int = 0


@dataclass(frozen=True)
class Period:
    """A time up to now, and what came in: accepted work, before fee and shares."""

    name: str
    accepted_usd_micros: int
    electricity_usd_micros: int
    worked_s: float

    @property
    def net_usd_micros(self) -> int:
        return self.accepted_usd_micros - self.electricity_usd_micros


@dataclass(frozen=True)
class Idle:
    """Hours without pay for one reason."""

    reason: str
    today_s: float
    week_s: float


@dataclass(frozen=True)
class Demand:
    """The market for devices like this one.

    Args:
        busy, slots: of all such devices.
        asks_usd_micros: the lowest, the middle and the highest ask of others; None: there are none.
        cheaper: how many of them ask less.
        waiting_jobs: that wait for a machine of any kind.
    """

    device: str
    busy: int
    slots: int
    others: int
    asks_usd_micros: tuple[int, int, int] | None
    cheaper: int
    waiting_jobs: int


@dataclass(frozen=True)
class Moment:
    """What a device is at now."""

    temperature_c: int | None = None
    power_w: float | None = None
    busy_percent: int | None = None
    memory_used_bytes: int | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened to the machine or to its standing."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Status:
    """One node.

    Args:
        now: what it is at, a sentence.
        lost: what cost it standing in the last seven days, newest first.
        events: what else went wrong, newest first.
        standing: how the market sees its card; "": it is not in the market.
        trouble: why the coordinator could not be asked.
    """

    name: str
    device: str
    provider_id: int
    coordinator: str
    running: bool
    now: str
    tasks: tuple[Task, ...]
    moment: Moment
    ask_usd_micros: int
    power_usd_micros: int
    periods: tuple[Period, ...]
    idle: tuple[Idle, ...]
    lost: tuple[Event, ...]
    events: tuple[Event, ...]
    standing: str
    demand: Demand | None
    trouble: str


def starts(now: datetime) -> tuple[float, float]:
    """Unix time at which this day began by the owner's clock, and six days before it."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp(), (midnight - timedelta(days=6)).timestamp()


def period(name: str, spans: Iterable[Span], *, from_s: float, accepted: int, price: Price, watts: float) -> Period:
    """What came in since from_s, and the electricity that the work of that time took at so many watts."""
    worked_s = sum(max(0.0, span.to_s - max(span.from_s, from_s)) for span in spans if span.cause == WORKING)
    electricity = round(electricity_usd_micros_per_hour(price, watts) * worked_s / _HOUR_S)
    return Period(name, accepted, electricity, worked_s)


def idle_hours(spans: Sequence[Span], *, day_s: float, week_s: float, now_s: float) -> tuple[Idle, ...]:
    """Every reason for which nothing was earned, the costliest of the week first; so is the time without a node."""
    found: dict[str, tuple[float, float]] = {}
    for span in [*spans, *_gaps(spans, now_s)]:
        if span.cause == WORKING or span.to_s <= week_s:
            continue
        today, week = found.get(span.reason or span.cause, (0.0, 0.0))
        today += max(0.0, span.to_s - max(span.from_s, day_s))
        week += span.to_s - max(span.from_s, week_s)
        found[span.reason or span.cause] = today, week
    rows = [Idle(reason, *seconds) for reason, seconds in found.items() if seconds[1] >= _WORTH_TELLING_S]
    return tuple(sorted(rows, key=lambda row: -row.week_s))


def demand(
    market: Iterable[OfferView], *, device: str, is_cpu: bool, provider_id: int, ask_usd_micros: int, waiting_jobs: int
) -> Demand:
    """The market for a device like ours."""
    alike = [one for one in market if one.is_cpu == is_cpu and (is_cpu or one.device == device)]
    asks = sorted(one.ask_usd_micros_per_gpu_hour for one in alike if one.provider != provider_id)
    return Demand(
        device=device,
        busy=sum(one.slots - one.slots_free for one in alike),
        slots=sum(one.slots for one in alike),
        others=len(asks),
        asks_usd_micros=(asks[0], asks[len(asks) // 2], asks[-1]) if asks else None,
        cheaper=sum(ask < ask_usd_micros for ask in asks),
        waiting_jobs=waiting_jobs,
    )


def what_now(spans: Sequence[Span], *, running: bool) -> str:
    """What a node is at, in a sentence."""
    if not running:
        return "The node does not run: gristmill-node up, or sudo systemctl start gristmill-node."
    if not spans:
        return "The node has just started."
    return spans[-1].reason or _WORDS.get(spans[-1].cause, spans[-1].cause)


def in_hours(seconds: float) -> str:
    """2 h 05 min, 3 min, or 4 s."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _gaps(spans: Sequence[Span], now_s: float) -> Iterable[Span]:
    """The times between spans, and since the last one, in which no node ran."""
    for index, span in enumerate(spans):
        ends_s = spans[index + 1].from_s if index + 1 < len(spans) else now_s
        if ends_s - span.to_s > GAP_S:
            yield Span(span.to_s, ends_s, "off", "The node did not run.")
