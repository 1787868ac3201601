"""What is written down goes out once: under one nonce, whatever the chain, the prices and other processes do."""

import asyncio
from dataclasses import replace
from typing import Literal

import pytest
import sqlalchemy as sa

from fakes.world import World
from gristmill_coordinator.chain import sender, watcher
from gristmill_coordinator.chain.port import AdvanceCall, AnchorCall, Call
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.gas import GWEI, Outcome
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import transactions

pytestmark = pytest.mark.slow


def anchor(digit: int) -> AnchorCall:
    return AnchorCall(root=f"{digit:064x}")


async def submit(market: World, *calls: Call, worth: int | None = None) -> None:
    async with market.co.store.write() as tx:
        for call in calls:
            await sender.submit(market.co, tx, call, worth_usd_micros=worth)


async def rows(market: World) -> list[Row]:
    async with market.co.store.read() as tx:
        return list(await tx.rows(sa.select(transactions).order_by(transactions.c.transaction_id)))


async def turn(market: World, blocks: int = 1, seconds: float = 5.0) -> None:
    """What waits goes into blocks, and both sides of the chain part look at it."""
    market.chain.mine(blocks)
    market.clock.now_s += seconds
    await watcher.step(market.co)
    await sender.step(market.co)


def set_up(market: World, **settings: object) -> None:
    market.co = replace(market.co, config=Config.model_validate({**market.config.model_dump(), **settings}))


async def test_an_intent_is_sent_and_final_after_its_confirmations(market: World) -> None:
    await submit(market, anchor(1))
    await sender.step(market.co)
    await turn(market)
    [row] = await rows(market)
    assert (row.nonce, row.outcome) == (0, Outcome.PENDING)
    event = market.co.wake.event("commitment")

    await turn(market)

    [row] = await rows(market)
    assert (row.outcome, row.tx_hash) == (Outcome.SUCCEEDED, row.sends[0]["hash"])
    assert event.is_set()
    assert market.chain.anchors == [bytes(31) + b"\1"]


async def test_nonces_follow_one_another_without_gaps(market: World) -> None:
    await submit(market, *map(anchor, range(20)))
    for _ in range(4):
        await sender.step(market.co)
        await turn(market)
    await turn(market)

    assert {row.nonce for row in await rows(market)} == set(range(20))
    assert {row.outcome for row in await rows(market)} == {Outcome.SUCCEEDED}
    assert sorted(market.chain.anchors) == [bytes.fromhex(anchor(at).root) for at in range(20)]


async def test_what_is_stuck_is_replaced_under_its_nonce_for_an_eighth_more(market: World) -> None:
    await submit(market, anchor(1), anchor(2))
    await sender.step(market.co)
    market.chain.base_fee_wei *= 10
    await turn(market)
    assert market.chain.anchors == []

    await turn(market, seconds=60)
    await turn(market, blocks=2)

    first, second = await rows(market)
    assert (first.nonce, second.nonce) == (0, 1)
    assert [len(row.sends) for row in (first, second)] == [2, 2]
    before, after = first.sends
    assert after["max_fee_wei"] * 8 >= before["max_fee_wei"] * 9
    assert after["tip_wei"] * 8 >= before["tip_wei"] * 9
    assert (first.outcome, first.tx_hash) == (Outcome.SUCCEEDED, after["hash"])
    assert len(market.chain.anchors) == 2


async def test_what_the_node_has_forgotten_is_sent_again_as_it_was(market: World) -> None:
    await submit(market, anchor(1))
    await sender.step(market.co)
    [tx_hash] = market.chain.pool
    market.chain.pool.clear()

    await turn(market)

    assert list(market.chain.pool) == [tx_hash]
    [row] = await rows(market)
    assert len(row.sends) == 1


@pytest.mark.parametrize("depth", [1, 3])
async def test_what_a_reorganisation_takes_back_is_sent_again(market: World, depth: int) -> None:
    await submit(market, anchor(1))
    await sender.step(market.co)
    await turn(market)
    await turn(market, blocks=depth)
    assert [row.outcome for row in await rows(market)] == [Outcome.SUCCEEDED]

    market.chain.reorganise(depth + 1)
    for _ in range(4):
        await turn(market)

    [row] = await rows(market)
    assert (row.outcome, row.nonce, len(row.sends)) == (Outcome.SUCCEEDED, 0, 1)
    assert len(market.chain.anchors) == 1


async def test_what_the_contract_refuses_takes_no_nonce(market: World) -> None:
    refused = AdvanceCall(dispute=99)
    await submit(market, refused, anchor(1))

    await sender.step(market.co)

    first, second = await rows(market)
    assert (first.nonce, first.outcome) == (None, Outcome.REFUSED)
    assert "WrongPhase" in first.reason
    assert second.nonce == 0


