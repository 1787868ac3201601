"""After stage 5: who is accused is taken to Disputes, told so, and the dispute brought to its end.

1. The verdict on a window leaves a row: what was found, what shows it, what it means.
2. The dispute is opened, as challenger, with a bond; the provider's node is told until it has conceded or answered.
3. What happens on chain is followed by its final events. Where it is nobody's turn but the clock's, it is moved on.
4. When it is closed, the renter is told, and a provider that did wrong has to start over.

The contract takes the same evidence against a provider once, so a dispute is never opened twice.
"""

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.chain.cursors import watched
from gristmill_coordinator.chain.port import (
    AdvanceCall,
    AllowBondsCall,
    BondFunds,
    CollectCall,
    DisputeCall,
    DrawCall,
    OpenDisputeCall,
)
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain.disputes import (
    GUILTY,
    Course,
    Move,
    Outcome,
    Phase,
    Tier,
    course,
    due,
    in_question_usd_micros,
)
from gristmill_coordinator.domain.gas import Outcome as Sent
from gristmill_coordinator.market.nodes import refresh
from gristmill_coordinator.stages import hearings
from gristmill_coordinator.stages.loop import REFUSED_AGAIN_S, each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.cases import Case, cases
from gristmill_coordinator.store.store import Row, Tx, change, claimed, keep
from gristmill_coordinator.store.tables import attempts, disputes, jobs, nodes, transactions, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.money import format_usd
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_AGAIN_S = 2.0
_TELL_AGAIN_S = 60.0
_NO_BOND_AGAIN_S = 600.0


