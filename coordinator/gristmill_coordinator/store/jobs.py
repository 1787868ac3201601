"""What several stages write or read about a job, inside their own transactions."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from gristmill_coordinator.domain.jobs import ACTIVE, Ending, JobReason, before
from gristmill_coordinator.domain.modes import REPLICA, slot
from gristmill_coordinator.domain.windows import UNJUDGED
from gristmill_coordinator.store.store import Row, Tx, change
from gristmill_coordinator.store.tables import attempts, audits, events, jobs, standings, statements, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.jobs import AttemptState, Quote, SignedStatement, WindowState
from gristmill_protocol.ladder import Work, replicated

logger = structlog.get_logger()

_UNANSWERED = sa.and_(audits.c.outcome == "pending", audits.c.replayed.is_(None))


async def tell(tx: Tx, job_id: str, kind: str, text: str, *, now: float, **fields: Any) -> None:
    """Add a line to the job's story; kind is one of JobEvent's."""
    counted = sa.update(jobs).where(jobs.c.job_id == job_id).values(last_event=jobs.c.last_event + 1)
    seq = await tx.value(counted.returning(jobs.c.last_event))
    values = {"job_id": job_id, "seq": seq, "at_ms": int(now * 1000), "kind": kind, "text": text, "fields": fields}
    await tx.run(sa.insert(events).values(**values))
    tx.wake(job_id)


async def stop(tx: Tx, job_id: str, why: str) -> bool:
    """Have a job end; what is proven is checked and paid. False, and nothing changed, if it was ending anyway.

    Args:
        why: a sentence.
    """
    open_ = sa.and_(
        jobs.c.job_id == job_id, jobs.c.reason.in_(before(JobReason.STOP_ASKED)), jobs.c.ending == Ending.NONE
    )
    stopping = {"ending": Ending.STOPPED, "ending_text": why, "reason": JobReason.STOP_ASKED}
    if not await change(tx, jobs, open_, reason_text=f"{why} What is proven is checked and paid.", **stopping):
        return False
    tx.wake("watch", "conclude")
    return True


async def end_attempt(tx: Tx, attempt: Row, state: AttemptState, reason: str, *, now: float, **values: Any) -> bool:
    """End an attempt that has not ended yet, and let its job be looked at; whether it changed anything."""
    active = sa.and_(attempts.c.attempt_id == attempt.attempt_id, attempts.c.state.in_(ACTIVE))
    if not await change(tx, attempts, active, state=state, reason=reason, ended_s=now, **values):
        return False
    ended = sa.case((jobs.c.reason == JobReason.LEASED, JobReason.WORK_ENDED.value), else_=jobs.c.reason)
    await change(tx, jobs, jobs.c.job_id == attempt.job_id, reason=ended)
    tx.wake("commitment", "audit", "conclude", "dispatch", attempt.job_id)
    return True


async def owned(tx: Tx, node_id: str, attempt_id: str) -> Row | None:
    """The node's attempt, locked; None for another node's, which is nobody else's business."""
    query = sa.select(attempts).where(attempts.c.attempt_id == attempt_id, attempts.c.node_id == node_id)
    attempt = await tx.row(query.with_for_update())
    if attempt is None:
        logger.warning("foreign_attempt", node_id=node_id, attempt_id=attempt_id)
    return attempt


async def accepted_work(tx: Tx, job_id: str) -> list[Work]:
    """The job's verified work, in the order in which it was done."""
    held = windows.c.state.in_((WindowState.PASSED, WindowState.PAID))
    query = (
        sa.select(attempts.c.provider, windows.c.verifier, attempts.c.price_usd_micros, windows.c.steps)
        .join(attempts, attempts.c.attempt_id == windows.c.attempt_id)
        .where(windows.c.job_id == job_id, held)
        .order_by(attempts.c.number, windows.c.number)
    )
    work = [Work(provider, verifier, price, steps) for provider, verifier, price, steps in await tx.rows(query)]
    agreeing = [one for one in await replicas(tx, job_id) if one.outcome == "passed"] if work else []
    if not agreeing:
        return work
    quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == job_id)))
    prices = [quote.replicas[slot(one.why)].price_usd_micros for one in agreeing]
    payees = [one.verifier for one in agreeing]
    ran = (work[0].provider, work[0].price_usd_micros)
    return replicated([ran, *zip(payees, prices, strict=True)], work[0].steps)