async def test_a_nonce_that_somebody_else_used_is_given_back_to_the_stage(market: World) -> None:
    await submit(market, anchor(1), anchor(2))
    await sender.step(market.co)
    market.chain.use_nonce()

    for _ in range(3):
        await turn(market)

    first, second = await rows(market)
    assert (first.outcome, second.outcome) == (Outcome.DISPLACED, Outcome.SUCCEEDED)
    assert market.chain.anchors == [bytes(31) + b"\2"]


async def test_a_missing_nonce_is_used_up(market: World) -> None:
    """As when the chain lost what somebody sent with this key before us."""
    await submit(market, anchor(1), anchor(2))
    await sender.step(market.co)
    async with market.co.store.write() as tx:
        await tx.run(sa.delete(transactions).where(transactions.c.nonce == 0))
    market.chain.pool = {tx_hash: one for tx_hash, one in market.chain.pool.items() if one.nonce == 1}

    for _ in range(4):
        await turn(market)

    assert market.chain.anchors == [bytes(31) + b"\2"]
    assert [(row.kind, row.outcome) for row in await rows(market)] == [
        ("anchor", Outcome.SUCCEEDED),
        ("empty", Outcome.SUCCEEDED),
    ]


async def test_above_the_highest_price_it_waits(market: World) -> None:
    set_up(market, max_fee_gwei=5)
    market.chain.base_fee_wei = 6 * GWEI
    await submit(market, anchor(1))
    await sender.step(market.co)
    assert [row.nonce for row in await rows(market)] == [None]

    market.chain.base_fee_wei = 3 * GWEI
    await turn(market)

    [row] = await rows(market)
    assert row.nonce == 0
    assert row.sends[0]["max_fee_wei"] == 5 * GWEI


async def test_a_call_that_is_not_worth_its_gas_is_not_sent(market: World) -> None:
    set_up(market, native_usd="3000")
    gas = await market.chain.estimate(anchor(1))
    cost = gas * 2 * GWEI * 3_000_000_000 // 10**18  # at the base fee and a tip of 1 gwei each

    await submit(market, anchor(1), worth=cost - 1)
    await submit(market, anchor(2), worth=cost)
    await sender.step(market.co)

    first, second = await rows(market)
    assert (first.nonce, first.outcome) == (None, Outcome.TOO_DEAR)
    assert second.nonce == 0
    assert second.sends[0]["max_fee_wei"] * gas * 3_000_000_000 <= cost * 10**18


async def test_a_stuck_call_that_became_too_dear_gives_its_nonce_up(market: World) -> None:
    set_up(market, native_usd="3000")
    await submit(market, anchor(1), worth=300_000)  # its gas costs 276,000
    await submit(market, anchor(2))
    await sender.step(market.co)
    market.chain.base_fee_wei *= 10

    await turn(market, seconds=60)
    for _ in range(3):
        await turn(market)

    first, second = await rows(market)
    assert (first.outcome, second.outcome) == (Outcome.TOO_DEAR, Outcome.SUCCEEDED)
    assert first.sends[-1]["empty"]
    assert market.chain.anchors == [bytes(31) + b"\2"]


async def test_while_the_chain_is_away_nothing_is_lost(market: World) -> None:
    await submit(market, anchor(1))
    market.chain.reachable = False
    assert await sender.step(market.co) == 0

    market.chain.reachable = True
    for _ in range(3):
        await turn(market)

    assert [row.outcome for row in await rows(market)] == [Outcome.SUCCEEDED]


async def test_replicas_never_use_a_nonce_twice(market: World) -> None:
    await submit(market, *map(anchor, range(12)))

    for _ in range(4):
        await asyncio.gather(*(sender.step(market.co) for _ in range(5)))
        await turn(market)

    assert sorted(market.chain.anchors) == [bytes.fromhex(anchor(at).root) for at in range(12)]
    assert {len(row.sends) for row in await rows(market)} == {1}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_send_that_broke_off_is_not_a_second_one(market: World, when: Literal["before", "after"]) -> None:
    """The nonce and the hash are stored first, so it does not matter what the node has got."""
    await submit(market, anchor(1))
    market.chain.breaks_off = when
    await sender.step(market.co)
    market.chain.breaks_off = ""

    for _ in range(3):
        await turn(market)

    [row] = await rows(market)
    assert (row.nonce, len(row.sends), row.outcome) == (0, 1, Outcome.SUCCEEDED)
    assert len(market.chain.anchors) == 1
