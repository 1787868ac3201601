"""What an owner is told of money and hours."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.api import OfferView
from gristmill_provider.history import Span
from gristmill_provider.rules import Price
from gristmill_provider.status import demand, idle_hours, in_hours, period, starts, what_now

HOUR = 3600.0
PRICE = Price(300_000, electricity_usd_micros_per_kwh=300_000)


def working(from_h: float, to_h: float) -> Span:
    return Span(from_h * HOUR, to_h * HOUR, "working", "")


def idle(from_h: float, to_h: float, reason: str = "Nothing fits.") -> Span:
    return Span(from_h * HOUR, to_h * HOUR, "no_work", reason)


def test_earnings_are_net_of_the_electricity_of_the_work() -> None:
    got = period("Today", [working(1, 3), idle(3, 9)], from_s=0, accepted=600_000, price=PRICE, watts=500)

    assert (got.worked_s, got.electricity_usd_micros) == (2 * HOUR, 300_000)
    assert got.net_usd_micros == 300_000


def test_work_before_a_period_is_not_counted() -> None:
    got = period("Today", [working(0, 10)], from_s=8 * HOUR, accepted=0, price=PRICE, watts=500)

    assert got.worked_s == 2 * HOUR


def test_every_idle_hour_has_its_reason_the_longest_first() -> None:
    spans = [idle(0, 1), working(1, 2), idle(2, 7, "Your hours begin Monday at 22:00."), idle(7, 8)]

    rows = idle_hours(spans, day_s=6 * HOUR, week_s=0, now_s=8 * HOUR)

    assert [(row.reason, row.today_s, row.week_s) for row in rows] == [
        ("Your hours begin Monday at 22:00.", HOUR, 5 * HOUR),
        ("Nothing fits.", HOUR, 2 * HOUR),
    ]


def test_the_time_without_a_node_is_a_reason() -> None:
    rows = idle_hours([working(0, 1), working(3, 4)], day_s=0, week_s=0, now_s=6 * HOUR)

    assert [(row.reason, row.week_s) for row in rows] == [("The node did not run.", 4 * HOUR)]


@given(cuts=st.lists(st.floats(0, 168), min_size=2, max_size=12, unique=True), day=st.floats(0, 168))
def test_the_hours_of_a_week_add_up(cuts: list[float], day: float) -> None:
    cuts.sort()
    kinds = [working, idle]
    spans = [kinds[n % 2](*pair) for n, pair in enumerate(pairwise(cuts))]
    now_s = cuts[-1] * HOUR

    worked = period("", spans, from_s=0, accepted=0, price=PRICE, watts=1).worked_s
    rows = idle_hours(spans, day_s=day * HOUR, week_s=0, now_s=now_s)

    told = worked + sum(row.week_s for row in rows)
    assert told == pytest.approx(now_s - spans[0].from_s, abs=60)  # what took less than half a minute is not told
    assert all(0 <= row.today_s <= row.week_s + 1e-6 for row in rows)


def test_a_day_begins_at_the_owners_midnight() -> None:
    day_s, week_s = starts(datetime(2026, 11, 26, 18, 30, tzinfo=UTC))

    assert day_s == datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    assert week_s == datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def offer(provider: int, ask: int, *, device: str = "A100", free: int = 1) -> OfferView:
    return OfferView(
        node_id=f"n{provider}", provider=provider, provider_name="", device=device, is_cpu=device == "CPU",
        memory_bytes=1, flops_per_s=1, ask_usd_micros_per_gpu_hour=ask, slots=1, slots_free=free, sandbox="docker",
    )  # fmt: skip


def test_demand_is_that_for_the_same_device() -> None:
    market = [offer(1, 300), offer(2, 200, free=0), offer(3, 900), offer(4, 100), offer(5, 1, device="CPU")]

    wanted = demand(market, device="A100", is_cpu=False, provider_id=1, ask_usd_micros=300, waiting_jobs=2)

    assert (wanted.busy, wanted.slots, wanted.others) == (1, 4, 3)
    assert (wanted.asks_usd_micros, wanted.cheaper) == ((100, 200, 900), 2)


def test_a_device_of_its_own_has_nobody_to_compare_with() -> None:
    alone = demand([offer(1, 300)], device="A100", is_cpu=False, provider_id=1, ask_usd_micros=300, waiting_jobs=0)

    assert (alone.others, alone.asks_usd_micros) == (0, None)


def test_what_it_is_at_is_a_sentence() -> None:
    assert what_now([idle(0, 1)], running=True) == "Nothing fits."
    assert what_now([working(0, 1)], running=True) == "Working"
    assert what_now([], running=True) == "The node has just started."
    assert "gristmill-node up" in what_now([idle(0, 1)], running=False)


def test_hours_are_told_in_words() -> None:
    assert [in_hours(seconds) for seconds in (4, 90, 2 * HOUR + 300)] == ["4 s", "2 min", "2 h 05 min"]
