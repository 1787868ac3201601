"""The transactions that stages wrote down go out, each under one nonce, until one of its sends is final in a block.

1. A stage writes its intent with its own change: submit().
2. One sender at a time gives it the next nonce and stores that, with the hash of what will be sent. Then it sends.
3. What is stuck is sent again under the same nonce for an eighth more; what the node forgot is sent again as it was.
4. What is final wakes its stage, and so does what can't be sent: that never had a nonce, and holds up nobody.

So whoever dies between two lines leaves a nonce that the next one uses again, and nothing is done twice.
"""

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import SENDER, final_block, take, watched
from gristmill_coordinator.chain.port import CALL, Call, EmptyCall, Receipt
from gristmill_coordinator.domain import gas as gas_rules
from gristmill_coordinator.domain.gas import Bid, Outcome
from gristmill_coordinator.store.store import Row, Tx, claimed, keep
from gristmill_coordinator.store.tables import blocks, cursors, transactions
from gristmill_protocol.errors import ChainUnavailable, Conflict

logger = structlog.get_logger()

STAGE_OF = {
    "anchor": "commitment",
    "settle": "settlement",
    **dict.fromkeys(("open_dispute", "draw", "advance", "allow_bonds", "collect"), "disputes"),
}

_IN_FLIGHT = 16  # nodes keep so many of one sender, and more
_SPARE = 4  # a part of the estimate is added, as what a call takes may rise before it is in a block
_LOOK_AGAIN_S = 3.0  # whether the node still holds what it was given


@dataclass(frozen=True)
class Send:
    """One time that a transaction was sent."""

    hash: str
    max_fee_wei: int
    tip_wei: int
    at_s: float
    empty: bool = False  # it does nothing but use up the nonce, for a call that has become too dear

    @property
    def bid(self) -> Bid:
        return Bid(self.max_fee_wei, self.tip_wei)


async def submit(co: Coordinator, tx: Tx, call: Call, *, worth_usd_micros: int | None = None) -> str:
    """Leave a call for the sender, as part of a stage's transaction; gives the row's id.

    Args:
        worth_usd_micros: what its gas may cost at most; None: whatever it takes.
    """
    transaction_id = co.new_id("tx")
    insert = sa.insert(transactions).values(
        transaction_id=transaction_id,
        kind=call.kind,
        payload=call.model_dump(mode="json"),
        worth_usd_micros=worth_usd_micros,
        sends=[],
        created_s=co.clock(),
    )
    await tx.run(insert)
    tx.wake("sender")
    return transaction_id


async def step(co: Coordinator) -> int:
    """Follow what was sent and send what waits; how many transactions moved on."""
    if not await _has_work(co):
        return 0
    lock = await take(co, SENDER)
    if lock is None:
        return 0
    moved, rest_s = 0, 0.0
    async with co.store.read() as tx:
        block = int(await tx.value(sa.select(watched())) or 0)  # what comes while we look is looked at next time
    try:
        moved = await _follow_all(co, lock) + await _send_all(co, lock)
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", stage="sender", why=err.what)
        rest_s, block = _LOOK_AGAIN_S, lock.block
    async with co.store.write() as tx:
        await keep(tx, cursors, lock, due_s=co.clock() + rest_s, block=block)
    if moved:
        co.wake.set("watcher")  # on a chain that makes a block for each transaction, there is one now
    return moved


async def _has_work(co: Coordinator) -> bool:
    """Whether something is due, or something is on its way and there are new blocks."""
    done_to = sa.select(cursors.c.block).where(cursors.c.name == SENDER).scalar_subquery()
    one = transactions.c
    where = sa.and_(one.outcome == Outcome.PENDING, sa.or_(one.due_s <= co.clock(), watched() != done_to))
    async with co.store.read() as tx:
        return await tx.row(sa.select(one.transaction_id).where(where).limit(1)) is not None


# What is on its way


async def _follow_all(co: Coordinator, lock: Row) -> int:
    one = transactions.c
    mine = sa.and_(one.outcome == Outcome.PENDING, one.nonce.is_not(None), one.sender == co.chain.info.operator)
    async with co.store.read() as tx:
        rows = await tx.rows(sa.select(transactions).where(mine).order_by(one.nonce))
    if not rows:
        return 0
    count = await co.chain.transaction_count()  # asked first: what is counted has a receipt by the time we look for it
    return sum([await _follow(co, lock, row, count) for row in rows])


