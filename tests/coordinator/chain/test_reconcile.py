"""A difference between our rows and the chain is an alarm, and nothing else is."""

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from fakes.held import hold_job
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.chain import reconcile, watcher
from gristmill_coordinator.chain.cursors import BOOKS, position
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import alarms, jobs, ledger_events
from gristmill_protocol.jobs import StatementLine

pytestmark = pytest.mark.slow

HELD = 1_000_000_000


@pytest.fixture
async def paid(market: World) -> World:
    """A market in which one job of 5 USD is paid, and a stake was slashed for the renter's good."""
    market.machines.clear()
    line = StatementLine(provider=1, verifier=0, recipe=market.recipe_id, amount_usd_micros=5_000_000)
    await hold_job(market.co, market.renter, line, nonce=3)
    for _ in range(8):
        await market.tick()
    return market


async def check(market: World) -> list[tuple[str, int, int]]:
    """What differs at the next comparison."""
    market.clock.now_s += market.config.check_books_s
    await reconcile.step(market.co)
    async with market.co.store.read() as tx:
        rows = await tx.rows(sa.select(alarms).where(alarms.c.cleared_s == 0).order_by(alarms.c.subject))
    return [(row.subject, row.expected, row.found) for row in rows]


async def event(market: World, name: str) -> Row:
    async with market.co.store.read() as tx:
        row = await tx.row(sa.select(ledger_events).where(ledger_events.c.name == name))
    assert row is not None
    return row


async def test_after_a_payment_the_books_agree(paid: World) -> None:
    books = await reconcile.compare(paid.co)

    assert books is not None
    assert (books.accounts, books.payments, list(books.differences)) == (1, 1, [])
    assert await check(paid) == []
    assert (await views.health(paid.co)).status == "ok"


async def test_a_deposit_that_we_do_not_know_of_is_an_alarm_until_we_do(paid: World) -> None:
    row = await event(paid, "Deposited")
    async with paid.co.store.write() as tx:
        await tx.run(sa.delete(ledger_events).where(ledger_events.c.name == "Deposited"))

    with capture_logs() as logs:
        found = await check(paid)

    assert found == [(f"account {paid.renter.address}", -5_000_000, HELD - 5_000_000)]
    assert [log["log_level"] for log in logs if log["event"] == "books_differ"] == ["error"]
    assert (await views.health(paid.co)).status == "alarm"
    async with paid.co.store.write() as tx:
        await tx.run(sa.insert(ledger_events).values(**row._mapping))
    assert await check(paid) == []
    assert (await views.health(paid.co)).alarms == 0


async def test_a_job_whose_payment_is_another_than_its_event_is_an_alarm(paid: World) -> None:
    async with paid.co.store.write() as tx:
        await tx.run(sa.update(jobs).values(paid_usd_micros=4_999_999))

    [(subject, expected, found)] = await check(paid)

    assert subject.startswith("job_")
    assert (expected, found) == (4_999_999, 5_000_000)


async def test_a_nonce_that_paid_twice_is_an_alarm(paid: World) -> None:
    row = await event(paid, "StatementSettled")
    async with paid.co.store.write() as tx:
        await tx.run(sa.insert(ledger_events).values(**{**row._mapping, "log_index": 77}))

    found = {subject: (expected, times) for subject, expected, times in await check(paid)}

    assert found[f"nonce 3 of {paid.renter.address.lower()}"] == (1, 2)
    assert f"account {paid.renter.address}" in found


async def test_a_ledger_that_holds_less_than_its_accounts_is_an_alarm(paid: World) -> None:
    paid.chain.state.held = 1
    paid.chain.mine(3)
    await watcher.step(paid.co)

    assert await check(paid) == [("ledger", HELD - 5_000_000, 1)]


async def test_a_node_that_can_not_say_is_asked_again(paid: World) -> None:
    paid.chain.reachable = False
    assert await check(paid) == []
    before = (await position(paid.co, BOOKS)).block

    paid.chain.reachable = True
    paid.clock.now_s += 3
    await paid.tick()

    assert (await position(paid.co, BOOKS)).block > before
