"""Money: sums are exact, nothing passes a cap, nobody is paid more than was earned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain import pricing
from gristmill_protocol.jobs import Plan, Quote, QuotedProvider, SignedStatement, Statement, StatementLine
from gristmill_protocol.ladder import Work, ladder_statements, statement_for
from gristmill_protocol.modes import Mode
from gristmill_protocol.money import FEE_BPS, split_line

bps = st.tuples(st.integers(0, 2_000), st.integers(0, 500))
amounts = st.integers(0, 10**15)


def plan(steps: int = 100, segment_steps: int = 10, flops: int = 10**15) -> Plan:
    return Plan(
        settings={}, steps=steps, segment_steps=segment_steps, flops=flops, peak_bytes=1, state_bytes=1
    )  # fmt: skip


def quote(prices: tuple[int, ...], steps: int, segment_steps: int, cap: int) -> Quote:
    candidates = tuple(
        QuotedProvider(
            node_id=f"n{at}", provider=at + 2, verifier=9, price_usd_micros=price, device="x", expected_seconds=1
        )
        for at, price in enumerate(prices)
    )
    return Quote(
        quote_id="q", spec_digest="00" * 32, plan=plan(steps, segment_steps), candidates=candidates,
        price_usd_micros=prices[0], cap_usd_micros=cap, seconds_low=1, seconds_high=2, recipe_id=1, verifier_bps=600,
        royalty_bps=300, nonce=0, deadline_s=1, expires_s=1, offers_considered=1, mode=Mode.BITWISE,
        guarantee="", verification="",
    )  # fmt: skip


@st.composite
def quotes(draw: st.DrawFn) -> Quote:
    steps = draw(st.integers(1, 200))
    first = draw(st.integers(1, 10**9))
    cap = pricing.cap(first, draw(amounts), draw(st.integers(first, 10**10)))
    prices = (first, draw(st.integers(first, cap)))[: draw(st.integers(1, 2))]
    return quote(prices, steps, draw(st.integers(1, steps)), cap)


@given(
    ask=st.integers(0, 10**9), flops_per_s=st.integers(1, 10**18), flops=st.integers(1, 10**22), shares=bps
)  # fmt: skip
def test_a_price_leaves_the_provider_its_ask(ask: int, flops_per_s: int, flops: int, shares: tuple[int, int]) -> None:
    verifier_bps, royalty_bps = shares

    price = pricing.price(
        plan(flops=flops), ask_usd_micros_per_gpu_hour=ask, flops_per_s=flops_per_s, verifier_bps=verifier_bps,
        royalty_bps=royalty_bps,
    )  # fmt: skip

    split = split_line(price.usd_micros, verifier_bps=verifier_bps, royalty_bps=royalty_bps)
    assert split.provider * 3_600_000 >= ask * price.duration_ms


def test_a_faster_machine_costs_less_at_the_same_ask() -> None:
    slow, fast = (
        pricing.price(
            plan(), ask_usd_micros_per_gpu_hour=10**6, flops_per_s=speed, verifier_bps=600, royalty_bps=300
        )
        for speed in (10**11, 10**13)
    )  # fmt: skip

    assert fast.usd_micros < slow.usd_micros
    assert fast.duration_ms < slow.duration_ms


@given(price=amounts, next_price=amounts, budget=amounts)
def test_a_cap_is_within_budget_and_leaves_room_for_a_move(price: int, next_price: int, budget: int) -> None:
    cap = pricing.cap(price, next_price, budget)

    assert cap <= budget
    assert cap == budget or cap >= next_price
    assert 2 * cap <= 3 * price or cap <= next_price


@pytest.mark.slow
@given(quotes())
def test_no_rung_of_the_ladder_passes_the_cap(quote: Quote) -> None:
    assert all(one.total_usd_micros <= quote.cap_usd_micros for one in ladder_statements(quote))


@pytest.mark.slow
@given(quotes(), st.data())
def test_work_that_fits_the_cap_costs_no_more_than_the_cap(quote: Quote, data: st.DataObject) -> None:
    accepted: list[Work] = []
    left = quote.plan.steps
    while left:
        steps = data.draw(st.integers(1, left))
        price = data.draw(st.integers(1, 2 * quote.cap_usd_micros))
        work = Work(data.draw(st.integers(2, 5)), 9, price, left)
        if pricing.fits_cap(quote, accepted, work):
            accepted.append(Work(work.provider, 9, price, steps))
            left -= steps
        else:
            break

    assert pricing.total(quote, accepted) <= quote.cap_usd_micros


@pytest.mark.slow
@given(quotes(), st.data())
def test_the_ladder_pays_every_whole_segment_of_the_quoted_machine(quote: Quote, data: st.DataObject) -> None:
    first = quote.candidates[0]
    done = data.draw(st.sampled_from(list(quote.plan.grid.ends())))
    wanted = statement_for(quote, [Work(first.provider, first.verifier, first.price_usd_micros, done)])
    held = [SignedStatement(statement=one, signature="0x") for one in ladder_statements(quote)]

    if wanted is not None:
        chosen = pricing.choose(wanted, held)
        assert chosen is not None
        assert chosen.statement == wanted


@pytest.mark.slow
@given(quotes(), st.data())
def test_the_best_statement_below_pays_nobody_too_much(quote: Quote, data: st.DataObject) -> None:
    works = [
        Work(one.provider, one.verifier, one.price_usd_micros, data.draw(st.integers(0, quote.plan.steps)))
        for one in quote.candidates
    ]
    wanted = statement_for(quote, works)
    held = [SignedStatement(statement=one, signature="0x") for one in ladder_statements(quote)]
    if wanted is None:
        return

    best = pricing.best_below(wanted, held)

    if best is not None:
        earned = {line.provider: line.amount_usd_micros for line in wanted.lines}
        assert all(line.amount_usd_micros <= earned[line.provider] for line in best.statement.lines)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=5), bps, st.booleans())
def test_a_bills_parts_sum_to_what_was_paid(lines: list[int], shares: tuple[int, int], ran: bool) -> None:
    statement = Statement(
        nonce=0,
        deadline_s=1,
        lines=tuple(StatementLine(provider=2, verifier=3, recipe=1, amount_usd_micros=one) for one in lines),
    )

    ran_by = {2} if ran else {4}  # else its lines pay for having run it again
    bill = pricing.bill(
        statement, verifier_bps=shares[0], royalty_bps=shares[1], settle_tx=None, ran_by=ran_by
    )  # fmt: skip

    parts = bill.provider_usd_micros, bill.verifier_usd_micros, bill.author_usd_micros, bill.treasury_usd_micros
    assert sum(parts) == bill.paid_usd_micros == sum(lines)
    assert bill.treasury_usd_micros == sum(line * FEE_BPS // 10_000 for line in lines)
    assert ran or bill.provider_usd_micros == 0
