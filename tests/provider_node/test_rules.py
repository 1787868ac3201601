"""When work may run: a pure function of the owner's rules, the machine and the time."""

import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gristmill_provider.rules import Cause, Price, Rules, Seen, Stranger, Verdict, decide

BERLIN = ZoneInfo("Europe/Berlin")
PRICE = Price(300_000, 0)
WORKS = Verdict()
MONDAY_NOON_S = datetime(2026, 3, 23, 12, tzinfo=BERLIN).timestamp()
# The clock goes from 2 to 3 on this Sunday, and from 3 to 2 on that.
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)

NEW_YEAR_S = int(datetime(2026, 1, 1, tzinfo=BERLIN).timestamp())
times = st.integers(NEW_YEAR_S, NEW_YEAR_S + 365 * 86_400)
days = st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun", "mon-fri", "sat-sun", "fri-mon"])
clock = st.integers(0, 24 * 60 - 1)


@st.composite
def day_times(draw: Any) -> str:
    begin, end = draw(clock), draw(clock)
    assume(begin != end)
    return f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


some_hours = st.dictionaries(days, st.one_of(day_times(), st.just("all")), min_size=1)


def at(rules: Rules, now_s: float, *, price: Price = PRICE, before: Verdict = WORKS, **seen: Any) -> Verdict:
    return decide(rules, price, Seen(**seen), before=before, now_s=now_s)


def berlin(hours: dict[str, str]) -> Rules:
    return Rules(hours=hours, timezone="Europe/Berlin")


def by_the_wall_clock(hours: dict[str, str], now_s: float) -> bool:
    """The same question, answered as somebody who looks at a clock and a calendar would."""
    now = datetime.fromtimestamp(now_s, BERLIN)
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    for day, extra_min in ((now.weekday(), 0), ((now.weekday() - 1) % 7, 24 * 60)):
        minute = now.hour * 60 + now.minute + extra_min
        for span, when in hours.items():
            first, _, last = span.partition("-")
            covered = (names.index(last or first) - names.index(first)) % 7
            if (day - names.index(first)) % 7 > covered:
                continue
            begin, end = (0, 24 * 60) if when == "all" else [int(t[:2]) * 60 + int(t[3:]) for t in when.split("-")]
            if begin <= minute < (end if end > begin else end + 24 * 60):
                return True
    return False


def near_a_change(now_s: float) -> bool:
    return any(abs(now_s - change.timestamp()) < 86_400 for change in (SPRING, AUTUMN))


@given(hours=some_hours, now_s=times)
@example(hours={"mon": "22:00-07:00"}, now_s=int(MONDAY_NOON_S) - 12 * 3600)
def test_hours_are_those_of_the_wall_clock(hours: dict[str, str], now_s: int) -> None:
    assume(not near_a_change(now_s))

    assert at(berlin(hours), now_s).works == by_the_wall_clock(hours, now_s)


@given(hours=some_hours, now_s=times, share=st.floats(0, 0.999))
@example(hours={"sun": "01:30-02:30"}, now_s=int(AUTUMN.timestamp()) + 3600, share=0.5)
@example(hours={"sun": "02:15-02:45"}, now_s=int(SPRING.timestamp()) + 2 * 3600, share=0.5)
def test_a_verdict_holds_until_the_time_it_names_and_not_longer(
    hours: dict[str, str], now_s: int, share: float
) -> None:
    rules = berlin(hours)
    now = at(rules, now_s)
    assume(now.until_s is not None)

    assert now.until_s is not None
    assert now.until_s > now_s
    assert at(rules, now_s + share * (now.until_s - now_s)).works == now.works
    assert at(rules, now.until_s).works != now.works


@pytest.mark.parametrize(
    ("hours", "change", "open_hours"),
    [
        ({"sun": "01:00-05:00"}, SPRING, 3),
        ({"sun": "01:00-05:00"}, AUTUMN, 5),
        ({"sat": "22:00-06:00"}, SPRING, 7),
        ({"sat": "22:00-06:00"}, AUTUMN, 9),
        ({"sun": "02:15-02:45"}, AUTUMN, 0.5),
    ],
)
def test_nights_in_which_the_clock_changes_are_shorter_or_longer(
    hours: dict[str, str], change: datetime, open_hours: float
) -> None:
    midnight_s = change.timestamp()
    minutes = [midnight_s + 60 * minute for minute in range(-6 * 60, 18 * 60)]

    assert sum(at(berlin(hours), now_s).works for now_s in minutes) / 60 == open_hours


def test_without_hours_it_is_always_open() -> None:
    assert at(Rules(), MONDAY_NOON_S) == Verdict()
    assert at(berlin({"mon-sun": "all"}), MONDAY_NOON_S) == Verdict()


