"""Rows follow the chain wherever it goes, and a node that says what cannot be is not believed."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from eth_account import Account
from structlog.testing import capture_logs

from fakes.held import sign_statement
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.chain import watcher
from gristmill_coordinator.chain.cursors import WATCHER, position
from gristmill_coordinator.chain.port import AnchorCall, SettleCall
from gristmill_coordinator.domain.gas import Bid
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import blocks, ledger_events
from gristmill_protocol.jobs import Statement, StatementLine

pytestmark = pytest.mark.slow

BID = Bid(10**12, 10**10)


async def catch_up(market: World) -> None:
    while await watcher.step(market.co):
        pass


async def events(market: World, name: str) -> list[Row]:
    async with market.co.store.read() as tx:
        one = ledger_events.c
        return list(await tx.rows(sa.select(ledger_events).where(one.name == name).order_by(one.block, one.log_index)))


async def held_hashes(market: World) -> list[str]:
    async with market.co.store.read() as tx:
        return [row.hash for row in await tx.rows(sa.select(blocks.c.hash).order_by(blocks.c.number))]


async def anchor(market: World, digit: int) -> None:
    """Have a root in a block of its own."""
    chain = market.co.chain
    call = AnchorCall(root=f"{digit:064x}")
    await chain.send(chain.sign(call, nonce=await chain.transaction_count(), gas=100_000, bid=BID).raw)
    market.chain.mine()


async def anchored(market: World) -> list[int]:
    return [int(row.args["root"], 16) for row in await events(market, "Anchored")]


async def test_events_become_rows_with_what_they_are_about(market: World) -> None:
    chain = market.chain
    provider = chain.add_provider(node_key=Account.create().address)
    line = StatementLine(provider=provider, verifier=0, recipe=market.recipe_id, amount_usd_micros=5_000_000)
    statement = Statement(nonce=7, deadline_s=2**39, lines=(line,))
    batch = (sign_statement(market.renter, chain.info.ledger_domain, statement),)
    await chain.send(chain.sign(SettleCall(batch=batch), nonce=0, gas=100_000, bid=BID).raw)
    chain.mine()

    await catch_up(market)

    [settled] = await events(market, "StatementSettled")
    assert (settled.contract, settled.key, settled.nonce) == ("ledger", market.renter.address, 7)
    assert (settled.amount_usd_micros, settled.at_s) == (5_000_000, int(market.clock()))
    assert settled.args == {"key": market.renter.address, "nonce": 7, "total": 5_000_000}
    [node] = await events(market, "NodeSet")
    assert (node.contract, node.payee, node.args["metadata"]) == ("registry", provider, "0x" + "00" * 32)
    assert provider in [row.payee for row in await events(market, "PayeeAdded")]
    assert [row.payee for row in await events(market, "RecipeAdded")] == [None, None]


@pytest.mark.parametrize("depth", [1, 3, 20])
async def test_a_reorganisation_takes_rows_back_and_reads_the_new_blocks(market: World, depth: int) -> None:
    await anchor(market, 1)
    await catch_up(market)
    for digit in range(2, 2 + depth):
        await anchor(market, digit)
    await catch_up(market)
    assert await anchored(market) == list(range(1, 2 + depth))

    market.chain.reorganise(depth)
    await anchor(market, 99)
    await catch_up(market)

    assert await anchored(market) == [1, 99]
    kept = await held_hashes(market)
    assert kept == [block.header.hash for block in market.chain.blocks[-len(kept) :]]


async def test_a_reorganisation_deeper_than_what_is_kept_has_everything_read_again(market: World) -> None:
    await anchor(market, 1)
    await catch_up(market)
    market.chain.mine(100)
    await catch_up(market)
    market.chain.reorganise(90)
    await anchor(market, 2)

    with capture_logs() as logs:
        await catch_up(market)

    assert "reorganised_too_deep" in [log["event"] for log in logs]
    assert await anchored(market) == [1, 2]
    assert len(await events(market, "AccountOpened")) == 1


async def test_it_goes_on_where_it_stood(market: World) -> None:
    await anchor(market, 1)
    await catch_up(market)
    market.chain.mine(3)
    await market.start()
    await anchor(market, 2)

    await catch_up(market)

    assert await anchored(market) == [1, 2]


async def test_many_blocks_are_read_in_spans(market: World) -> None:
    await anchor(market, 1)
    market.chain.mine(4_500)
    await anchor(market, 2)

    await catch_up(market)

    assert await anchored(market) == [1, 2]
    assert len(await held_hashes(market)) < 100


# A node that says what cannot be


async def doubt(market: World) -> list[str]:
    """What the watcher reports in two steps; it must not have moved."""
    before = await position(market.co, WATCHER)
    with capture_logs() as logs:
        for _ in range(2):
            await watcher.step(market.co)
            market.clock.now_s += 5
    after = await position(market.co, WATCHER)
    assert (after.block, after.hash) == (before.block, before.hash)
    return [log["trouble"] for log in logs if log["event"] == "node_not_believed"]


async def test_a_head_that_goes_back_proves_nothing(market: World) -> None:
    await anchor(market, 1)
    await catch_up(market)
    gone = market.chain.blocks[-1:]
    del market.chain.blocks[-1:]

    assert await doubt(market) == ["head_went_back"]
    assert await anchored(market) == [1]

    market.chain.blocks += gone
    await anchor(market, 2)
    await catch_up(market)
    assert await anchored(market) == [1, 2]
    assert (await position(market.co, WATCHER)).trouble == ""


@pytest.mark.parametrize(
    ("trouble", "lies"),
    [
        ("block_not_served", {"tell_head": lambda head: replace(head, number=head.number + 9)}),
        ("blocks_do_not_link", {"tell_head": lambda head: replace(head, parent="0x77")}),
        ("events_of_other_blocks", {"tell_log": lambda log: replace(log, block_hash="0x77")}),
        ("other_chain", {"id": 1}),
        ("unreachable", {"reachable": False}),
    ],
)
async def test_nothing_is_concluded_from_a_lie(market: World, trouble: str, lies: dict[str, object]) -> None:
    await catch_up(market)
    truth = {name: getattr(market.chain, name) for name in lies}
    await anchor(market, 1)
    await anchor(market, 2)
    for name, lie in lies.items():
        setattr(market.chain, name, lie)

    assert await doubt(market) == [trouble]
    assert await anchored(market) == []
    assert (await views.health(market.co)).chain.trouble == trouble

    for name, true in truth.items():
        setattr(market.chain, name, true)
    await catch_up(market)
    assert await anchored(market) == [1, 2]
    assert (await views.health(market.co)).status == "ok"


async def test_a_chain_that_stands_still_is_reported(market: World) -> None:
    await catch_up(market)
    market.clock.now_s += market.config.stale_head_s - 20
    assert await doubt(market) == []
    market.clock.now_s += 20

    assert await doubt(market) == ["head_stands_still"]

    market.chain.mine()
    await catch_up(market)
    assert (await position(market.co, WATCHER)).trouble == ""
