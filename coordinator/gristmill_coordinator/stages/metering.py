"""Stage 4, metering: signed segment records and receipts, taken once each, and progress for people."""

import json
import sys

import sqlalchemy as sa
import structlog
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.jobs import ACTIVE
from gristmill_coordinator.market.nodes import holds
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import attempts, jobs, segments, windows
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.errors import BadSignature
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import ArtifactRef, Quote, WindowState
from gristmill_protocol.signing import RECEIPT_TYPE, SEGMENT_RECORD_TYPE, require_signer
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_SHOW_EVERY_S = 1.0
_SHOW_PARTS = 200  # a job's progress takes at most about this many lines of its story


async def segment_reported(co: Coordinator, node_id: str, report: pb.SegmentReport) -> None:
    """Store a segment's signed record; the first record of an index stands."""
    async with co.store.read() as tx:
        attempt = await job_rows.owned(tx, node_id, report.attempt_id)
    if attempt is None:
        return
    try:
        signed = SignedRecord.model_validate_json(report.signed_record_json)
        state = ArtifactRef(sha256=report.state.sha256, size_bytes=report.state.size_bytes)
        typed = signed.record.typed()
        require_signer(co.chain.info.registry_domain, SEGMENT_RECORD_TYPE, typed, signed.signature, attempt.node_key)
    except (ValidationError, BadSignature) as err:
        logger.warning("segment_refused", attempt_id=report.attempt_id, why=str(err))
        return
    record = signed.record
    if (record.job_id, record.numeric_class) != (attempt.job_id, attempt.numeric_class):
        logger.warning("segment_refused", attempt_id=report.attempt_id, why="another job or numeric class")
        return
    uploaded = report.uploaded and await holds(co, node_id, state.sha256)
    async with co.store.write() as tx:
        attempt = await job_rows.owned(tx, node_id, report.attempt_id)
        if attempt is None or attempt.state not in ACTIVE or record.index < attempt.segment_from:
            return
        await _store(co, tx, attempt, signed, state, uploaded=uploaded)


async def receipt_reported(co: Coordinator, node_id: str, receipt: pb.Receipt) -> None:
    """Store a signed receipt if its number is the highest so far."""
    async with co.store.write() as tx:
        attempt = await job_rows.owned(tx, node_id, receipt.attempt_id)
        if attempt is None or receipt.number <= attempt.receipt_number:
            return
        message = {
            "attempt": id_bytes32(receipt.attempt_id),
            "number": receipt.number,
            "steps": receipt.steps,
            "gpuMs": receipt.gpu_ms,
        }
        try:
            domain = co.chain.info.registry_domain
            require_signer(domain, RECEIPT_TYPE, message, receipt.signature, attempt.node_key)
        except BadSignature as err:
            logger.warning("receipt_refused", attempt_id=receipt.attempt_id, why=str(err))
            return
        this = sa.update(attempts).where(attempts.c.attempt_id == attempt.attempt_id)
        await tx.run(this.values(receipt_number=receipt.number, gpu_ms=min(receipt.gpu_ms, 2**62)))


async def progress_reported(co: Coordinator, node_id: str, progress: pb.Progress) -> None:
    """Show a step to the renter, at most about once a second."""
    now = co.clock()
    if not co.pulse.may_show(progress.attempt_id, now, _SHOW_EVERY_S):
        return
    async with co.store.write() as tx:
        attempt = await job_rows.owned(tx, node_id, progress.attempt_id)
        if attempt is None or attempt.state not in ACTIVE:
            return
        plan = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == attempt.job_id))).plan
        total, step, metrics = plan.steps, min(progress.step, plan.steps), _metrics(progress.metrics_json)
        text = f"Step {step:,} of {total:,}."
        if plan.limit_s:  # one step for the whole job: all there is to show is what it says meanwhile
            text = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
            if not (text and co.pulse.may_show_numbers(progress.attempt_id, now, plan.limit_s / _SHOW_PARTS)):
                return
        elif step < attempt.step_seen + max(1, total // _SHOW_PARTS):
            return
        await tx.run(sa.update(attempts).where(attempts.c.attempt_id == attempt.attempt_id).values(step_seen=step))
        await job_rows.tell(tx, attempt.job_id, "progress", text, now=now, step=step, metrics=metrics)


async def _store(
    co: Coordinator, tx: Tx, attempt: Row, signed: SignedRecord, state: ArtifactRef, *, uploaded: bool
) -> None:
    record = signed.record
    plan = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == attempt.job_id))).plan
    number = (record.index - attempt.segment_from) // plan.window_segments
    window_id = f"{attempt.attempt_id}.{number}".replace("attempt_", "window_", 1)
    window = {
        "window_id": window_id,
        "job_id": attempt.job_id,
        "attempt_id": attempt.attempt_id,
        "number": number,
        "state": WindowState.OPEN,
        "first_index": attempt.segment_from + number * plan.window_segments,
        "capacity": plan.window_segments,
    }
    await tx.add(windows, window)
    segment = {
        "attempt_id": attempt.attempt_id,
        "segment": record.index,
        "window_id": window_id,
        "signed": signed.model_dump(mode="json"),
        "leaf": record.leaf().hex(),
        "state": state.model_dump(mode="json"),
        "uploaded": uploaded,
    }
    if not await tx.add(segments, segment):
        return
    to = min(max(record.step_to, attempt.step_to), plan.steps)
    await tx.run(sa.update(attempts).where(attempts.c.attempt_id == attempt.attempt_id).values(step_to=to))
    text = f"Segment {record.index} is committed: steps {record.step_from:,} to {record.step_to:,}."
    fields = {"segment": record.index, "step_to": record.step_to}
    await job_rows.tell(tx, attempt.job_id, "segment", text, now=co.clock(), **fields)
    tx.wake("commitment", "audit")


def _metrics(metrics_json: str) -> dict[str, float]:
    """The finite numbers of a progress line: what else is in there nobody has to see."""
    try:
        metrics = json.loads(metrics_json or "{}")
    except ValueError:
        return {}
    if not isinstance(metrics, dict):
        return {}
    most = sys.float_info.max  # of an int, too: JSON's have no limit
    numbers = ((name, value) for name, value in metrics.items() if isinstance(value, int | float))
    return {str(name)[:60]: value for name, value in list(numbers)[:20] if -most <= value <= most}