def test_the_next_opening_is_named_in_the_owners_time() -> None:
    verdict = at(berlin({"mon-fri": "22:00-07:00"}), MONDAY_NOON_S)

    assert verdict.cause is Cause.HOURS
    assert verdict.reason == "Your hours begin Monday at 22:00."
    assert verdict.until_s == MONDAY_NOON_S + 10 * 3600


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": {"monday": "all"}},
        {"hours": {"mon": "22-7"}},
        {"hours": {"mon": "25:00-26:00"}},
        {"hours": {"mon": "10:00-10:00"}},
        {"hours": {"mon": ""}},
        {"timezone": "Mars/Olympus"},
        {"timezone": "Europe"},
        {"idle_minutes": -1},
        {"sleep": True},
    ],
)
def test_rules_that_cannot_be_read_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rules(**wrong)


@given(minutes=st.floats(0.1, 600), input_s=times, used_s=times, now_s=times)
def test_work_begins_once_the_machine_was_idle_for_so_long(
    minutes: float, input_s: int, used_s: int, now_s: int
) -> None:
    verdict = at(Rules(idle_minutes=minutes), now_s, input_s=input_s, used_s=used_s)

    assert verdict.works == (now_s >= max(input_s, used_s) + minutes * 60)


def test_a_keyboard_that_cannot_be_seen_forbids_work_only_if_it_matters() -> None:
    blind = {"input_s": None, "input_unknown": "This account may not read /dev/input."}

    assert at(Rules(), MONDAY_NOON_S, **blind).works
    verdict = at(Rules(idle_minutes=5), MONDAY_NOON_S, **blind)
    assert verdict.cause is Cause.KEYBOARD
    assert "may not read /dev/input. Mend that" in verdict.reason


def test_who_uses_the_card_is_named() -> None:
    game = Stranger(4242, "game.exe", 2**30)

    verdict = at(Rules(), MONDAY_NOON_S, strangers=(game,))

    assert (verdict.cause, verdict.reason) == (Cause.CARD_USED, "game.exe (process 4242) uses the card.")
    assert at(Rules(yield_to_card_use=False), MONDAY_NOON_S, strangers=(game,)).works


def test_what_the_owner_does_stays_on_the_machine() -> None:
    private = at(Rules(), MONDAY_NOON_S, programs=("steam",))
    of_the_card = at(Rules(), MONDAY_NOON_S, trouble="The graphics card does not answer.")

    assert (private.reason, private.told) == ("steam runs.", "The owner needs the machine.")
    assert of_the_card.told == "The graphics card does not answer."


def test_a_hot_card_cools_down_before_it_works_again() -> None:
    rules = Rules(max_temperature_c=80)
    hot = at(rules, MONDAY_NOON_S, temperature_c=81)

    assert at(rules, MONDAY_NOON_S, temperature_c=80).works
    assert (hot.cause, hot.until_s) == (Cause.HEAT, None)
    assert not at(rules, MONDAY_NOON_S, temperature_c=71, before=hot).works
    assert at(rules, MONDAY_NOON_S, temperature_c=70, before=hot).works


def test_a_card_that_may_draw_too_much_does_not_work() -> None:
    rules = Rules(max_power_w=300)

    assert at(rules, MONDAY_NOON_S, power_limit_w=300).works
    assert "draw 450 W, you allow 300 W" in at(rules, MONDAY_NOON_S, power_limit_w=450).reason


@given(ask=st.integers(0, 2_000_000), kwh=st.integers(0, 2_000_000), watts=st.integers(1, 1_000))
def test_work_that_does_not_pay_its_electricity_is_not_done(ask: int, kwh: int, watts: int) -> None:
    verdict = at(Rules(), MONDAY_NOON_S, price=Price(ask, kwh), power_limit_w=watts)

    assert verdict.works == (ask * 1000 >= kwh * watts)
    assert verdict.cause in (None, Cause.PRICE)


def test_a_pause_ends_by_itself_only_if_it_was_given_an_end() -> None:
    until_s = MONDAY_NOON_S + 3600

    assert at(Rules(), MONDAY_NOON_S, paused_until_s=until_s).until_s == until_s
    assert at(Rules(), until_s, paused_until_s=until_s).works
    assert at(Rules(), MONDAY_NOON_S, paused_until_s=math.inf).until_s is None


@given(now_s=times, paused_s=st.integers(1, 10**6), input_ago_s=st.integers(0, 10**5), share=st.floats(0, 1))
def test_of_several_reasons_the_one_that_lasts_longest_says_until_when(
    now_s: int, paused_s: int, input_ago_s: int, share: float
) -> None:
    rules, seen = Rules(idle_minutes=600), Seen(paused_until_s=now_s + paused_s, input_s=now_s - input_ago_s)
    verdict = decide(rules, PRICE, seen, before=Verdict(), now_s=now_s)

    assert verdict.cause is Cause.PAUSED
    assert verdict.until_s is not None
    later_s = now_s + share * (verdict.until_s - now_s)
    assert decide(rules, PRICE, seen, before=verdict, now_s=later_s).works == (later_s >= verdict.until_s)


def test_where_one_reason_has_no_known_end_nothing_is_promised() -> None:
    verdict = at(Rules(), MONDAY_NOON_S, paused_until_s=MONDAY_NOON_S + 60, programs=("steam",))

    assert (verdict.cause, verdict.until_s) == (Cause.PAUSED, None)
