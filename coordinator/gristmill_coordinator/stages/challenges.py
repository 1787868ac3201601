"""Beside the stages: idle cards show what they can do. They get ready, start at the same instant, commit, and open.

A row of `challenges` is one test of one node. Only the replica that a node is connected to tests it. What the messages
say is written by challenge_replied; the step asks, starts and gives up.
"""

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
import structlog
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import cards
from gristmill_coordinator.domain import challenges as rules
from gristmill_coordinator.domain.cards import OPEN, Card, ChallengeState, Standing
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.market.nodes import card_judged, silent
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import challenges, jobs, nodes
from gristmill_protocol.challenges import Commitment, Draw, Opening, Sizes
from gristmill_protocol.jobs import Quote
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

# What a card gets for each part: a container has to start; the largest memories are filled; openings travel.
_WAIT_S = {
    ChallengeState.REQUESTED: 60.0,
    ChallengeState.READY: 120.0,
    ChallengeState.STARTED: 120.0,
    ChallengeState.COMMITTED: 120.0,
}
_LEARNED_S = 90 * 86_400  # times older than this are forgotten
_MOST_TIMES = 1000


async def step(co: Coordinator) -> int:
    """Give up what takes too long, start cohorts that are ready, ask cards that are due; how many moved."""
    return await _give_up(co) + await _start(co) + await _ask(co)


async def challenge_replied(co: Coordinator, node_id: str, reply: pb.ChallengeReply) -> None:
    """Take what a node says about the test that it is at; anything else is dropped."""
    now = co.clock()
    async with co.store.read() as tx:
        mine = sa.and_(challenges.c.challenge_id == reply.challenge_id, challenges.c.node_id == node_id)
        row = await tx.row(sa.select(challenges).where(mine, challenges.c.state.in_(OPEN)))
    said = reply.WhichOneof("said")
    if row is None:
        logger.info("challenge_reply_ignored", node_id=node_id, said=said)
        return
    match (said, row.state):
        case ("refused", _):
            await _end_without_answer(co, row, reply.refused)
        case ("ready", ChallengeState.REQUESTED):
            async with co.store.write() as tx:
                await _move(tx, row, ChallengeState.READY)
                tx.wake("challenges")
        case ("commitment_json", ChallengeState.STARTED):
            await _take_commitment(co, row, reply.commitment_json, elapsed_ms=round((now - row.started_s) * 1000))
        case ("opening_json", ChallengeState.COMMITTED):
            await _take_opening(co, row, reply.opening_json)
        case _:
            logger.info("challenge_reply_ignored", node_id=node_id, said=said)


async def _give_up(co: Coordinator) -> int:
    now = co.clock()
    async with co.store.read() as tx:
        rows = await tx.rows(sa.select(challenges).where(challenges.c.state.in_(OPEN)))
    late = [row for row in rows if now > max(row.asked_s, row.started_s) + _WAIT_S[ChallengeState(row.state)]]
    for row in late:
        await _end_without_answer(co, row, "It did not answer in time.")
    return len(late)


async def _start(co: Coordinator) -> int:
    """Send the seeds of each cohort in which nobody is still getting ready, one after the other without a pause."""
    async with co.store.read() as tx:
        waiting = sa.select(challenges).where(challenges.c.state.in_((ChallengeState.REQUESTED, ChallengeState.READY)))
        rows = await tx.rows(waiting)
    late = {row.cohort_id for row in rows if row.state == ChallengeState.REQUESTED}
    started = [row for row in rows if row.cohort_id not in late]
    if not started:
        return 0
    async with co.store.write() as tx:  # first: a commitment may be here before the next line runs
        for row in started:
            await _move(tx, row, ChallengeState.STARTED, started_s=co.clock())
    for row in started:
        begin = pb.ChallengeStart(challenge_id=row.challenge_id, seed=bytes.fromhex(row.seed))
        co.links.send(row.node_id, pb.CoordinatorMessage(challenge_start=begin))
    return len(started)


