"""What anybody sees of the market, and why a machine is idle; whole jobs through every stage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator import public
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.config import Config
from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import JobView

pytestmark = pytest.mark.slow


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with started(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}") as world:
        yield world


@pytest.fixture
async def either_world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """On SQLite, and on Postgres where it is installed."""
    async with started(tmp_path, database_url) as world:
        yield world


@asynccontextmanager
async def started(folder: Path, database_url: str) -> AsyncIterator[World]:
    config = Config(data_dir=folder, anchor_every_s=0, retry_node_s=20, candidate_wait_s=5)
    world = World(folder, database_url, config)
    await world.start()
    yield world
    await world.stop()


async def done_job(world: World, request_id: str = "request-1") -> JobView:
    """A small job, from its order to its payment."""
    submitted = await world.submit(await world.spec(settings={"rounds": 1}), request_id)
    return await world.finish(submitted.job_id)


async def idle(world: World, name: str) -> tuple[str, ...]:
    [machine] = (await public.provider(world.co, world.machines[name].provider)).machines
    return machine.idle


async def test_a_provider_sees_what_it_earned_by_day(either_world: World) -> None:
    world = either_world
    willow = await world.add_machine("willow", ask=100_000)
    oak = await world.add_machine("oak", ask=200_000)
    first = await done_job(world)
    world.clock.now_s += 86_400
    for machine in world.machines.values():
        await machine.connect(world.co)
    second = await done_job(world, "request-2")

    page = await public.provider(world.co, willow.provider)
    checker = await public.provider(world.co, oak.provider)

    assert first.bill
    assert second.bill
    today = datetime.fromtimestamp(world.clock.now_s, UTC).date().isoformat()
    assert [(day.usd_micros, day.jobs) for day in page.earned] == [
        (second.bill.provider_usd_micros, 1), (first.bill.provider_usd_micros, 1),
    ]  # fmt: skip
    assert page.earned[0].day == today
    assert sum(day.usd_micros for day in page.earned) == world.chain.credits[willow.provider]
    assert sum(day.usd_micros for day in checker.earned) == world.chain.credits[oak.provider]
    assert page.about.clean_windows == 2
    assert (await public.market(world.co)).jobs == {"done": 2}


async def test_the_market_counts_jobs_checks_and_slashes_and_names_no_renter(world: World) -> None:
    cheat = await world.add_machine("cheat", ask=50_000, train=lazy)
    await world.add_machine("willow", ask=60_000)
    await world.add_machine("oak", ask=60_000)
    done = await done_job(world)
    await world.tick()

    seen = await public.market(world.co)

    assert done.bill
    assert seen.jobs == {"done": 1}
    assert seen.paid_usd_micros == done.bill.paid_usd_micros
    assert seen.accepted_steps == done.steps_total
    assert seen.windows == {"void": 1, "paid": 1}
    assert seen.faults == {"fraud": 1}
    assert min(seen.audits["passed"], seen.audits["mismatch"]) >= 1
    assert [(one.provider, one.provider_name, one.amount_usd_micros) for one in seen.slashes] == [
        (cheat.provider, "cheat", 10_000_000)
    ]
    assert seen.slashed_usd_micros == 10_000_000
    assert world.renter_key not in seen.model_dump_json().lower()
    assert done.job_id not in seen.model_dump_json()


async def test_providers_are_listed_with_standing_and_price(world: World) -> None:
    await world.add_machine("willow", ask=200_000)
    oak = await world.add_machine("oak", ask=100_000)
    oak.cut()
    world.clock.now_s += 600
    await world.machines["willow"].connect(world.co)

    first, second = await public.providers(world.co)

    assert (first.name, first.connected, first.ask_usd_micros_per_gpu_hour) == ("willow", 1, 200_000)
    assert (second.name, second.connected, second.ask_usd_micros_per_gpu_hour) == ("oak", 0, None)
    assert first.devices == ("Test card",)
    assert first.frauds == first.slashed_usd_micros == 0


async def test_a_machine_says_what_keeps_it_from_work(world: World) -> None:
    await world.add_machine("dear", ask=300_000)
    await world.add_machine("untested", ask=100_000, proven=False, prover=None)
    paused = await world.add_machine("paused")
    paused.offer.paused = True
    await paused.connect(world.co)
    gone = await world.add_machine("gone")
    gone.cut()
    await world.add_machine("cheap", ask=100_000)
    world.clock.now_s += 600
    for name in ("dear", "untested", "paused", "cheap"):
        await world.machines[name].connect(world.co)

    assert await idle(world, "gone") == ("It is not connected: start it with `gristmill-node up`.",)
    assert "Its owner has paused it." in await idle(world, "paused")
    assert "has not been tested yet" in (await idle(world, "untested"))[0]
    assert await idle(world, "dear") == (
        "No job is waiting for a machine.",
        "It asks 0.30 USD an hour; 2 of 2 other free machines do the same work for less.",
    )
    assert await idle(world, "cheap") == ("No job is waiting for a machine.",)


async def test_the_requirement_that_a_waiting_job_has_is_named(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=100_000)
    await world.submit()
    for machine in world.machines.values():
        machine.offer.ClearField("recipes")
        await machine.connect(world.co)
    await world.tick()

    assert await idle(world, "willow") == ("It does not fit 1 waiting job: the recipe 'text-sorter' is needed.",)


async def test_a_machine_at_work_is_not_idle(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 1)

    assert await idle(world, "willow") == ()


async def test_anybody_may_ask_over_http_and_an_unknown_provider_is_not_found(world: World) -> None:
    willow = await world.add_machine("willow")
    transport = httpx.ASGITransport(make_app(world.co))
    async with httpx.AsyncClient(transport=transport, base_url="http://mill") as client:
        numbers = await client.get("/v1/market/numbers")
        listed = await client.get("/v1/market/providers")
        one = await client.get(f"/v1/market/providers/{willow.provider}")
        none = await client.get("/v1/market/providers/4000000")

    assert numbers.json()["jobs"] == {}
    assert [row["name"] for row in listed.json()] == ["willow"]
    assert one.json()["machines"][0]["offer"]["provider_name"] == "willow"
    assert none.status_code == 404
    with pytest.raises(NotFound):
        await public.provider(world.co, 4_000_000)
