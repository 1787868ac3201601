from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_provider.pace import Pace, PacedTransport


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += max(0, seconds)


async def echo_twice(scope: Any, receive: Any, send: Any) -> None:
    """A server that gives back what it gets, twice."""
    body, more = b"", True
    while more:
        part = await receive()
        body, more = body + part["body"], part["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body * 2})


@given(sizes=st.lists(st.integers(0, 10**7), max_size=20), mbit=st.floats(0.1, 1000))
async def test_no_more_goes_over_the_line_than_is_allowed(sizes: list[int], mbit: float) -> None:
    clock = Clock()
    pace = Pace(mbit, clock=clock, sleep=clock.sleep)

    for size in sizes:
        await pace.spend(size)

    assert clock.now_s - 100 == pytest.approx(sum(sizes) * 8 / (mbit * 1e6), abs=1e-6)


async def test_a_line_that_was_idle_owes_nothing() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock, sleep=clock.sleep)
    await pace.spend(1_000_000)

    clock.now_s += 3_600
    await pace.spend(1_000_000)

    assert clock.now_s == 100 + 1 + 3_600 + 1


async def test_both_directions_arrive_whole_and_at_their_own_pace() -> None:
    down, up = Clock(), Clock()
    transport = PacedTransport(
        httpx.ASGITransport(echo_twice),
        download=Pace(8, clock=down, sleep=down.sleep),
        upload=Pace(4, clock=up, sleep=up.sleep),
    )

    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        got = await client.put("/x", content=b"m" * 500_000)

    assert got.content == b"m" * 1_000_000
    assert (down.now_s, up.now_s) == (pytest.approx(101), pytest.approx(101))