async def _ask(co: Coordinator) -> int:
    """Ask the cards that are due, and others with them, to get ready."""
    config, now = co.config, co.clock()
    async with co.store.read() as tx:
        longest = await _longest_waiting_flops(tx)
        if not await _any_due(co, tx, longest):
            return 0
        idle = await _idle(co, tx)
    due = []
    for row in idle:
        node = _card(row)
        wanted = longest > config.long_job_s * row.offer["flops_per_s"]
        every_s = config.long_job_s / 2 if wanted else config.test_every_s
        if now >= cards.due_s(node, every_s=every_s, again_s=config.test_again_s):
            due.append(node)
    if not due:
        return 0
    entropy, before_s = secrets.token_bytes(32), now - config.test_again_s
    chosen = set(cards.cohort(due, map(_card, idle), before_s=before_s, entropy=entropy))
    rows = [_row(co, row, cohort_id=entropy.hex()) for row in idle if row.node_id in chosen]
    async with co.store.write() as tx:
        await tx.run(sa.insert(challenges), rows)
    for one in rows:
        request = pb.ChallengeRequest(challenge_id=one["challenge_id"], sizes_json=json.dumps(one["sizes"]))
        co.links.send(one["node_id"], pb.CoordinatorMessage(challenge_request=request))
    return len(rows)


async def _any_due(co: Coordinator, tx: Tx, longest: int) -> bool:
    """Whether it is worth the while to read all nodes: as cards.due_s, but without knowing which are idle."""
    now, config, one = co.clock(), co.config, nodes.c
    every_s = config.long_job_s / 2 if longest else config.test_every_s
    pause_s = sa.case((one.standing == Standing.UNTESTED, cards.BARELY_ASKED_S), else_=config.test_again_s)
    proven = one.standing.in_([standing for standing in Standing if standing.proven])
    due = sa.and_(one.tested_s + pause_s <= now, sa.or_(sa.not_(proven), one.proven_s + every_s <= now))
    query = sa.select(one.node_id).where(one.connected, one.offer.is_not(None), sa.or_(one.tested_s == 0, due))
    return await tx.row(query.limit(1)) is not None


async def _idle(co: Coordinator, tx: Tx) -> list[Row]:
    """Nodes connected here that have an offer and nothing to do."""
    connected = co.links.connected()
    busy = set(await job_rows.loads(tx))
    busy |= {row.node_id for row in await tx.rows(sa.select(challenges.c.node_id).where(challenges.c.state.in_(OPEN)))}
    query = sa.select(nodes).where(nodes.c.connected, nodes.c.offer.is_not(None))
    rows = [row for row in await tx.rows(query) if row.node_id in connected and row.node_id not in busy]
    return [row for row in rows if not row.offer["paused"] and not silent(co, row.node_id)]


async def _longest_waiting_flops(tx: Tx) -> int:
    """Of the jobs that wait for a machine, the work of the longest."""
    waiting = await tx.rows(sa.select(jobs.c.quote).where(jobs.c.reason == JobReason.NO_OFFER))
    return max((Quote.model_validate(row.quote).plan.flops for row in waiting), default=0)


def _row(co: Coordinator, node: Row, *, cohort_id: str) -> dict[str, Any]:
    offer = node.offer
    return {
        "challenge_id": co.new_id("challenge"),
        "cohort_id": cohort_id,
        "node_id": node.node_id,
        "payout": node.payout,
        "kind": cards.kind(offer["device"], offer["numeric_class"], is_cpu=offer["is_cpu"]),
        "driver": offer["driver"],
        "state": ChallengeState.REQUESTED,
        "seed": secrets.token_hex(32),
        "sizes": co.sizes(offer["is_cpu"], offer["memory_bytes"]).model_dump(mode="json"),
        "asked_s": co.clock(),
    }


