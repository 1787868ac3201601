"""Between stages: a job that nobody runs or checks any more goes on to another machine, or to be paid."""

import sqlalchemy as sa
import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.jobs import ACTIVE, Ending, JobReason, conclude
from gristmill_coordinator.domain.windows import UNJUDGED
from gristmill_coordinator.stages.dispatch import DECLINED
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx, keep
from gristmill_coordinator.store.tables import attempts, jobs, windows
from gristmill_protocol.jobs import AttemptState

logger = structlog.get_logger()

_TEXTS = {
    JobReason.MOVING: "It goes on from the last verified step and looks for a machine.",
    JobReason.ACCEPTED: "The work is verified and is being paid.",
}


async def step(co: Coordinator) -> int:
    """Decide what becomes of jobs that nothing runs or is checked for any more; how many."""
    config = co.config
    mine = jobs.c.job_id
    quiet = sa.and_(
        jobs.c.reason.in_((JobReason.WORK_ENDED, JobReason.STOP_ASKED)),
        ~sa.exists().where(attempts.c.job_id == mine, attempts.c.state.in_(ACTIVE)),
        ~sa.exists().where(windows.c.job_id == mine, windows.c.state.in_(UNJUDGED)),
    )
    rows = await co.store.claim(jobs, quiet, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if rows:
        async with co.store.write() as tx:
            for row in rows:
                await _conclude(co, tx, row)
            tx.wake("matching", "settlement")
    return len(rows)


async def _conclude(co: Coordinator, tx: Tx, row: Row) -> None:
    failed = sa.and_(
        attempts.c.job_id == row.job_id, attempts.c.state == AttemptState.FAILED, attempts.c.code != DECLINED
    )
    failures = await tx.rows(sa.select(attempts.c.reason).where(failed).order_by(attempts.c.number))
    reason, ending = conclude(
        ending=Ending(row.ending),
        steps_accepted=row.steps_accepted,
        steps_total=row.steps,
        failures=len(failures),
        max_failures=co.config.max_failures,
    )
    ending_text = row.ending_text
    if ending is Ending.FAILED and not ending_text:
        ending_text = f"It failed on {len(failures)} machines; the last time: {failures[-1].reason}"
    text = {
        JobReason.FAILED: ending_text,
        JobReason.STOPPED: f"{ending_text} Nothing was verified before; nothing is charged.",
        **_TEXTS,
    }[reason]
    now = co.clock()
    values = {"reason": reason, "reason_text": text, "ending": ending, "ending_text": ending_text, "queued_s": now}
    if await keep(tx, jobs, row, **values):
        await job_rows.tell(tx, row.job_id, "state", text, now=now, state=reason.state)
        logger.info("job_concluded", job_id=row.job_id, reason=reason, steps_accepted=row.steps_accepted)
