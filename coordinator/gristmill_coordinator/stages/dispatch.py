"""Stage 3, dispatch: the lease is offered to the node, and the attempt follows what the node says."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import pricing
from gristmill_coordinator.domain.jobs import ACTIVE, Ending, attempt_advances
from gristmill_coordinator.domain.tasks import run_task
from gristmill_coordinator.domain.windows import UNJUDGED
from gristmill_coordinator.stages.payables import reserve
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, change, grant, keep
from gristmill_coordinator.store.tables import attempts, disputes, jobs, segments, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.incidents import Incident, read_incidents
from gristmill_protocol.jobs import ArtifactRef, AttemptState, JobSpec, Quote, SignedOrder
from gristmill_protocol.progress import Finished
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_AGAIN_S = 1.0
_RELEASE_AGAIN_S = 60.0

DECLINED = "declined"
_STATES = {
    pb.AttemptUpdate.PREPARING: AttemptState.PREPARING,
    pb.AttemptUpdate.RUNNING: AttemptState.RUNNING,
    pb.AttemptUpdate.FINISHED: AttemptState.FINISHED,
    pb.AttemptUpdate.YIELDED: AttemptState.YIELDED,
    pb.AttemptUpdate.FAILED: AttemptState.FAILED,
}


async def step(co: Coordinator) -> int:
    """Offer leases and release attempts that nothing is left to ask about; how many."""
    return await _offer_leases(co) + await _release(co)


async def lease_replied(co: Coordinator, node_id: str, reply: pb.LeaseReply) -> None:
    """A node takes or declines the attempt it was offered; only the first answer counts."""
    async with co.store.write() as tx:
        attempt = await job_rows.owned(tx, node_id, reply.attempt_id)
        if attempt is None or attempt.lease_id != reply.lease_id or attempt.state != AttemptState.OFFERED:
            return
        if not reply.accepted:
            reason = reply.reason or "The provider declined."
            await job_rows.end_attempt(tx, attempt, AttemptState.FAILED, reason, now=co.clock(), code=DECLINED)
            return
        await change(tx, attempts, attempts.c.attempt_id == attempt.attempt_id, state=AttemptState.PREPARING)
        await _tell(co, tx, attempt, f"Provider {attempt.provider_name!r} took the job and is fetching the data.")


async def attempt_updated(co: Coordinator, node_id: str, update: pb.AttemptUpdate) -> None:
    """An attempt moves on; an update about another node's attempt, or one that ended, changes nothing."""
    state = _STATES.get(update.state)
    async with co.store.read() as tx:
        attempt = await job_rows.owned(tx, node_id, update.attempt_id)
    if attempt is None or state is None:
        return
    values: dict[str, object] = {}
    reason = update.reason
    if state is AttemptState.FINISHED:
        values["finished"] = await _finished(co, attempt, update.finished_json)
        if values["finished"] is None:
            state, reason = AttemptState.FAILED, "Its result is incomplete or was not uploaded."
    incidents = _incidents(attempt, update)
    if incidents:
        values["incidents"] = {"json": update.incidents_json, "signature": update.incidents_signature}
    async with co.store.write() as tx:
        if not state.ended:
            await _advance(co, tx, attempt, state)
        elif await job_rows.end_attempt(tx, attempt, state, reason, now=co.clock(), code=update.code, **values):
            await _tell(co, tx, attempt, _ended_text(attempt, state, reason))
            for incident in incidents:
                await _tell(co, tx, attempt, f"The machine of provider {attempt.provider_name!r}: {incident.text}")
            if state is AttemptState.FAILED and update.renters_fault:
                await _fail_job(tx, attempt, reason)