async def step(co: Coordinator) -> int:
    """Bring every open dispute on; how many moved."""
    sent = transactions.c
    final = sa.exists().where(sent.transaction_id == disputes.c.transaction_id, sent.outcome != Sent.PENDING)
    where = sa.and_(~disputes.c.closed, sa.or_(disputes.c.transaction_id.is_(None), final))
    rows = await co.store.claim(disputes, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    return await each(co, disputes, rows, _advance)


async def stance_told(co: Coordinator, node_id: str, reply: pb.DisputeReply) -> None:
    """Note what an accused node makes of it; what counts is what its provider says on chain."""
    said = {"finding": reply.finding, "pleaded": reply.pleaded, "note": reply.note}
    logger.info("dispute_stance", node_id=node_id, dispute=reply.dispute_id, **said)
    async with co.store.write() as tx:
        provider = await tx.value(sa.select(nodes.c.provider).where(nodes.c.node_id == node_id))
        theirs = sa.and_(disputes.c.dispute == reply.dispute_id, disputes.c.provider == provider, ~disputes.c.closed)
        if reply.step_roots:
            await change(tx, disputes, theirs, steps=list(reply.step_roots))
        tx.wake("disputes")


async def _advance(co: Coordinator, row: Row) -> int:
    async with co.store.read() as tx:
        happened = await chain_events.dispute(tx, co.config, row.provider, row.evidence, co.chain.info.challenger_payee)
        sent = (await job_rows.by_id(tx, transactions, [row.transaction_id])).get(row.transaction_id)
        block = int(await tx.value(sa.select(watched())) or 0)
    if sent is not None and sent.outcome != Sent.SUCCEEDED:
        # Somebody was faster, or the operator is out of means: look again in a while.
        async with co.store.write() as tx:
            await keep(tx, disputes, row, transaction_id=None, due_s=co.clock() + REFUSED_AGAIN_S)
        return 0
    if not happened:
        return await _open(co, row)
    found = course(happened)
    if found.phase is Phase.CLOSED:
        return await _close(co, row, found)
    return await _follow(co, row, found, due(found, now_s=co.clock(), block=block))


# Opening


async def _open(co: Coordinator, row: Row) -> int:
    """Have the dispute opened over what its tier puts in question, as far as it is free; close it where none is."""
    async with co.store.read() as tx:
        lock = await tx.value(sa.select(attempts.c.lock_usd_micros).where(attempts.c.attempt_id == row.attempt_id))
        renter = await tx.value(sa.select(jobs.c.renter).where(jobs.c.job_id == row.job_id))
    free = (await co.chain.provider(row.provider)).free_usd_micros
    amount = min(free, in_question_usd_micros(Tier(row.tier), lock))
    if not amount:
        text = f"Provider {row.provider_name!r} had no bond left to dispute about."
        async with co.store.write() as tx:
            return await _end(co, tx, row, text)
    opening = OpenDisputeCall(
        provider=row.provider,
        renter=renter,
        amount_usd_micros=amount,
        evidence=row.evidence,
        work=SignedRecord.model_validate(row.documents[0]),
    )
    call = _affordable(opening, await co.chain.bond_funds(amount))
    async with co.store.write() as tx:
        if not await claimed(tx, disputes, row):
            return 0
        if call is None:
            logger.error("bond_missing", window_id=row.window_id, operator=co.chain.info.operator)
            text = "It will be challenged on chain once the coordinator can post its bond."
            return await keep(tx, disputes, row, course=text, due_s=co.clock() + _NO_BOND_AGAIN_S)
        transaction_id = await submit(co, tx, call)
        return await keep(tx, disputes, row, amount_usd_micros=amount, transaction_id=transaction_id)


def _affordable(opening: OpenDisputeCall, funds: BondFunds) -> DisputeCall | None:
    """What to send first for the dispute to be opened; None where the bond can't be had."""
    if funds.tokens_usd_micros < funds.needed_usd_micros:
        enough = funds.tokens_usd_micros + funds.credited_usd_micros >= funds.needed_usd_micros
        return CollectCall() if enough else None
    return opening if funds.allowed_usd_micros >= funds.needed_usd_micros else AllowBondsCall()


# Following


async def _follow(co: Coordinator, row: Row, found: Course, move: Move | None) -> int:
    """Tell the node and the renter how it stands, and move it on where that is due."""
    told = co.clock() >= row.told_s + _TELL_AGAIN_S and await _tell_parties(co, row, found)
    phase = f"{found.phase.name} {found.seats} {len(found.referees)}"
    text = _standing(row, found)
    async with co.store.write() as tx:
        if not await claimed(tx, disputes, row):
            return 0
        if phase != row.phase:
            fields = {"dispute": found.dispute, "until_s": found.deadline_s}
            await job_rows.tell(tx, row.job_id, "dispute", text, now=co.clock(), **fields)
        return await keep(
            tx,
            disputes,
            row,
            due_s=0.0 if move else co.clock() + _AGAIN_S,
            dispute=found.dispute,
            amount_usd_micros=found.amount_usd_micros,
            phase=phase,
            course=text,
            tx_hash=found.tx_hash,
            steps=row.steps if row.steps and "0x" + sha256_json(row.steps).hex() == found.evidence else None,
            told_s=co.clock() if told else row.told_s if phase == row.phase else 0.0,
            transaction_id=await submit(co, tx, _call(move, found.dispute)) if move else None,
        ) and (phase != row.phase or move is not None)


def _call(move: Move, dispute: int) -> DisputeCall:
    return DrawCall(dispute=dispute) if move is Move.DRAW else AdvanceCall(dispute=dispute)


def _standing(row: Row, found: Course) -> str:
    name, amount = f"Provider {row.provider_name!r}", format_usd(found.amount_usd_micros)
    until = datetime.fromtimestamp(found.deadline_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if found.phase is Phase.ANSWERING:
        return f"{name} is challenged on chain over {amount} USD of its bond; it may answer until {until}."
    if found.phase is Phase.ARBITRATING:
        return f"The referees did not decide about {name}; an arbiter may until {until}."
    if not found.referees:
        return f"{name} denies it, with a bond of its own; {found.seats} referees are being drawn."
    return f"{len(found.referees)} referees judge {name} until {until}."


async def _tell_parties(co: Coordinator, row: Row, found: Course) -> bool:
    """Tell those whose turn it is what it takes to speak; whether anybody was there."""
    async with co.store.read() as tx:
        [case] = await cases(tx, await tx.rows(sa.select(windows).where(windows.c.window_id == row.window_id)))
    told = (found.phase is Phase.ANSWERING or row.steps is None) and _accuse(co, row, found, case)
    if found.phase is Phase.ANSWERING:
        return told
    return found.phase is Phase.RULING and await hearings.summon(co, row, found, case)


def _accuse(co: Coordinator, row: Row, found: Course, case: Case) -> bool:
    start = case.input_of(row.segment)
    message = pb.DisputeOpened(
        dispute_id=found.dispute,
        disputes=co.chain.info.disputes,
        attempt_id=row.attempt_id,
        segment=row.segment,
        tier=row.tier,
        reason=row.reason,
        documents_json=json.dumps(row.documents),
        amount_usd_micros=found.amount_usd_micros,
        answer_by_s=found.deadline_s,
        start=None if start is None else pb.Artifact(sha256=start.sha256, size_bytes=start.size_bytes),
    )
    return co.links.send(case.attempt.node_id, pb.CoordinatorMessage(dispute=message))


# Closing


async def _close(co: Coordinator, row: Row, found: Course) -> int:
    """Write down how it ended: who was found guilty starts over, everybody else's machines are welcome again."""
    guilty, now = found.outcome in GUILTY, co.clock()
    stake = await co.chain.provider(row.provider)
    free = min(stake.bonded_usd_micros, stake.free_usd_micros) if stake.active else 0
    values = {
        "dispute": found.dispute,
        "amount_usd_micros": found.amount_usd_micros,
        "slashed_usd_micros": found.slashed_usd_micros,
        "tx_hash": found.tx_hash,
    }
    async with co.store.write() as tx:
        if not await _end(co, tx, row, _ending(row, found), **values):
            return 0
        if guilty and row.tier == Tier.FRAUD:
            attempt = (await job_rows.by_id(tx, attempts, [row.attempt_id]))[row.attempt_id]
            await verdicts.disgrace(tx, row.provider, frauds=1)
            await verdicts.ban(tx, row.provider, attempt.numeric_class, now=now)
        theirs = sa.update(nodes).where(nodes.c.provider == row.provider)
        await tx.run(theirs.values(bonded_usd_micros=free, changed_s=now))
    await refresh(co, now)
    logger.info("dispute_closed", dispute=found.dispute, outcome=found.outcome.name, window_id=row.window_id)
    return 1


def _ending(row: Row, found: Course) -> str:
    name, amount = f"Provider {row.provider_name!r}", format_usd(found.slashed_usd_micros)
    if found.outcome is Outcome.FOUND_CLEAR:
        return f"The referees found no fault with {name}; it lost nothing."
    if found.outcome is Outcome.UNDECIDED:
        return f"Nobody decided about {name}; it lost nothing."
    how = {
        Outcome.CONCEDED: "conceded",
        Outcome.UNANSWERED: "did not answer in time",
        Outcome.FOUND_GUILTY: "was found guilty",
    }[found.outcome]
    part = format_usd(found.slashed_usd_micros // 2)
    return f"{name} {how} and lost {amount} USD of its bond; {part} USD of it went to your account."


async def _end(co: Coordinator, tx: Tx, row: Row, text: str, **values: Any) -> bool:
    if not await keep(tx, disputes, row, closed=True, course=text, **values):
        return False
    amount = values.get("slashed_usd_micros", 0)
    kind = "slash" if amount else "dispute"
    await job_rows.tell(tx, row.job_id, kind, text, now=co.clock(), amount_usd_micros=amount)
    tx.wake("dispatch")
    return True
