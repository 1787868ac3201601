"""Amounts are exact: nothing is created, lost or rounded in a party's favour beyond one unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.errors import BadRequest
from gristmill_protocol.money import (
    BPS,
    FEE_BPS,
    MAX_ROYALTY_BPS,
    MAX_VERIFIER_BPS,
    cost_usd_micros,
    earned,
    format_usd,
    gross_for_net,
    parse_usd,
    split_line,
)

amounts = st.integers(0, 2**96 - 1)
verifier_bps = st.integers(0, MAX_VERIFIER_BPS)
royalty_bps = st.integers(0, MAX_ROYALTY_BPS)


@given(amounts, verifier_bps, royalty_bps)
def test_a_line_is_split_without_remainder(amount: int, verifier: int, royalty: int) -> None:
    split = split_line(amount, verifier_bps=verifier, royalty_bps=royalty)

    assert split.provider + split.verifier + split.author + split.treasury == amount
    assert split.provider >= amount * (BPS - FEE_BPS - verifier - royalty) // BPS


@given(st.integers(0, 2**80), verifier_bps, royalty_bps)
def test_gross_pays_the_provider_its_net_at_the_least_cost(net: int, verifier: int, royalty: int) -> None:
    gross = gross_for_net(net, verifier_bps=verifier, royalty_bps=royalty)

    assert split_line(gross, verifier_bps=verifier, royalty_bps=royalty).provider >= net
    assert gross * (BPS - FEE_BPS - verifier - royalty) < (net + 1) * BPS


@given(amounts, st.integers(1, 10**9), st.data())
def test_earnings_rise_with_steps_and_end_exactly(total: int, steps: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, steps))

    assert 0 <= earned(total, done, steps) <= earned(total, min(done + 1, steps), steps) <= total
    assert earned(total, steps, steps) == total


@given(st.integers(-(10**18), 10**18))
def test_formatted_amounts_parse_back(amount: int) -> None:
    text = format_usd(amount)

    assert parse_usd(text.removeprefix("-")) == abs(amount)
    assert text.startswith("-") == (amount < 0)


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1e3", "0.0000001", "1,5", "NaN", "١"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="amount of USD"):
        parse_usd(text)


def test_time_costs_are_rounded_up_to_the_unit() -> None:
    assert cost_usd_micros(100_000, 3_600_000) == 100_000
    assert cost_usd_micros(100_000, 1) == 1
    assert cost_usd_micros(100_000, 0) == 0
