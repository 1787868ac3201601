"""What gas may cost: never more than it is worth, whatever the prices."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.gas import (
    Bid,
    bearing,
    ceiling_wei,
    cheapest,
    cost_usd_micros,
    offer,
    outbid,
    outweighing,
)

WEI = st.integers(0, 10**13)
GAS = st.integers(21_000, 30_000_000)
USD_MICROS = st.integers(0, 10**11)
SMALL = st.lists(st.integers(0, 50), max_size=7)


def test_gas_is_priced_in_micro_usd_and_rounded_up() -> None:
    assert cost_usd_micros(50_000, 20 * 10**9, 3_000_000_000) == 3_000_000
    assert cost_usd_micros(1, 1, 3_000_000_000) == 1
    assert cost_usd_micros(50_000, 20 * 10**9, 0) == 0


@given(WEI, WEI, st.none() | WEI)
def test_a_bid_is_good_now_and_never_above_the_cap(base: int, tip: int, cap: int | None) -> None:
    bid = offer(base_fee_wei=base, tip_wei=tip, cap_wei=cap)

    if bid is None:
        assert cap is not None
        assert base + tip > cap
    else:
        assert base + tip <= bid.max_fee_wei <= 2 * base + tip
        assert cap is None or bid.max_fee_wei <= cap
        assert bid.tip_wei <= bid.max_fee_wei


@given(WEI, WEI, WEI, WEI)
def test_a_replacement_raises_both_fees_by_an_eighth(base: int, tip: int, live_base: int, live_tip: int) -> None:
    last = offer(base_fee_wei=base, tip_wei=tip, cap_wei=None) or Bid(0, 0)
    live = offer(base_fee_wei=live_base, tip_wei=live_tip, cap_wei=None) or Bid(0, 0)

    bid = outbid(last, live, cap_wei=None)

    assert bid is not None
    assert 8 * bid.max_fee_wei >= 9 * last.max_fee_wei
    assert 8 * bid.tip_wei >= 9 * last.tip_wei
    assert live.max_fee_wei <= bid.max_fee_wei > last.max_fee_wei
    assert bid.tip_wei <= bid.max_fee_wei
    assert outbid(last, live, cap_wei=bid.max_fee_wei) == bid
    assert outbid(last, live, cap_wei=bid.max_fee_wei - 1) is None


@given(USD_MICROS, GAS, st.integers(1, 10**11))
def test_at_its_ceiling_gas_costs_no_more_than_it_is_worth(worth: int, gas: int, native: int) -> None:
    ceiling = ceiling_wei(worth, gas, native)

    assert ceiling is not None
    assert cost_usd_micros(gas, ceiling, native) <= worth
    assert cost_usd_micros(gas, ceiling + 1, native) > worth or gas * native * (ceiling + 1) <= worth * 10**18


def test_where_gas_costs_nothing_there_is_no_ceiling() -> None:
    assert ceiling_wei(0, 21_000, 0) is None
    assert cheapest(None, None) is None
    assert cheapest(None, 7, 5) == 5


@given(SMALL, st.integers(0, 100), st.integers(0, 60))
def test_the_most_payments_that_their_fees_cover_are_sent(fees: list[int], fixed: int, each: int) -> None:
    chosen = bearing(fees, fixed=fixed, each=each)

    assert len(chosen) == len(set(chosen))
    assert not chosen or sum(fees[at] for at in chosen) >= fixed + each * len(chosen)
    for more in combinations(fees, len(chosen) + 1):
        assert sum(more) < fixed + each * len(more)


@given(SMALL, st.integers(0, 100), st.integers(0, 60))
def test_an_urgent_payment_is_sent_if_it_exceeds_its_gas(totals: list[int], fixed: int, each: int) -> None:
    chosen = outweighing(totals, fixed=fixed, each=each)

    assert all((totals[at] - each) * len(chosen) > fixed for at in chosen)
    for more in combinations(totals, len(chosen) + 1):
        assert any((total - each) * len(more) <= fixed for total in more)
