"""The SDK and the real coordinator agree, and the fake one agrees with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import gristmill as gm
from fakes.http_side import URL, Served, serving
from gristmill import Client
from gristmill.testing import FakeCoordinator
from gristmill_protocol.jobs import JobState


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        for name in ("node_1", "node_2", "node_3"):
            await served.add_node(name)
        yield served


@pytest.fixture(params=["real", "fake"])
async def either(request: pytest.FixtureRequest, tmp_path: Path, served: Served) -> AsyncIterator[Client]:
    """A renter with 10 USD at the real or at the fake coordinator."""
    if request.param == "fake":
        client = FakeCoordinator(balance_usd_micros=10_000_000).client(tmp_path / "state")
    else:
        key = served.open_account(10_000_000)
        client = Client(URL, key, state=tmp_path / "state", wire=served.wire(), clock=served.clock)
    with client:
        yield client


@pytest.mark.slow
async def test_order_is_taken_and_can_be_stopped(either: Client, mails: Path) -> None:
    def use() -> tuple[list[JobState], int, list[str]]:
        plan = either.plan("text-sorter", data=mails, budget="5")
        job = plan.start()
        again = plan.start()
        reserved = either.account().reserved_usd_micros
        assert again.id == job.id
        assert reserved == plan.cap_usd_micros
        states = [job.state, JobState(job.stop().state)]
        return states, len(either.jobs()), [event.text for event in job.logs()]

    states, count, story = await asyncio.to_thread(use)

    assert states[0] is JobState.QUEUED
    assert count == 1
    assert story[0] == "The job is queued."
    assert story[-1] == "You stopped the job."


async def test_refusals_are_of_the_same_kind(either: Client, mails: Path) -> None:
    with pytest.raises(gm.BudgetBelowQuote):
        await asyncio.to_thread(either.train, "text-sorter", data=mails, budget="0.000001")
    with pytest.raises(gm.NotFound):
        await asyncio.to_thread(either.job, "job_none")


async def test_expired_quote_is_refused_by_the_coordinator_too(served: Served, mails: Path, tmp_path: Path) -> None:
    key = served.open_account()
    client = Client(URL, key, state=tmp_path / "state", wire=served.wire(), clock=lambda: 1_800_000_000.0)
    plan = await asyncio.to_thread(client.plan, "text-sorter", data=mails, budget="5")
    served.clock.now_s += 601

    with client, pytest.raises(gm.QuoteExpired):
        await asyncio.to_thread(plan.start)


async def test_what_the_coordinator_says_of_itself(served: Served, tmp_path: Path) -> None:
    client = Client(URL, served.open_account(), state=tmp_path, wire=served.wire(), clock=served.clock)

    with client:
        info = await asyncio.to_thread(client.info)
        market = await asyncio.to_thread(client.market)
        recipes = await asyncio.to_thread(client.recipes)

    assert {offer.standing for offer in market} == {"proven"}
    assert info.ledger == served.chain.info.ledger
    assert [offer.node_id for offer in market] == ["node_1", "node_2", "node_3"]
    assert {"image-sorter", "text-sorter"} == {recipe.recipe for recipe in recipes}


async def test_coordinator_known_by_another_address_is_refused(served: Served, tmp_path: Path) -> None:
    client = Client("http://localhost:8080", served.open_account(), state=tmp_path, wire=served.wire())

    with client, pytest.raises(gm.NotAllowed, match=URL):
        await asyncio.to_thread(client.jobs)
