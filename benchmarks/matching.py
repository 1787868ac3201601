"""Ranking the offers of a market for one job: the order book beside pricing every offer in a Python loop."""

import time
from collections.abc import Callable

from gristmill_coordinator.domain import pricing
from gristmill_coordinator.market.book import Demand, Offer, OrderBook, Terms
from gristmill_protocol.jobs import GpuNeeds, Plan

RUNS = 7
OFFERS = 100_000
PLAN = Plan(settings={}, steps=100, segment_steps=10, flops=10**16, peak_bytes=8 * 2**30, state_bytes=1)
DEMAND = Demand("0x" + "11" * 20, "text-sorter", PLAN, GpuNeeds(), verifier_bps=600, royalty_bps=300)


def offer(at: int) -> Offer:
    terms = Terms(
        device="NVIDIA GeForce RTX 4090",
        is_cpu=False,
        memory_bytes=24 * 2**30,
        driver="",
        numeric_class="ab" * 32,
        flops_per_s=10**13 + at % 7 * 10**12,
        ask_usd_micros_per_gpu_hour=300_000 + at * 7919 % 100_000,
        slots=1,
        sandbox="docker",
        paused=False,
        recipes=("text-sorter",),
    )
    return Offer(f"node_{at}", at + 1, f"0x{at:040x}", "0x", f"node_{at}", 10**18, terms)


def price(offer: Offer) -> int:
    """USD micros."""
    return pricing.price(
        PLAN,
        ask_usd_micros_per_gpu_hour=offer.terms.ask_usd_micros_per_gpu_hour,
        flops_per_s=offer.terms.flops_per_s,
        verifier_bps=DEMAND.verifier_bps,
        royalty_bps=DEMAND.royalty_bps,
    ).usd_micros


def seconds(run: Callable[[], object]) -> float:
    """The fastest of seven runs."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    offers = [offer(at) for at in range(OFFERS)]
    book = OrderBook()
    for one in offers:
        book.put(one)
        book.heard(one.node_id, 1.0)

    loop_s = seconds(lambda: min(price(one) for one in offers))
    book_s = seconds(lambda: book.rank(DEMAND, since_s=1.0))
    print(f"{OFFERS:,} offers, every price in a loop {loop_s * 1e3:.0f} ms (baseline)")
    print(f"the order book, with all its rules {book_s * 1e3:.1f} ms, ratio {book_s / loop_s:.3f}")