async def _offer_leases(co: Coordinator) -> int:
    config = co.config
    where = attempts.c.state == AttemptState.OFFERED
    rows = await co.store.claim(attempts, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    due = [row for row in rows if row.node_id in co.links.connected() and row.sent_s <= co.started_s]
    async with co.store.write() as tx:
        jobs_ = await job_rows.by_id(tx, jobs, [row.job_id for row in due])
        for row in due:
            await grant(tx, jobs_[row.job_id].spec["data"]["sha256"], f"node:{row.node_id}")
            if row.start is not None:
                await grant(tx, row.start["sha256"], f"node:{row.node_id}")
    # Sent before it is noted: a node that is offered a lease twice takes it for one.
    sent = {row.attempt_id for row in due if co.links.send(row.node_id, _lease(co, row, jobs_[row.job_id]))}
    async with co.store.write() as tx:
        for row in rows:
            if row.attempt_id in sent:
                now = co.clock()
                await keep(tx, attempts, row, due_s=now + config.lease_reply_s, sent_s=now)
            else:
                await _still_waiting(co, tx, row)
    return len(sent)


async def _still_waiting(co: Coordinator, tx: Tx, row: Row) -> None:
    """The node has not answered, or is not there: give up after the time it has for an answer."""
    now = co.clock()
    if now < max(row.sent_s, row.created_s, co.started_s) + co.config.lease_reply_s:
        await keep(tx, attempts, row, due_s=now + _AGAIN_S)
    elif await job_rows.end_attempt(tx, row, AttemptState.LOST, "The provider did not answer.", now=now):
        await _tell(co, tx, row, f"Provider {row.provider_name!r} did not answer.")


def _lease(co: Coordinator, row: Row, job: Row) -> pb.CoordinatorMessage:
    spec, quote = JobSpec.model_validate(job.spec), Quote.model_validate(job.quote)
    task = run_task(
        spec,
        quote,
        job_id=row.job_id,
        attempt_id=row.attempt_id,
        step_from=row.step_from,
        segment_index=row.segment_from,
        state=None if row.start is None else ArtifactRef.model_validate(row.start),
    )
    return pb.CoordinatorMessage(
        lease=pb.LeaseOffer(
            lease_id=row.lease_id,
            attempt_id=row.attempt_id,
            job_id=row.job_id,
            signed_order_json=SignedOrder.model_validate(job.order).model_dump_json(),
            spec_json=spec.model_dump_json(),
            task_json=task.model_dump_json(),
            image=co.config.image(job.recipe, row.sandbox),
            price_usd_micros=row.price_usd_micros,
            recipe_id=quote.recipe_id,
            signed_reservation_json=reserve(co, row, job, accepted_usd_micros=0).model_dump_json(),
            keep_states_s=co.config.keep_states_s,
            flops=_flops(co, row, quote),
        )
    )


def _flops(co: Coordinator, row: Row, quote: Quote) -> int:
    """What the node holds its price against: counted at the speed that it offered."""
    offer = co.book.get(row.node_id)
    return quote.plan.flops if offer is None else pricing.flops_on(quote.plan, offer.terms.flops_per_s)


async def _release(co: Coordinator) -> int:
    """Tell nodes that nobody will ask for an attempt's states any more."""
    config = co.config
    open_windows = sa.exists().where(windows.c.attempt_id == attempts.c.attempt_id, windows.c.state.in_(UNJUDGED))
    accused = sa.exists().where(disputes.c.attempt_id == attempts.c.attempt_id, ~disputes.c.closed)
    where = sa.and_(attempts.c.state.not_in(ACTIVE), ~attempts.c.released, ~open_windows, ~accused)
    rows = await co.store.claim(attempts, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    told = 0
    async with co.store.write() as tx:
        for row in rows:
            message = pb.CoordinatorMessage(release=pb.ReleaseAttempt(attempt_id=row.attempt_id))
            # A node that stays away forgets the states by itself.
            gone = co.clock() > row.ended_s + config.keep_states_s
            done = co.links.send(row.node_id, message) or gone
            due_s = 0.0 if done else co.clock() + _RELEASE_AGAIN_S
            told += await keep(tx, attempts, row, due_s=due_s, released=done) and done
    return told


async def _advance(co: Coordinator, tx: Tx, attempt: Row, state: AttemptState) -> None:
    earlier = [one for one in ACTIVE if attempt_advances(one, state)]
    where = sa.and_(attempts.c.attempt_id == attempt.attempt_id, attempts.c.state.in_(earlier))
    if await change(tx, attempts, where, state=state) and state is AttemptState.RUNNING:
        await _tell(co, tx, attempt, f"Provider {attempt.provider_name!r} started training.")


async def _finished(co: Coordinator, attempt: Row, finished_json: str) -> dict[str, object] | None:
    """The result as the job's view needs it; None if it is not whole.

    A file counts only if this very node uploaded it: naming another's file must not give the renter access to it.
    """
    try:
        finished = Finished.model_validate_json(finished_json)
        sha256_json(finished.scorecard)  # audits compare it: it must have a digest
    except ValueError:
        return None
    async with co.store.read() as tx:
        quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == attempt.job_id)))
        last = sa.select(segments.c.signed).where(segments.c.attempt_id == attempt.attempt_id)
        signed = await tx.value(last.order_by(segments.c.segment.desc()).limit(1))
    record = {} if signed is None else signed["record"]
    if (finished.step, record.get("step_to")) != (quote.plan.steps, quote.plan.steps):
        return None
    if record["state_root"] != finished.state_root:
        return None
    files: dict[str, object] = {}
    for name, digest in finished.files.items():
        if not (await co.store.allowed(digest, f"node:{attempt.node_id}") and co.artifacts.has(digest)):
            return None
        files[name] = {"sha256": digest, "size_bytes": co.artifacts.size(digest)}
    return {"files": files, "scorecard": finished.scorecard}


def _incidents(attempt: Row, update: pb.AttemptUpdate) -> tuple[Incident, ...]:
    """What its node says happened to the machine; nothing if that cannot be read or was signed by somebody else."""
    if not update.incidents_json:
        return ()
    said, signature = update.incidents_json, update.incidents_signature
    try:
        return read_incidents(attempt.attempt_id, said, signature, key=attempt.node_key)
    except BadRequest as err:
        logger.warning("incidents_ignored", attempt_id=attempt.attempt_id, reason=str(err))
        return ()


async def _fail_job(tx: Tx, attempt: Row, reason: str) -> None:
    """Have the job end as failed: with these data and settings every other machine would fail too."""
    undecided = sa.and_(jobs.c.job_id == attempt.job_id, jobs.c.ending == Ending.NONE)
    await change(tx, jobs, undecided, ending=Ending.FAILED, ending_text=reason)


def _ended_text(attempt: Row, state: AttemptState, reason: str) -> str:
    name = f"Provider {attempt.provider_name!r}"
    because = f": {reason}" if reason else "."
    return {
        AttemptState.FINISHED: f"{name} finished training.",
        AttemptState.YIELDED: f"{name} saved its work and left{because}",
    }.get(state, f"{name} could not go on{because}")


async def _tell(co: Coordinator, tx: Tx, attempt: Row, text: str) -> None:
    await job_rows.tell(tx, attempt.job_id, "state", text, now=co.clock(), attempt_id=attempt.attempt_id)
