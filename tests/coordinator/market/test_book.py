"""The order book: cheapest total first, and a reason for every offer that does not fit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill_coordinator.domain import pricing
from gristmill_coordinator.domain.cards import Standing
from gristmill_coordinator.domain.modes import Checkers
from gristmill_coordinator.market.book import Demand, Offer, OrderBook, Terms
from gristmill_protocol.jobs import GpuNeeds, Plan

RENTER = "0x" + "11" * 20
NOW = 1000.0


def offer(name: str, **changes: object) -> Offer:
    values: dict[str, object] = {
        "device": "NVIDIA GeForce RTX 4090",
        "is_cpu": False,
        "memory_bytes": 24 * 2**30,
        "driver": "",
        "numeric_class": "ab" * 32,
        "flops_per_s": 10**13,
        "ask_usd_micros_per_gpu_hour": 300_000,
        "slots": 1,
        "sandbox": "docker",
        "paused": False,
        "recipes": ("text-sorter",),
    }
    owner = str(changes.pop("owner", name))
    terms = Terms.model_validate(values | changes)
    provider = int.from_bytes(owner.encode()) % 10**6 + 1
    return Offer(name, provider, "0x" + owner.encode().hex().ljust(40, "0"), "0x", name, 10**9, terms)


def demand(**changes: object) -> Demand:
    plan = Plan(settings={}, steps=100, segment_steps=10, flops=10**16, peak_bytes=8 * 2**30, state_bytes=1)
    needs = Demand(RENTER, "text-sorter", plan, GpuNeeds(), verifier_bps=600, royalty_bps=300)
    return replace(needs, **changes)  # type: ignore[arg-type]


def book(*offers: Offer) -> OrderBook:
    found = OrderBook()
    for one in offers:
        found.put(one)
        found.heard(one.node_id, NOW)
    return found


def names(ranked: OrderBook, needs: Demand) -> list[str]:
    return [fit.offer.node_id for fit in ranked.rank(needs, since_s=NOW).fits]


@pytest.mark.parametrize(
    "one",
    [
        replace(offer("x"), standing=Standing.PROVISIONAL, proven_s=NOW),
        replace(offer("x", sandbox="process", own_renters=(RENTER,)), standing=Standing.QUARANTINED),
    ],
)
def test_a_tested_card_and_ones_own_machine_are_let_through(one: Offer) -> None:
    found = book(one, offer("z", slots=1, owner="other")).rank(
        demand(long_s=900.0, tested_since_s=NOW - 3600), since_s=NOW, only=["x"]
    )

    assert [reason for reason in found.excluded if "card" in reason] == []


def test_a_short_job_asks_for_no_fresh_test() -> None:
    old = [replace(offer(name), proven_s=1.0) for name in ("x", "y")]

    assert names(book(*old), demand(long_s=3600.0, tested_since_s=NOW - 3600)) == ["x", "y"]


def test_the_lowest_total_wins_not_the_lowest_ask() -> None:
    slow = offer("slow", ask_usd_micros_per_gpu_hour=100_000, flops_per_s=10**12)
    fast = offer("fast", ask_usd_micros_per_gpu_hour=300_000, flops_per_s=10**13)

    assert names(book(slow, fast), demand()) == ["fast", "slow"]


@pytest.mark.parametrize(
    ("unfit", "needs", "requirement"),
    [
        (offer("x", memory_bytes=2**30), demand(), "8.0 GiB of memory"),
        (offer("x", is_cpu=True), demand(gpu=GpuNeeds(allow_cpu=False)), "a graphics card"),
        (offer("x", device="GTX 1080"), demand(gpu=GpuNeeds(names=("4090",))), "4090"),
        (offer("x", recipes=("image-sorter",)), demand(), "the recipe 'text-sorter'"),
        (offer("x", sandbox="process", own_renters=("0x22",)), demand(), "a container, or the renter's own machine"),
        (offer("x", paused=True), demand(), "not paused by its owner"),
        (
            replace(offer("x"), standing=Standing.UNTESTED),
            demand(),
            "a card that has passed its test, or the renter's own machine",
        ),
        (
            replace(offer("x"), proven_s=NOW - 7200),
            demand(long_s=900.0, tested_since_s=NOW - 3600),
            "a card that was tested just now, for so long a job",
        ),
        (replace(offer("x"), bonded_usd_micros=0), demand(), "a bond"),
        (replace(offer("x"), banned_until_s=NOW + 1), demand(), "no proven fraud in the last 30 days"),
        (replace(offer("x"), bonded_usd_micros=10_000), demand(), "stake for another job"),
        (offer("x"), demand(excluded=frozenset({"x"})), "not tried with this job before"),
        (offer("x", numeric_class="cd" * 32), demand(), "another owner's machine that can check the work"),
        (offer("x", slots=0), demand(), "a free slot"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_offer_that_does_not_fit_is_counted_under_its_requirement(
    unfit: Offer, needs: Demand, requirement: str
) -> None:
    found = book(offer("willow"), offer("oak"), unfit).rank(needs, since_s=NOW)

    assert {fit.offer.node_id for fit in found.fits} == {"willow", "oak"}
    assert found.considered == 3
    assert found.excluded == {requirement: 1}
    assert f"{requirement} (1)" in found.why_none()


def test_a_job_that_reaches_hosts_goes_where_all_of_them_are_allowed() -> None:
    plan = demand().plan.model_copy(update={"network": ("pypi.org", "hub.example.org")})
    both, one = ("hub.example.org", "pypi.org", "a.example.org"), ("pypi.org",)
    market = book(offer("willow", network=both), offer("oak", network=one), offer("birch"))

    found = market.rank(demand(plan=plan), since_s=NOW)

    assert [fit.offer.node_id for fit in found.fits] == ["willow"]
    assert found.excluded == {"access to hub.example.org": 1, "access to pypi.org": 1}


def test_a_process_runs_its_owners_jobs() -> None:
    mine = offer("mine", sandbox="process", own_renters=(RENTER,), ask_usd_micros_per_gpu_hour=1)

    assert names(book(mine, offer("oak")), demand()) == ["mine", "oak"]


def test_a_silent_machine_is_not_considered() -> None:
    market = book(offer("willow"), offer("oak"), offer("elm"))
    market.heard("elm", 0)

    assert market.rank(demand(), since_s=NOW).considered == 2


def test_machines_of_one_owner_cannot_check_each_other() -> None:
    market = book(offer("a", owner="same"), offer("b", owner="same"))

    assert market.rank(demand(), since_s=NOW).excluded == {"another owner's machine that can check the work": 2}


@pytest.mark.parametrize("trait", ["0xfunder", "203.0.113.0/24"])
def test_machines_that_share_a_funder_or_a_network_cannot_check_each_other(trait: str) -> None:
    a, b = (replace(offer(name), traits=frozenset({trait, name})) for name in "ab")
    market = book(a, b)

    assert market.rank(demand(), since_s=NOW).excluded == {"another owner's machine that can check the work": 2}
    assert market.related("a", "b")
    assert market.traits("a") >= {trait, "a", "b"}
    market.put(offer("b"))
    assert not market.related("a", "b")
    assert names(market, demand()) == ["a", "b"]


def test_a_bond_is_staked_on_one_job_at_a_time() -> None:
    willow, oak = offer("willow", slots=9), offer("oak")
    market = book(willow, oak)
    price = market.rank(demand(), since_s=NOW).fits[0].price.usd_micros
    market.load({}, {willow.provider: 10**9 - price - 1_000})
    assert "willow" in names(market, demand())

    market.busy("willow", lock_usd_micros=price)

    assert market.rank(demand(), since_s=NOW).excluded == {"stake for another job": 1}
    market.load({}, {})
    assert "willow" in names(market, demand())


def test_a_ban_ends() -> None:
    market = book(replace(offer("willow"), banned_until_s=NOW), offer("oak"))

    assert len(names(market, demand())) == 2


def test_load_fills_slots_until_it_is_told_again() -> None:
    market = book(offer("willow"), offer("oak"))
    market.load({"willow": 1}, {})
    assert names(market, demand()) == ["oak"]

    market.busy("oak")
    assert names(market, demand()) == []

    market.load({}, {})
    assert len(names(market, demand())) == 2


def test_a_new_offer_replaces_the_old_one() -> None:
    market = book(offer("willow", sandbox="process", own_renters=(RENTER,)), offer("oak"))

    market.put(offer("willow", recipes=("image-sorter",), ask_usd_micros_per_gpu_hour=1))

    found = market.rank(demand(), since_s=NOW)
    assert found.excluded["the recipe 'text-sorter'"] == 1


def test_an_unbonded_provider_neither_works_nor_checks() -> None:
    market = book(replace(offer("willow"), bonded_usd_micros=0), offer("oak"))

    assert market.rank(demand(), since_s=NOW).fits == ()
    able = market.verifiers(numeric_class="ab" * 32, renter=RENTER, recipe="text-sorter", since_s=NOW)
    assert [one.node_id for one in able] == ["oak"]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(10**9, 10**14)), min_size=2, max_size=60))
def test_the_best_of_many_is_the_cheapest_of_all(asks: list[tuple[int, int]]) -> None:
    offers = [
        replace(offer(f"n{at}", ask_usd_micros_per_gpu_hour=ask, flops_per_s=flops), bonded_usd_micros=10**18)
        for at, (ask, flops) in enumerate(asks)
    ]

    found = book(*offers).rank(demand(), since_s=NOW)

    prices = [
        pricing.price(
            demand().plan,
            ask_usd_micros_per_gpu_hour=one.terms.ask_usd_micros_per_gpu_hour,
            flops_per_s=one.terms.flops_per_s,
            verifier_bps=600,
            royalty_bps=300,
        ).usd_micros
        for one in offers
    ]
    assert found.fits[0].price.usd_micros == min(prices)


def test_other_kinds_check_where_a_kind_has_one_owner() -> None:
    lone, oak, elm = offer("lone"), offer("oak", numeric_class="cd" * 32), offer("elm", numeric_class="ef" * 32)
    twin = offer("twin", owner="elm", numeric_class="cd" * 32)
    found = book(lone, oak, elm, twin)

    others = found.verifiers(
        numeric_class=lone.terms.numeric_class,
        renter=RENTER,
        recipe="text-sorter",
        since_s=NOW,
        checkers=Checkers.OTHER_CLASSES,
    )

    assert "lone" not in names(found, demand())
    assert [one.node_id for one in others] == ["oak", "elm", "twin"]
    # Of other kinds than twin's there is only lone left: oak is of the same, elm has the same owner.
    assert names(found, demand(checkers=Checkers.OTHER_CLASSES)) == ["lone", "oak", "elm"]
    assert names(book(lone, elm, twin), demand(checkers=Checkers.OTHER_CLASSES)) == []


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["11", "22", "33"]), st.booleans()), max_size=8))
def test_two_owners_of_other_kinds_are_found_if_there_are_any(market: list[tuple[str, str, bool]]) -> None:
    offers = [
        offer(f"node{at}", owner=owner, numeric_class=kind * 32, slots=int(able))
        for at, (owner, kind, able) in enumerate(market)
    ]

    fits = names(book(*offers), demand(checkers=Checkers.OTHER_CLASSES))

    expected = []
    for one, (owner, kind, able) in zip(offers, market, strict=True):
        checkers = {other for other, other_kind, free in market if free and other != owner and other_kind != kind}
        if able and len(checkers) >= 2:
            expected.append(one.node_id)
    assert fits == expected


def test_each_machine_is_told_the_first_requirement_that_it_does_not_meet() -> None:
    found = book(
        offer("fit"),
        offer("other"),
        offer("small", memory_bytes=2**30),
        offer("still", paused=True, memory_bytes=2**30),
    )
    needs = demand()

    unmet = found.unmet(needs, since_s=NOW, nodes=["fit", "small", "still", "gone"])

    assert unmet == {"fit": "", "small": "8.0 GiB of memory", "still": "8.0 GiB of memory"}
    assert [name for name, why in unmet.items() if not why] == [name for name in names(found, needs) if name in unmet]
