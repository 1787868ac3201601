"""What a new owner is told to ask for."""

from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.api import OfferView
from gristmill_provider.devices import Device
from gristmill_provider.pricing import Machine, round_usd_micros, suggest, watts_at_work

CARD = "NVIDIA GeForce RTX 4090"
MINE = Machine(CARD, is_cpu=False, flops_per_s=100 * 10**12)


def offer(ask: int, *, device: str = CARD, flops: int = 100 * 10**12, standing: str = "proven") -> OfferView:
    return OfferView(
        node_id=f"n{ask}",
        provider=1,
        provider_name="somebody",
        device=device,
        is_cpu=device == "CPU",
        memory_bytes=2**34,
        flops_per_s=flops,
        ask_usd_micros_per_gpu_hour=ask,
        slots=1,
        slots_free=1,
        sandbox="docker",
        standing=standing,
    )


def test_the_price_is_the_middle_of_what_the_same_cards_ask() -> None:
    market = [offer(250_000), offer(300_000), offer(900_000), offer(10_000, device="NVIDIA A2", flops=10**13)]

    suggested = suggest(market, MINE, floor_usd_micros=60_000)

    assert suggested.ask_usd_micros == 300_000
    assert suggested.why == (
        f"It is the middle of 3 other {CARD} in the market: 0.25 to 0.90 USD for as much work an hour."
    )


def test_a_slower_card_is_worth_less() -> None:
    halved = Machine(CARD, is_cpu=False, flops_per_s=50 * 10**12)

    assert suggest([offer(300_000)], halved, 0).ask_usd_micros == 150_000


def test_where_nobody_has_the_card_all_others_are_compared_by_speed() -> None:
    suggested = suggest([offer(20_000, device="NVIDIA A2", flops=10**13)], MINE, 0)

    assert suggested.ask_usd_micros == 200_000
    assert "1 other machines" in suggested.why


def test_electricity_is_the_least() -> None:
    suggested = suggest([offer(10_000)], MINE, floor_usd_micros=60_000)

    assert suggested.ask_usd_micros == 60_000
    assert "costs more than the market pays" in suggested.why


def test_an_empty_market_gives_twice_the_electricity() -> None:
    assert suggest([], MINE, floor_usd_micros=60_000).ask_usd_micros == 120_000


def test_offers_that_nobody_gets_work_from_do_not_count() -> None:
    market = [offer(1, standing="removed"), offer(2, standing="quarantined"), offer(300_000)]

    assert suggest(market, MINE, 0).ask_usd_micros == 300_000


def test_a_card_is_taken_to_draw_what_its_driver_allows() -> None:
    assert watts_at_work(Device(CARD, 2**34, "580", "GPU-1", power_limits_w=(150, 450))) == 450
    assert watts_at_work(None) < watts_at_work(Device(CARD, 2**34, "580", "GPU-1"))


@given(asks=st.lists(st.integers(0, 10**9), max_size=6), floor=st.integers(0, 10**7))
def test_no_suggestion_is_below_the_electricity(asks: list[int], floor: int) -> None:
    assert suggest([offer(ask) for ask in asks], MINE, floor).ask_usd_micros >= floor


@given(amount=st.integers(0, 10**12))
def test_prices_are_rounded_to_two_digits(amount: int) -> None:
    near, above = round_usd_micros(amount), round_usd_micros(amount, up=True)

    assert amount <= above
    assert abs(near - amount) * 20 <= max(amount, 1)
    assert len(str(near).rstrip("0")) <= 2
