"""The books: what our rows say that accounts hold and jobs were paid is what the chain says, at one final block.

A difference is never mended here. It is an alarm, for a person: our rows are wrong, or the node's answers are, or
somebody paid what we don't know of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import BOOKS, final_block, take
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.store.store import Tx, keep
from gristmill_coordinator.store.tables import alarms, blocks, cursors, jobs, ledger_events
from gristmill_protocol.errors import ChainUnavailable

logger = structlog.get_logger()

_AGAIN_S = 3.0
_ENDED = tuple(reason for reason in JobReason if reason.state.ended)


@dataclass(frozen=True)
class Difference:
    """Two figures that should be the same, micro-USD or a number of payments."""

    subject: str
    text: str
    expected: int  # by our rows
    found: int


@dataclass(frozen=True)
class Books:
    block: int
    accounts: int
    payments: int
    differences: Sequence[Difference]


async def step(co: Coordinator) -> int:
    """Compare now and then, and raise an alarm on any difference; always 0: nothing waits for it."""
    lock = await take(co, BOOKS)
    if lock is None:
        return 0
    try:
        books = await compare(co)
    except ChainUnavailable as err:
        logger.warning("chain_unavailable", stage="reconcile", why=err.what)
        books = None
    async with co.store.write() as tx:
        if books is None:
            await keep(tx, cursors, lock, due_s=co.clock() + _AGAIN_S)
        elif await keep(tx, cursors, lock, due_s=co.clock() + co.config.check_books_s, block=books.block):
            await record(tx, books, now=co.clock())
    return 0


async def compare(co: Coordinator) -> Books | None:
    """Our rows against the chain; None if no block is final yet, or the chain reorganised meanwhile.

    Raises:
        ChainUnavailable: the node can't say what held at that block.
    """
    async with co.store.read() as tx:
        block = await final_block(tx, co.config)
        at = await _hash(tx, block)
        sums = await _sums(tx, block)
        mine = await _mine(tx, block, co.chain.info.coordinator_id)
        differences, payments = await _payment_differences(tx, block)
    if at is None:
        return None
    balances = await co.chain.balances(mine, block)
    held = await co.chain.held(block)
    for key, found in zip(mine, balances, strict=True):
        if found != sums.get(key, 0):
            differences.append(Difference(f"account {key}", "its balance", sums.get(key, 0), found))
    if held < sum(sums.values()):
        differences.append(Difference("ledger", "what it holds is less than its accounts", sum(sums.values()), held))
    async with co.store.read() as tx:
        same = await _hash(tx, block) == at
    return Books(block, len(mine), payments, differences) if same else None


async def record(tx: Tx, books: Books, *, now: float) -> None:
    """Raise an alarm for each difference, and clear those that are gone."""
    for one in books.differences:
        fields = {"expected": one.expected, "found": one.found, "block": books.block}
        logger.error("books_differ", subject=one.subject, **fields)
        new = {"subject": one.subject, "text": one.text, "raised_s": now, **fields}
        if not await tx.add(alarms, new):
            known = sa.update(alarms).where(alarms.c.subject == one.subject)
            await tx.run(known.values(text=one.text, cleared_s=0.0, **fields))
    standing = sa.and_(alarms.c.cleared_s == 0, alarms.c.subject.not_in([one.subject for one in books.differences]))
    if await tx.run(sa.update(alarms).where(standing).values(cleared_s=now)):
        logger.info("books_agree_again", block=books.block)


async def _hash(tx: Tx, block: int) -> str | None:
    found: str | None = await tx.value(sa.select(blocks.c.hash).where(blocks.c.number == block))
    return found


async def _mine(tx: Tx, block: int, coordinator: int) -> list[str]:
    """The accounts that this coordinator settles."""
    one = ledger_events.c
    opened = sa.and_(one.name == "AccountOpened", one.block <= block)
    rows = await tx.rows(sa.select(one.key, one.args).where(opened).order_by(one.key))
    return [row.key for row in rows if row.args["coordinator"] == coordinator]


async def _sums(tx: Tx, block: int) -> dict[str, int]:
    """What each account holds by its events."""
    one = ledger_events.c
    into = sa.case((one.name == "Deposited", one.amount_usd_micros), else_=-one.amount_usd_micros)
    moves = one.name.in_(("Deposited", "StatementSettled", "Withdrawn"))
    query = sa.select(one.key, sa.func.sum(into).label("sum")).where(
        moves, one.contract == "ledger", one.block <= block
    )
    return {row.key: int(row.sum) for row in await tx.rows(query.group_by(one.key))}


async def _payment_differences(tx: Tx, block: int) -> tuple[list[Difference], int]:
    """Jobs that were paid another amount than their event tells, and nonces that paid twice; the number of nonces."""
    one = ledger_events.c
    settled = (
        sa.select(
            sa.func.lower(one.key).label("key"),
            one.nonce,
            sa.func.count().label("times"),
            sa.func.sum(one.amount_usd_micros).label("total"),
        )
        .where(one.name == "StatementSettled", one.block <= block)
        .group_by(one.key, one.nonce)
        .subquery()
    )
    paid = sa.func.coalesce(settled.c.total, 0)
    of_job = sa.and_(settled.c.key == jobs.c.renter, settled.c.nonce == jobs.c.nonce)
    wrong = sa.select(jobs.c.job_id, jobs.c.paid_usd_micros, paid.label("total")).outerjoin(settled, of_job)
    rows = await tx.rows(wrong.where(jobs.c.reason.in_(_ENDED), jobs.c.paid_usd_micros != paid))
    found = [Difference(row.job_id, "what it was paid", row.paid_usd_micros, int(row.total)) for row in rows]
    twice = await tx.rows(sa.select(settled).where(settled.c.times > 1))
    found += [Difference(f"nonce {row.nonce} of {row.key}", "how often it was paid", 1, row.times) for row in twice]
    return found, int(await tx.value(sa.select(sa.func.count()).select_from(settled)) or 0)
