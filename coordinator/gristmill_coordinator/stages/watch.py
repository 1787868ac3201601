"""Beside the stages: heartbeats are written down, silent nodes lose their attempts, unwanted attempts are stopped."""

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.jobs import ACTIVE, Ending
from gristmill_coordinator.market import nodes as market_nodes
from gristmill_coordinator.market.pulse import Beat
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import attempts, jobs, nodes
from gristmill_protocol.jobs import AttemptState
from gristmill_protocol.v1 import provider_pb2 as pb


async def step(co: Coordinator) -> int:
    """Look at every active attempt; how many ended."""
    await _write_heartbeats(co)
    if co.store.shared:
        await market_nodes.refresh(co, market_nodes.listening_since(co))
    beats = co.pulse.beats()  # before the attempts are read: one that is in a beat but not among them has ended
    query = sa.select(attempts, jobs.c.ending).join(jobs, jobs.c.job_id == attempts.c.job_id)
    async with co.store.read() as tx:
        active = await tx.rows(query.where(attempts.c.state.in_(ACTIVE)))
    ended = 0
    for row in active:
        ended += await _watch(co, row)
    _stop_strays(co, beats, {row.attempt_id for row in active})
    return ended


async def _write_heartbeats(co: Coordinator) -> None:
    heard = co.pulse.take_unwritten()
    if not heard:
        return
    one = sa.update(nodes).where(nodes.c.node_id == sa.bindparam("node")).values(heard_s=sa.bindparam("at_s"))
    async with co.store.write() as tx:
        await tx.run(one, [{"node": node_id, "at_s": at_s} for node_id, at_s in heard.items()])


async def _watch(co: Coordinator, row: Row) -> bool:
    now, config = co.clock(), co.config
    if row.ending != Ending.NONE:
        why = "It was told to stop and did not say any more."
        stopped_s = await _stop(co, row)
        gone = now > max(stopped_s, co.started_s) + config.stop_grace_s
    elif row.state == AttemptState.OFFERED:
        return False  # dispatch gives it the time it has for an answer
    elif market_nodes.silent(co, row.node_id):
        why = f"The machine was not heard for {config.heartbeat_s * config.missed_heartbeats} seconds."
        gone = True
    else:
        why = "The machine does not run it any more."
        missing_s = now - co.pulse.unlisted_since(row.attempt_id, row.node_id, now)
        gone = missing_s > config.heartbeat_s * config.missed_heartbeats
    if not gone:
        return False
    co.pulse.forget(row.attempt_id)
    async with co.store.write() as tx:
        lost = await job_rows.end_attempt(tx, row, AttemptState.LOST, why, now=now)
        if lost:
            text = f"Provider {row.provider_name!r} was lost: {why}"
            await job_rows.tell(tx, row.job_id, "state", text, now=now, attempt_id=row.attempt_id)
    return lost


async def _stop(co: Coordinator, row: Row) -> float:
    """Tell the node to stop, at every look until it has; since when it knows or should."""
    _send_stop(co, row.node_id, row.attempt_id, "The job was stopped.")
    if row.stopped_s:
        return float(row.stopped_s)
    async with co.store.write() as tx:
        this = sa.update(attempts).where(attempts.c.attempt_id == row.attempt_id)
        await tx.run(this.values(stopped_s=co.clock()))
    return co.clock()


def _stop_strays(co: Coordinator, beats: dict[str, Beat], active: set[str]) -> None:
    """Stop what nodes still run although it was given up: they may have been cut off for a while."""
    for node_id, beat in beats.items():
        for attempt_id in beat.attempts - active:
            _send_stop(co, node_id, attempt_id, "The attempt was given up.")


def _send_stop(co: Coordinator, node_id: str, attempt_id: str, reason: str) -> None:
    stop = pb.StopAttempt(attempt_id=attempt_id, reason=reason, grace_s=co.config.stop_grace_s)
    co.links.send(node_id, pb.CoordinatorMessage(stop=stop))