async def _follow(co: Coordinator, lock: Row, row: Row, count: int) -> bool:
    """Look where a transaction is, and send it again if need be; whether it has come to its end."""
    sends = [Send(**send) for send in row.sends]
    for send in reversed(sends):
        receipt = await co.chain.receipt(send.hash)
        if receipt is not None:
            return await _included(co, lock, row, send, receipt)
    if row.nonce < count:
        return await _displaced(co, lock, row)
    if co.clock() >= sends[-1].at_s + co.config.resend_tx_s:
        await _replace(co, lock, row, sends)
    elif co.clock() >= row.due_s:
        if not await co.chain.knows(sends[-1].hash):
            logger.info("transaction_forgotten", transaction_id=row.transaction_id, tx_hash=sends[-1].hash)
            await _hand_over(co, row, sends[-1])
        await _write(co, lock, row, due_s=co.clock() + _LOOK_AGAIN_S)
    return False


async def _included(co: Coordinator, lock: Row, row: Row, send: Send, receipt: Receipt) -> bool:
    """It is in a block: final when that block is one the watcher holds, with its confirmations."""
    async with co.store.read() as tx:
        final = receipt.block <= await final_block(tx, co.config)
        held = await tx.value(sa.select(blocks.c.hash).where(blocks.c.number == receipt.block))
    place: dict[str, Any] = {"tx_hash": send.hash, "block": receipt.block, "block_hash": receipt.block_hash}
    if not final or held not in (None, receipt.block_hash):
        await _write(co, lock, row, due_s=co.clock() + _LOOK_AGAIN_S, **place)
        return False
    outcome = Outcome.SUCCEEDED if receipt.succeeded else Outcome.REVERTED
    return await _finish(co, lock, row, Outcome.TOO_DEAR if send.empty else outcome, **place)


async def _displaced(co: Coordinator, lock: Row, row: Row) -> bool:
    """Its nonce is used, and not by us. When that is final, its stage has to think again."""
    async with co.store.read() as tx:
        final = await final_block(tx, co.config)
    if final < 0 or await co.chain.transaction_count(final) <= row.nonce:
        await _write(co, lock, row, due_s=co.clock() + _LOOK_AGAIN_S, tx_hash=None, block=None, block_hash=None)
        return False
    logger.error("nonce_used_by_another", transaction_id=row.transaction_id, nonce=row.nonce)
    return await _finish(co, lock, row, Outcome.DISPLACED, tx_hash=None, block=None, block_hash=None)


async def _replace(co: Coordinator, lock: Row, row: Row, sends: list[Send]) -> None:
    """Offer more for the same nonce; for nothing but the nonce, where the call would cost more than it is worth."""
    fees = await co.chain.fees()
    live = Bid(2 * fees.base_fee_wei + fees.tip_wei, fees.tip_wei)
    cap, worth = co.config.max_fee_wei, _ceiling_wei(co, row.worth_usd_micros, row.gas)
    bid, empty = gas_rules.outbid(sends[-1].bid, live, cap_wei=gas_rules.cheapest(cap, worth)), sends[-1].empty
    if bid is None and worth is not None:
        bid, empty = gas_rules.outbid(sends[-1].bid, live, cap_wei=cap), True
    if bid is None:
        logger.warning("gas_too_dear", transaction_id=row.transaction_id, base_fee_wei=fees.base_fee_wei)
        await _write(co, lock, row, due_s=co.clock() + _LOOK_AGAIN_S)
        return
    logger.info("transaction_replaced", transaction_id=row.transaction_id, nonce=row.nonce, empty=empty)
    await _send(co, lock, row, bid, gas=row.gas, nonce=row.nonce, sends=sends, empty=empty)


# What waits


async def _send_all(co: Coordinator, lock: Row) -> int:
    """Give nonces to what waits, the oldest first; a nonce that nobody holds any more is used up before."""
    one, operator = transactions.c, co.chain.info.operator
    count = await co.chain.transaction_count()
    async with co.store.write() as tx:
        if not await claimed(tx, cursors, lock):
            return 0
        taken = set(await _nonces(tx, operator, count))
        waits = sa.and_(one.outcome == Outcome.PENDING, one.nonce.is_(None), one.due_s <= co.clock())
        query = sa.select(transactions).where(waits).order_by(one.created_s, one.transaction_id)
        rows = await tx.rows(query.limit(max(0, _IN_FLIGHT - len(taken))))
        if not rows and taken and count not in taken:
            logger.error("nonce_missing", nonce=count)
            await submit(co, tx, EmptyCall())
    moved = 0
    for row in rows:
        nonce = next(nonce for nonce in range(count, count + len(taken) + 1) if nonce not in taken)
        if await _send_first(co, lock, row, nonce):
            taken.add(nonce)
            moved += 1
    return moved


