"""The hours that an owner wrote, as spans of time: per weekday, over midnight, in a time zone with its changes."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RANGE = re.compile(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)")
_DAY_MIN = 24 * 60


def require_hours(hours: dict[str, str]) -> dict[str, str]:
    """The hours, if they can be read.

    Args:
        hours: days ("mon", "mon-fri") -> times of day ("22:00-07:00", "08:00-12:00, 13:00-17:00", "all").
    Raises:
        ValueError: they cannot.
    """
    for days, times in hours.items():
        list(_weekdays(days))
        list(_minutes(times))
    return hours


def require_zone(name: str) -> str:
    """Raises:
    ValueError: there is no time zone of that name.
    """
    try:
        zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise ValueError(f"{name!r} is no time zone such as Europe/Berlin") from err
    return name


def zone(name: str) -> tzinfo:
    """The time zone of that name; "": the machine's."""
    name = name or os.environ.get("TZ", "")
    if name:
        return ZoneInfo(name)
    here = Path("/etc/localtime")
    if not here.exists():
        return UTC
    with here.open("rb") as file:
        return ZoneInfo.from_file(file)


def open_spans(hours: Mapping[str, str], where: tzinfo, now_s: float) -> Iterator[tuple[float, float]]:
    """The open times from yesterday on for more than a week, unix seconds, in order, those that touch made one."""
    by_day: dict[int, list[tuple[int, int]]] = {}
    for days, times in hours.items():
        for day in _weekdays(days):
            by_day.setdefault(day, []).extend(_minutes(times))
    midnight = datetime.fromtimestamp(now_s, where).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    first = midnight.replace(tzinfo=None) - timedelta(days=1)
    yield from _joined(
        (_unix(day + timedelta(minutes=begin), where), _unix(day + timedelta(minutes=end), where))
        for day in (first + timedelta(days=number) for number in range(10))
        for begin, end in by_day.get(day.weekday(), ())
    )


def _joined(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    current = (-math.inf, -math.inf)
    for begin_s, end_s in sorted(spans):
        if begin_s <= current[1]:
            current = (current[0], max(current[1], end_s))
        elif end_s > begin_s:  # else it lies in an hour that a change of the clock leaves out
            if current[1] > -math.inf:
                yield current
            current = (begin_s, end_s)
    if current[1] > -math.inf:
        yield current


def _weekdays(days: str) -> Iterator[int]:
    first, _, last = days.partition("-")
    if first not in _DAYS or (last or first) not in _DAYS:
        raise ValueError(f"{days!r} is no day or range of days such as mon or mon-fri")
    day, end = _DAYS.index(first), _DAYS.index(last or first)
    yield day
    while day != end:
        day = (day + 1) % 7
        yield day


def _minutes(times: str) -> Iterator[tuple[int, int]]:
    """Begin and end in minutes of the day that it begins on; the end may be on the next."""
    for one in times.split(","):
        if one.strip() == "all":
            yield 0, _DAY_MIN
            continue
        found = _RANGE.fullmatch(one.strip())
        if found is None:
            raise ValueError(f'{one.strip()!r} is no time such as 22:00-07:00, nor "all"')
        hour, minute, end_hour, end_minute = map(int, found.groups())
        begin, end = hour * 60 + minute, end_hour * 60 + end_minute
        if max(minute, end_minute) > 59 or begin >= _DAY_MIN or end > _DAY_MIN or begin == end:
            raise ValueError(f"{one.strip()!r} is no time of a day")
        yield begin, end if end > begin else end + _DAY_MIN


def _unix(wall: datetime, where: tzinfo) -> float:
    """Of a wall clock's time; of two that read the same, the earlier."""
    return wall.replace(tzinfo=where).timestamp()