async def replicas(tx: Tx, job_id: str) -> list[Row]:
    """The audits that have run the whole job again, whatever attempt they were made for."""
    done = sa.and_(audits.c.job_id == job_id, audits.c.why.startswith(REPLICA), audits.c.replayed.is_not(None))
    return list(await tx.rows(sa.select(audits).where(done).order_by(audits.c.why)))


async def hold(tx: Tx, job_id: str, signed: SignedStatement) -> None:
    """Keep a signed statement of a job; the same again is harmless."""
    held = signed.model_dump(mode="json")
    statement_id = sha256_json(held["statement"]).hex()
    await tx.add(statements, {"job_id": job_id, "statement_id": statement_id, "signed": held})


async def held(tx: Tx, job_id: str) -> list[SignedStatement]:
    """The job's signed statements."""
    query = sa.select(statements.c.signed).where(statements.c.job_id == job_id).order_by(statements.c.statement_id)
    return [SignedStatement.model_validate(row.signed) for row in await tx.rows(query)]


async def note_payable(tx: Tx, job_id: str) -> None:
    """Have the job's providers told what is payable now."""
    await change(tx, attempts, attempts.c.job_id == job_id, payable_news=True)
    tx.wake("payables")


async def loads(tx: Tx) -> dict[str, int]:
    """Node id -> attempts it has and audits it is to run."""
    running = sa.select(attempts.c.node_id).where(attempts.c.state.in_(ACTIVE))
    checking = sa.select(audits.c.node_id).where(_UNANSWERED, audits.c.node_id.is_not(None))
    return await _counts(tx, sa.union_all(running, checking))


async def running(tx: Tx) -> dict[str, int]:
    """Node id -> attempts it has and audits it has been sent."""
    sent = sa.select(audits.c.node_id).where(_UNANSWERED, audits.c.node_id.is_not(None), audits.c.sent_s > 0)
    return await _counts(tx, sa.union_all(sa.select(attempts.c.node_id).where(attempts.c.state.in_(ACTIVE)), sent))


async def clean_windows(tx: Tx, providers: Sequence[int]) -> dict[int, int]:
    """Provider -> its windows that were audited and passed since its last fault, for those that have any."""
    query = sa.select(standings.c.provider, standings.c.clean_windows).where(standings.c.provider.in_(providers))
    return {row[0]: row[1] for row in await tx.rows(query)}


async def locks(tx: Tx) -> dict[int, int]:
    """Provider -> micro-USD of its bond that it stakes on attempts that run or are not judged yet."""
    unjudged = sa.exists().where(windows.c.attempt_id == attempts.c.attempt_id, windows.c.state.in_(UNJUDGED))
    live = sa.or_(attempts.c.state.in_(ACTIVE), unjudged)
    query = sa.select(attempts.c.provider, sa.func.sum(attempts.c.lock_usd_micros)).where(live)
    return {row[0]: int(row[1]) for row in await tx.rows(query.group_by(attempts.c.provider))}


async def by_id(tx: Tx, table: sa.Table, ids: Sequence[str]) -> dict[str, Row]:
    """The rows with these keys, by key."""
    key = table.primary_key.columns.values()[0]
    return {getattr(row, key.name): row for row in await tx.rows(sa.select(table).where(key.in_(ids)))}


async def _counts(tx: Tx, nodes: sa.CompoundSelect[Any]) -> dict[str, int]:
    node = nodes.subquery()
    query = sa.select(node.c.node_id, sa.func.count()).group_by(node.c.node_id)
    return {row[0]: row[1] for row in await tx.rows(query)}