async def _nonces(tx: Tx, operator: str, count: int) -> list[int]:
    """The nonces from count on that transactions of ours hold."""
    one = transactions.c
    query = sa.select(one.nonce).where(one.sender == operator, one.nonce >= count)
    return [row.nonce for row in await tx.rows(query)]


async def _send_first(co: Coordinator, lock: Row, row: Row, nonce: int) -> bool:
    """Send a transaction for the first time; whether it took the nonce."""
    try:
        estimate = await co.chain.estimate(CALL.validate_python(row.payload))
    except Conflict as err:
        logger.error("chain_refused", transaction_id=row.transaction_id, kind=row.kind, why=err.what)
        await _finish(co, lock, row, Outcome.REFUSED, reason=err.what)
        return False
    gas = estimate + estimate // _SPARE
    fees = await co.chain.fees()
    ceiling, cap = _ceiling_wei(co, row.worth_usd_micros, gas), co.config.max_fee_wei
    prices = {"base_fee_wei": fees.base_fee_wei, "tip_wei": fees.tip_wei}
    if gas_rules.offer(**prices, cap_wei=ceiling) is None:
        await _finish(co, lock, row, Outcome.TOO_DEAR)
        return False
    bid = gas_rules.offer(**prices, cap_wei=gas_rules.cheapest(ceiling, cap))
    if bid is None:
        logger.warning("gas_too_dear", transaction_id=row.transaction_id, base_fee_wei=fees.base_fee_wei)
        await _write(co, lock, row, due_s=co.clock() + _LOOK_AGAIN_S)
        return False
    return await _send(co, lock, row, bid, gas=gas, nonce=nonce, sends=[], empty=False)


def _ceiling_wei(co: Coordinator, worth_usd_micros: int | None, gas: int) -> int | None:
    """The highest price per gas that a call with this much gas to spend is worth; None if there is none."""
    if worth_usd_micros is None:
        return None
    return gas_rules.ceiling_wei(worth_usd_micros, gas * _SPARE // (_SPARE + 1), co.config.native_usd_micros)


# Both


async def _send(
    co: Coordinator, lock: Row, row: Row, bid: Bid, *, gas: int, nonce: int, sends: list[Send], empty: bool
) -> bool:
    """Store what is sent, then send it; False, and nothing sent, if the claim was lost."""
    call: Call = EmptyCall() if empty else CALL.validate_python(row.payload)
    signed = co.chain.sign(call, nonce=nonce, gas=gas, bid=bid)
    now = co.clock()
    send = Send(signed.hash, bid.max_fee_wei, bid.tip_wei, now, empty)
    values: dict[str, Any] = {"nonce": nonce, "gas": gas, "sender": co.chain.info.operator}
    values["sends"] = [asdict(one) for one in (*sends, send)]
    if not await _write(co, lock, row, due_s=now + _LOOK_AGAIN_S, **values):
        return False
    await _tell_node(co, row, signed.raw)
    return True


async def _hand_over(co: Coordinator, row: Row, send: Send) -> None:
    """Send what was sent before once more: signing it again gives the same."""
    call: Call = EmptyCall() if send.empty else CALL.validate_python(row.payload)
    await _tell_node(co, row, co.chain.sign(call, nonce=row.nonce, gas=row.gas, bid=send.bid).raw)


async def _tell_node(co: Coordinator, row: Row, raw: bytes) -> None:
    why = await co.chain.send(raw)
    if why:
        logger.error("transaction_not_taken", transaction_id=row.transaction_id, why=why)


async def _finish(co: Coordinator, lock: Row, row: Row, outcome: Outcome, **values: Any) -> bool:
    if not await _write(co, lock, row, wake=STAGE_OF.get(row.kind), outcome=outcome, **values):
        return False
    fields = {"transaction_id": row.transaction_id, "kind": row.kind, "outcome": outcome}
    (logger.info if outcome is Outcome.SUCCEEDED else logger.warning)("transaction_final", **fields)
    return True


async def _write(co: Coordinator, lock: Row, row: Row, *, wake: str | None = None, **values: Any) -> bool:
    """Change a transaction's row while we are the sender; whether we are."""
    async with co.store.write() as tx:
        if not await claimed(tx, cursors, lock):
            return False
        this = transactions.c.transaction_id == row.transaction_id
        await tx.run(sa.update(transactions).where(this).values(**values))
        if wake:
            tx.wake(wake)
    return True
