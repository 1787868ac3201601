"""The chain's blocks and events become rows, as far as what the node says of them fits together.

A block counts once its parent is the block that we hold before it, and an event once its block is the one we hold.
Where the chain has reorganised, rows are deleted back to the common ancestor, what was sent in them is open again, and
the new blocks are read. A node that says what cannot be is reported and asked again; nothing is concluded from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from eth_utils.address import is_checksum_address

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import WATCHER, position, take
from gristmill_coordinator.chain.port import Block, Log
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.store.store import Row, Tx, claimed, keep
from gristmill_coordinator.store.tables import blocks, cursors, ledger_events, transactions
from gristmill_protocol.errors import ChainUnavailable

logger = structlog.get_logger()

WAITING = ("sender", "settlement", "commitment", "disputes", "withdrawals", "bonds")  # the stages that wait for blocks

_KEPT_BLOCKS = 64  # besides those that are not final yet; a deeper reorganisation has everything read again
_SPAN = 2_000  # blocks in one query for events; nodes commonly let it be 10,000 or fewer events
_AGAIN_S = 1.0
_MAX_INT = 2**63


async def step(co: Coordinator) -> int:
    """Read the blocks that are new; how many."""
    at, lock = await position(co, WATCHER), None
    try:
        head = await co.chain.head()
        if (head.number, head.hash) == (at.block, at.hash):
            return await _stand(co, at)
        lock = await take(co, WATCHER)
        return 0 if lock is None else await _read(co, lock, head)
    except ChainUnavailable as err:
        await _doubt(co, lock, "unreachable", why=err.what)
    except _Untrue as err:
        await _doubt(co, lock, err.trouble, **err.fields)
    return 0


class _Untrue(Exception):
    """What the node says does not fit together."""

    def __init__(self, trouble: str, **fields: object) -> None:
        self.trouble = trouble
        self.fields = fields


@dataclass(frozen=True)
class _News:
    ancestor: int  # the newest block that we and the node both hold; what we hold above it is gone
    last: Block
    headers: Sequence[Block]
    logs: Sequence[Log]


async def _stand(co: Coordinator, at: Row) -> int:
    """Nothing is new. That is in order for a while."""
    limit = co.config.stale_head_s
    if limit and co.clock() - at.moved_s > limit:
        await _doubt(co, None, "head_stands_still", block=at.block)
    elif at.trouble:
        await _doubt(co, None, "")
    return 0


async def _doubt(co: Coordinator, lock: Row | None, trouble: str, **fields: object) -> None:
    """Note what is wrong with the node, and say so when it begins; "" when it is over."""
    async with co.store.write() as tx:
        changed = sa.and_(cursors.c.name == WATCHER, cursors.c.trouble != trouble)
        new = await tx.run(sa.update(cursors).where(changed).values(trouble=trouble))
        if lock is not None:
            await keep(tx, cursors, lock, due_s=co.clock() + _AGAIN_S)
    if new and trouble:
        logger.warning("node_not_believed", trouble=trouble, **fields)


async def _read(co: Coordinator, lock: Row, head: Block) -> int:
    chain_id = await co.chain.chain_id()
    if chain_id != co.chain.info.chain_id:
        raise _Untrue("other_chain", chain_id=chain_id)
    news = await _news(co, lock, head)
    async with co.store.write() as tx:
        if not await claimed(tx, cursors, lock):
            return 0
        if news.ancestor < lock.block:
            await _forget(co, tx, news.ancestor, lock.block)
        await _add(co, tx, news)
        last = news.last
        await keep(tx, cursors, lock, block=last.number, hash=last.hash, moved_s=co.clock(), trouble="")
        tx.wake(*WAITING)
    return max(1, news.last.number - news.ancestor)


async def _news(co: Coordinator, lock: Row, head: Block) -> _News:
    """What the node holds after the common ancestor, as far as one step goes.

    Raises:
        _Untrue: it does not fit together.
    """
    ancestor, parent = await _ancestor(co, lock, head)
    first, last = ancestor + 1, min(head.number, ancestor + _SPAN)
    kept_from = max(first, head.number - co.config.confirmations - _KEPT_BLOCKS)
    logs = await co.chain.logs(first, last)
    wanted = {log.block for log in logs} | set(range(kept_from, last + 1)) | {last}
    headers = [head if number == head.number else await _header(co, number) for number in sorted(wanted)]
    before = {ancestor: parent, **{header.number: header.hash for header in headers}}
    for header in headers:
        if before.get(header.number - 1, header.parent) not in (header.parent, None):
            raise _Untrue("blocks_do_not_link", block=header.number)
    for log in logs:
        if before[log.block] != log.block_hash:
            raise _Untrue("events_of_other_blocks", block=log.block)
    return _News(ancestor, headers[-1], headers, logs)


async def _ancestor(co: Coordinator, lock: Row, head: Block) -> tuple[int, str | None]:
    """The newest block that we and the node both hold, and its hash; before the first of ours if there is none."""
    if lock.hash is None or (head.number == lock.block + 1 and head.parent == lock.hash):
        return lock.block, lock.hash
    async with co.store.read() as tx:
        held = {row.number: row.hash for row in await tx.rows(sa.select(blocks.c.number, blocks.c.hash))}
    if head.number < lock.block and held.get(head.number, head.hash) == head.hash:
        raise _Untrue("head_went_back", block=lock.block, head=head.number)
    for number in range(min(lock.block, head.number), co.chain.info.start_block - 1, -1):
        if number not in held:
            logger.error("reorganised_too_deep", block=lock.block, known_from=number + 1)
            break
        found = head if number == head.number else await _header(co, number)
        if found.hash == held[number]:
            return number, found.hash
    return co.chain.info.start_block - 1, None


async def _header(co: Coordinator, number: int) -> Block:
    block = await co.chain.block(number)
    if block is None or block.number != number:
        raise _Untrue("block_not_served", block=number)
    return block


async def _forget(co: Coordinator, tx: Tx, ancestor: int, block: int) -> None:
    """Take back what was in blocks that are gone; a transaction of ours that was in one is looked after again."""
    logger.warning("chain_reorganised", depth=block - ancestor, block=block)
    await tx.run(sa.delete(blocks).where(blocks.c.number > ancestor))
    await tx.run(sa.delete(ledger_events).where(ledger_events.c.block > ancestor))
    gone = sa.and_(transactions.c.block > ancestor, transactions.c.outcome.in_((Outcome.SUCCEEDED, Outcome.REVERTED)))
    await tx.run(sa.update(transactions).where(gone).values(outcome=Outcome.PENDING, due_s=0.0))


async def _add(co: Coordinator, tx: Tx, news: _News) -> None:
    at_s = {header.number: header.at_s for header in news.headers}
    oldest = news.last.number - co.config.confirmations - _KEPT_BLOCKS
    kept = [header for header in news.headers if header.number >= oldest]
    rows = [{"number": one.number, "hash": one.hash, "parent": one.parent, "at_s": one.at_s} for one in kept]
    await tx.run(sa.insert(blocks), rows)
    await tx.run(sa.delete(blocks).where(blocks.c.number < oldest))
    if news.logs:
        await tx.run(sa.insert(ledger_events), [_event(log, at_s[log.block]) for log in news.logs])


def _event(log: Log, at_s: int) -> dict[str, Any]:
    """The row of an event. What it is about is told from the ABI's names, so that new events need no code."""
    args = {name: _plain(value) for name, value in log.args.items()}
    key, nonce = args.get("key"), args.get("nonce")
    amount = args.get("amount", args.get("total", args.get("paid")))
    about_payee = log.contract == "ledger" and log.name.startswith(("Pay", "Collected"))
    payee = args.get("provider", args.get("payee", args.get("id") if about_payee else None))
    if log.contract == "disputes":
        nonce = args.get("id")
    return {
        "block": log.block,
        "log_index": log.index,
        "block_hash": log.block_hash,
        "tx_hash": log.tx_hash,
        "contract": log.contract,
        "name": log.name,
        "args": args,
        "key": key if is_checksum_address(key) else None,
        "payee": payee if isinstance(payee, int) else None,
        "nonce": nonce if isinstance(nonce, int) else None,
        "amount_usd_micros": amount if isinstance(amount, int) else None,
        "at_s": at_s,
    }


def _plain(value: Any) -> Any:
    """What JSON holds exactly."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and abs(value) >= _MAX_INT:
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
