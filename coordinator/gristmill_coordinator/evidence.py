"""What a job's checks rest on, read for anybody: commitments, draws and, once there is a verdict, the audits."""

from collections import defaultdict

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.modes import why_drawn
from gristmill_coordinator.domain.windows import UNJUDGED
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.cases import SECOND
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import anchors, attempts, audits, jobs, segments, transactions, windows
from gristmill_coordinator.views import newest_hash
from gristmill_protocol.api import AuditsView, Inclusion, WindowEvidence
from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import AuditView, SampleBasis, WindowState

_DRAWN = ("first", "last", "drawn")


async def view(co: Coordinator, job_id: str) -> AuditsView:
    """A job's draws and the outcomes of its audits.

    Raises:
        NotFound: no such job.
    """
    async with co.store.read() as tx:
        if await tx.row(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id)) is None:
            raise NotFound(f"There is no job {job_id}.", todo="Check its id.")
        found = await evidence(tx, job_id)
    chain = co.chain.info
    return AuditsView(
        job_id=job_id,
        chain_id=chain.chain_id,
        registry=chain.registry,
        coordinator=chain.coordinator_id,
        windows=tuple(found),
    )


async def evidence(tx: Tx, job_id: str) -> list[WindowEvidence]:
    """What anybody may know of a job's windows, in the order of the work."""
    mine = sa.select(windows).join(attempts, attempts.c.attempt_id == windows.c.attempt_id)
    rows = await tx.rows(mine.where(windows.c.job_id == job_id).order_by(attempts.c.number, windows.c.number))
    anchors_ = await job_rows.by_id(tx, anchors, [row.anchor_id for row in rows])
    sent = await job_rows.by_id(tx, transactions, [anchor.transaction_id for anchor in anchors_.values()])
    audits_, leaves = await _audits(tx, job_id), await _leaves(tx, job_id)
    found = []
    for row in rows:
        anchor, committed = anchors_.get(row.anchor_id), leaves[row.window_id][: row.segments]
        anchor_tx = None if anchor is None else newest_hash(sent.get(anchor.transaction_id))
        found.append(_evidence(row, anchor, anchor_tx, committed, audits_[row.window_id]))
    return found


def _evidence(
    row: Row, anchor: Row | None, anchor_tx: str | None, leaves: list[str], audits_: list[Row]
) -> WindowEvidence:
    judged = row.state not in UNJUDGED
    return WindowEvidence(
        window_id=row.window_id,
        attempt_id=row.attempt_id,
        # A second verifier must not learn that the first one disagreed.
        state=WindowState.SAMPLED if row.state == WindowState.DISPUTED else row.state,
        first_index=row.first_index,
        leaves=tuple(leaves),
        root=row.root,
        anchor_root=None if anchor is None else anchor.root,
        inclusion=None if row.proof is None else Inclusion.model_validate(row.proof),
        anchor_tx=anchor_tx,
        beacon=row.beacon,
        ends_job=row.ends_job,
        samples_ppm=row.samples_ppm,
        basis=None if row.basis is None else SampleBasis.model_validate(row.basis),
        drawn=tuple(sorted(audit.segment for audit in audits_ if audit.why in _DRAWN)),
        doubled=tuple(sorted(audit.segment for audit in audits_ if audit.why == SECOND)),
        audits=tuple(_audit(audit) for audit in audits_) if judged else (),
    )


def _audit(row: Row) -> AuditView:
    return AuditView(
        window_id=row.window_id,
        segment=row.segment,
        verifier=row.verifier or 0,
        verifier_name=row.verifier_name,
        outcome=row.outcome,
        why_drawn=why_drawn(row.why),
    )


async def _audits(tx: Tx, job_id: str) -> dict[str, list[Row]]:
    query = sa.select(audits).where(audits.c.job_id == job_id).order_by(audits.c.segment, audits.c.why)
    found: dict[str, list[Row]] = defaultdict(list)
    for row in await tx.rows(query):
        found[row.window_id].append(row)
    return found


async def _leaves(tx: Tx, job_id: str) -> dict[str, list[str]]:
    query = sa.select(segments.c.window_id, segments.c.leaf)
    query = query.join(windows, windows.c.window_id == segments.c.window_id).where(windows.c.job_id == job_id)
    found: dict[str, list[str]] = defaultdict(list)
    for row in await tx.rows(query.order_by(segments.c.segment)):
        found[row.window_id].append(row.leaf)
    return found
