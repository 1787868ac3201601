"""Beside the stages: providers are given what pays their accepted work, so that they need us no more to be paid it.

Nothing here is stored but that there is news for an attempt's node. What is payable follows from the accepted windows
and the statements held, and is worked out afresh whenever it is told: when windows are accepted, when the paying
statement is chosen, and when the node comes back.
"""

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain import pricing
from gristmill_coordinator.domain.jobs import UNENDED
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, change, keep
from gristmill_coordinator.store.tables import attempts, jobs
from gristmill_protocol.jobs import Quote, Reservation, SignedReservation, SignedStatement
from gristmill_protocol.ladder import statement_for
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_HEAD_START_S = 3600
_AGAIN_S = 10.0  # for a node that is not connected here; it is due at once when it comes back


async def step(co: Coordinator) -> int:
    """Tell nodes what is payable of their attempts; how many were told."""
    config = co.config
    news = attempts.c.payable_news
    rows = await co.store.claim(attempts, news, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    async with co.store.read() as tx:
        messages = await _messages(co, tx, rows)
    told = 0
    # Sent before it is noted: to hear it twice does a node no harm.
    outcomes = [(row, messages[row.attempt_id]) for row in rows]
    sent = {row.attempt_id: message is None or co.links.send(row.node_id, message) for row, message in outcomes}
    async with co.store.write() as tx:
        for row, message in outcomes:
            done = sent[row.attempt_id]
            due_s = 0.0 if done else co.clock() + _AGAIN_S
            told += await keep(tx, attempts, row, due_s=due_s, payable_news=not done) and done and message is not None
    return told


async def node_returned(co: Coordinator, node_id: str) -> None:
    """Have a node told again what it may have missed: all that is payable of its attempts and not paid yet."""
    unpaid = sa.exists().where(
        jobs.c.job_id == attempts.c.job_id, jobs.c.reason.in_(UNENDED), jobs.c.steps_accepted > 0
    )
    theirs = sa.and_(attempts.c.node_id == node_id, unpaid)
    async with co.store.write() as tx:
        await change(tx, attempts, theirs, payable_news=True)
        tx.wake("payables")


def reserve(co: Coordinator, attempt: Row, job: Row, *, accepted_usd_micros: int) -> SignedReservation:
    """Our promise for an attempt's lease. Signed afresh each time, so that a new operator key is in it."""
    reservation = Reservation(
        key=job.order["order"]["key"],
        coordinator=co.chain.info.coordinator_id,
        provider=attempt.provider,
        nonce=job.nonce,
        cap_usd_micros=job.cap_usd_micros,
        accepted_usd_micros=accepted_usd_micros,
        forced_from_s=_forced_from_s(job, attempt),
    )
    return SignedReservation(reservation=reservation, signature=co.chain.sign_reservation(reservation))


def _forced_from_s(job: Row, attempt: Row) -> int:
    """The last third of the time in which the job's statements can be settled, for later attempts a little more.

    Not earlier: a provider that has left could have its part paid, which uses up the nonce, while the job goes on
    elsewhere. Only jobs that are expected to end in the first quarter are quoted (quoting). A later attempt comes
    first, since the statement that pays it pays those before it, too.
    """
    deadline_s: int = job.order["order"]["deadline_s"]
    head_start_s: int = (attempt.number - 1) * _HEAD_START_S
    return deadline_s - (deadline_s - int(job.created_s)) // 3 - head_start_s


async def _messages(co: Coordinator, tx: Tx, rows: Sequence[Row]) -> dict[str, pb.CoordinatorMessage | None]:
    """What to tell each attempt's node, None where nothing of it is payable."""
    jobs_ = await job_rows.by_id(tx, jobs, [row.job_id for row in rows])
    payable = {job_id: await _payable(tx, job) for job_id, job in jobs_.items()}
    return {row.attempt_id: _message(co, row, jobs_[row.job_id], payable[row.job_id]) for row in rows}


async def _payable(tx: Tx, job: Row) -> SignedStatement | None:
    """The held statement that pays most of a job's accepted work; None once the job has ended."""
    if job.reason not in UNENDED:
        return None
    wanted = statement_for(Quote.model_validate(job.quote), await job_rows.accepted_work(tx, job.job_id))
    return None if wanted is None else pricing.best_below(wanted, await job_rows.held(tx, job.job_id))


def _message(co: Coordinator, attempt: Row, job: Row, payable: SignedStatement | None) -> pb.CoordinatorMessage | None:
    share = 0 if payable is None else payable.statement.share_usd_micros(attempt.provider)
    if payable is None or share == 0:
        return None
    logger.info("payable_released", attempt_id=attempt.attempt_id, accepted_usd_micros=share)
    return pb.CoordinatorMessage(
        payable=pb.Payable(
            attempt_id=attempt.attempt_id,
            signed_statement_json=payable.model_dump_json(),
            signed_reservation_json=reserve(co, attempt, job, accepted_usd_micros=share).model_dump_json(),
        )
    )
