"""Payments: batched by gas, never below cost, and done by an event, whoever sent the transaction."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fakes.held import hold_job, job
from fakes.world import World
from gristmill_coordinator.chain.port import SettleCall
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.gas import GWEI, Bid
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import statements, transactions
from gristmill_protocol.jobs import SignedStatement, StatementLine

pytestmark = pytest.mark.slow

USD = 1_000_000
# A lone settlement takes 63,000 gas and each further statement 17,000, at 2 gwei and 3,000 USD: 0.378 and 0.102 USD.
DEAR = {"native_usd": "3000", "settle_within_s": 1000}


@pytest.fixture
async def town(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    config = Config(data_dir=tmp_path, **getattr(request, "param", {}))
    world = World(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}", config)
    await world.start()
    world.chain.open_account(world.renter.address, 10_000 * USD)
    yield world
    await world.stop()


async def hold(world: World, *amounts: int, first: int = 0, provider: int = 1, **options: object) -> list[str]:
    held = []
    for nonce, amount in enumerate(amounts, start=first):
        line = StatementLine(provider=provider, verifier=0, recipe=world.recipe_id, amount_usd_micros=amount)
        held.append(await hold_job(world.co, world.renter, line, nonce=nonce, **options))  # type: ignore[arg-type]
    return held


async def live(world: World, ticks: int = 6, seconds: float = 1.0) -> None:
    for _ in range(ticks):
        await world.tick(seconds)


async def reasons(world: World, job_ids: list[str]) -> list[str]:
    return [(await job(world.co, job_id)).reason for job_id in job_ids]


async def settlements(world: World) -> list[Row]:
    async with world.co.store.read() as tx:
        return list(await tx.rows(sa.select(transactions).where(transactions.c.kind == "settle")))


@pytest.mark.parametrize("town", [{"batch_gas": 46_000 + 3 * 17_000}], indirect=True)
async def test_a_batch_takes_no_more_gas_than_is_set(town: World) -> None:
    job_ids = await hold(town, *[USD] * 10)

    await live(town)

    assert await reasons(town, job_ids) == [JobReason.DONE] * 10
    assert sorted(len(row.payload["batch"]) for row in await settlements(town)) == [1, 3, 3, 3]


async def test_equal_payees_follow_one_another_in_a_batch(town: World) -> None:
    for nonce, provider in enumerate((2, 1, 2, 1)):
        await hold(town, USD, first=nonce, provider=provider)

    await live(town)

    [row] = await settlements(town)
    assert [one["statement"]["lines"][0]["provider"] for one in row.payload["batch"]] == [1, 1, 2, 2]


@pytest.mark.parametrize("town", [DEAR], indirect=True)
async def test_payments_wait_until_their_fees_cover_the_gas(town: World) -> None:
    small = await hold(town, 20 * USD)
    await live(town)
    assert await reasons(town, small) == [JobReason.TOO_DEAR]
    assert await settlements(town) == []

    large = await hold(town, 40 * USD, first=1)
    await live(town, seconds=30)

    assert await reasons(town, small + large) == [JobReason.DONE] * 2
    [row] = await settlements(town)
    assert row.worth_usd_micros == 600_000


@pytest.mark.parametrize("town", [DEAR], indirect=True)
async def test_what_its_fee_does_not_carry_does_not_hold_up_what_it_does(town: World) -> None:
    large = await hold(town, 100 * USD)
    tiny = await hold(town, *[1_000] * 30, first=1)

    await live(town)

    assert await reasons(town, large) == [JobReason.DONE]
    done = (await reasons(town, tiny)).count(JobReason.DONE)
    assert done == (1_000_000 - 378_000) // 102_000


@pytest.mark.parametrize("town", [DEAR], indirect=True)
async def test_near_its_deadline_a_payment_goes_if_it_exceeds_its_gas(town: World) -> None:
    deadline_s = int(town.clock()) + 2_000
    worth, not_worth = await hold(town, 380_000, 200_000, deadline_s=deadline_s)
    await live(town, ticks=3, seconds=300)
    assert await reasons(town, [worth, not_worth]) == [JobReason.TOO_DEAR] * 2

    await live(town, ticks=6, seconds=60)
    assert await reasons(town, [worth]) == [JobReason.DONE]

    await live(town, ticks=4, seconds=300)
    row = await job(town.co, not_worth)
    assert (row.reason, row.paid_usd_micros, row.settle_tx) == (JobReason.DONE, 0, None)
    assert row.reason_text.endswith("0.00 USD was paid. Until its deadline, gas would have cost more than the payment.")


@pytest.mark.parametrize("town", [DEAR], indirect=True)
async def test_when_gas_becomes_dear_on_the_way_nothing_is_paid_below_cost(town: World) -> None:
    job_ids = await hold(town, 60 * USD)
    await town.tick()
    assert len(town.chain.pool) == 1
    town.chain.base_fee_wei = 100 * GWEI

    await live(town, ticks=3, seconds=town.config.resend_tx_s)
    await live(town, ticks=4, seconds=30)

    assert await reasons(town, job_ids) == [JobReason.TOO_DEAR]
    assert town.chain.credits == {}
    town.chain.base_fee_wei = GWEI
    await live(town, ticks=6, seconds=30)
    assert await reasons(town, job_ids) == [JobReason.DONE]


async def test_a_payment_that_somebody_else_handed_in_is_seen(town: World) -> None:
    """A provider with a reservation may settle by itself, and an earlier rung of the ladder at that."""
    [job_id] = await hold(town, 5 * USD, rungs=(2 * USD,))
    async with town.co.store.read() as tx:
        rows = await tx.rows(sa.select(statements))
    signed = {row.statement_id: SignedStatement.model_validate(row.signed) for row in rows}
    [rung] = [key for key, one in signed.items() if one.statement.total_usd_micros == 2 * USD]
    handed_in = town.chain.sign(SettleCall(batch=(signed[rung],)), nonce=0, gas=100_000, bid=Bid(10 * GWEI, 10 * GWEI))
    await town.chain.send(handed_in.raw)

    await live(town, ticks=4)
    await live(town, ticks=4, seconds=30)

    row = await job(town.co, job_id)
    assert (row.reason, row.paid_usd_micros, row.statement_id) == (JobReason.DONE, 2 * USD, rung)
    assert row.settle_tx == handed_in.hash
    assert town.chain.settled(town.renter.address, 0) == 2 * USD


async def test_a_poor_account_ends_unpaid_and_says_why(town: World) -> None:
    town.chain.open_account(town.renter.address, 1)
    [job_id] = await hold(town, USD, deadline_s=int(town.clock()) + 100)

    await live(town, ticks=8, seconds=20)

    row = await job(town.co, job_id)
    assert (row.reason, row.paid_usd_micros) == (JobReason.DONE, 0)
    assert row.reason_text.endswith("The account's balance was too low until the payment's deadline.")