async def _take_commitment(co: Coordinator, row: Row, text: str, *, elapsed_ms: int) -> None:
    """The clock has stopped; only now is drawn what has to be opened."""
    try:
        commitment = Commitment.model_validate_json(text)
    except ValidationError:
        await _conclude(co, row, "its commitment cannot be read")
        return
    drawn = rules.draw(secrets.token_bytes(32), Sizes.model_validate(row.sizes))
    values = {"commitment": commitment.model_dump(mode="json"), "draw": drawn.model_dump(mode="json")}
    async with co.store.write() as tx:
        if not await _move(tx, row, ChallengeState.COMMITTED, elapsed_ms=elapsed_ms, **values):
            return
    opening = pb.ChallengeOpen(challenge_id=row.challenge_id, draw_json=drawn.model_dump_json())
    co.links.send(row.node_id, pb.CoordinatorMessage(challenge_open=opening))


async def _take_opening(co: Coordinator, row: Row, text: str) -> None:
    try:
        opening = Opening.model_validate_json(text)
    except ValidationError:
        await _conclude(co, row, "its opening cannot be read")
        return
    asked, drawn = Sizes.model_validate(row.sizes), Draw.model_validate(row.draw)
    commitment = Commitment.model_validate(row.commitment)
    seed = bytes.fromhex(row.seed)
    await _conclude(co, row, await asyncio.to_thread(rules.wrong, seed, asked, commitment, drawn, opening))


async def _conclude(co: Coordinator, row: Row, wrong: str) -> None:
    """Judge an answer, by what others' cards of its kind have shown."""
    async with co.store.write() as tx:
        passed = sa.and_(challenges.c.kind == row.kind, challenges.c.state == ChallengeState.PASSED)
        recent = sa.select(challenges).where(passed, challenges.c.asked_s > co.clock() - _LEARNED_S)
        others = await tx.rows(recent.order_by(challenges.c.asked_s.desc()).limit(_MOST_TIMES))
        verdict = cards.judge(
            wrong,
            timed=cards.is_timed(row.kind),
            elapsed_ms=row.elapsed_ms,
            usual_ms=cards.usual_ms(_times(others), without=row.payout.lower()),
            driver=row.driver,
            known=any(one.driver == row.driver and one.payout != row.payout for one in others),
        )
        if await _move(tx, row, verdict.state, finding=verdict.text):
            await card_judged(co, tx, row.node_id, verdict)


def _times(passed: Iterable[Row]) -> dict[str, list[int]]:
    """Owner -> times of its cards."""
    times: dict[str, list[int]] = defaultdict(list)
    for row in passed:
        times[row.payout.lower()].append(row.elapsed_ms)
    return times


async def _end_without_answer(co: Coordinator, row: Row, reason: str) -> None:
    begun = row.state in (ChallengeState.STARTED, ChallengeState.COMMITTED)
    async with co.store.write() as tx:
        node = await tx.row(sa.select(nodes).where(nodes.c.node_id == row.node_id))
        if node is None or not await _move(tx, row, ChallengeState.VOID, finding=reason[:500]):
            return
        busy = row.node_id in await job_rows.loads(tx) or not node.connected
        verdict = cards.unanswered(
            _card(node), reason[:500], begun=begun, busy=busy, now=co.clock(), every_s=co.config.test_every_s
        )
        await card_judged(co, tx, row.node_id, verdict)


async def _move(tx: Tx, row: Row, state: ChallengeState, **values: object) -> bool:
    """Change a test's state if it is still what it was when the row was read."""
    this = sa.and_(challenges.c.challenge_id == row.challenge_id, challenges.c.state == row.state)
    return await tx.run(sa.update(challenges).where(this).values(state=state, **values)) == 1


def _card(row: Row) -> Card:
    return Card(
        node_id=row.node_id,
        owner=row.payout.lower(),
        device=row.offer["device"],
        standing=Standing(row.standing),
        tested_s=row.tested_s,
        proven_s=row.proven_s,
        text=row.standing_text,
    )
