"""Stage 5b in tolerance mode: end states are held against the provider's by distance, and segments judged by it."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.artifacts.distance import distance, root_of
from gristmill_coordinator.domain.tolerance import TABLE, Distance, Grade, Tolerance, judge_segment
from gristmill_coordinator.domain.windows import Verdict, compare
from gristmill_coordinator.market.nodes import holds
from gristmill_coordinator.stages.verifying import dropped, other_verifiers
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.cases import SECOND_OPINION, Case, answer
from gristmill_coordinator.store.store import Row, Tx, change
from gristmill_coordinator.store.tables import audits, jobs
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.errors import BadData
from gristmill_protocol.progress import Replayed
from gristmill_trainer import catalog

logger = structlog.get_logger()

_FARTHEST = 1e9  # infinity has no JSON
_NEVER = Distance(_FARTHEST, _FARTHEST, _FARTHEST)

TOO_FAR = "Machines of another kind come out farther away than rounding explains: this work does not count."
NOT_COMPARABLE = (
    "On this job honest machines of different kinds come out too far apart to check one another: "
    "it needs a second machine of the provider's kind."
)


async def measure(co: Coordinator, case: Case) -> bool:
    """Measure one more answer, calibrate, or grade what is measured; whether anything was left to do."""
    for audit in [one for one in case.audits if one.replayed is not None and case.unmeasured(one)]:
        if not await _handed_over(co, case, audit):
            await _ask_another(co, audit)
            return True
        if await holds(co, case.attempt.node_id, case.state_after(audit.segment).sha256):
            await _write(co, audit, distance=asdict(await _from_provider(co, case, audit)))
            return True
    if case.job.sigma is None:
        return await _calibrate(co, case)
    return await _grade(co, case)


def judge(co: Coordinator, case: Case) -> dict[int, Verdict]:
    """The verdicts on the sampled segments so far, by index."""
    allowed = None if case.job.sigma is None else _allowed(case)
    return {index: _verdict(co, case, index, allowed) for index in sorted({one.segment for one in case.audits})}


def _verdict(co: Coordinator, case: Case, index: int, allowed: Tolerance | None) -> Verdict:
    if allowed is None:
        return Verdict.PENDING
    drawn, opinions = _split(case, index)
    grades = [None if one.outcome == "pending" else allowed.grade(Distance(**one.distance)) for one in drawn]
    said = next((answer(one) for one in opinions), None)
    waited_s = co.clock() - max([co.started_s, *(one.sent_s or one.assigned_s for one in opinions)])
    asked = bool(opinions)
    return judge_segment(
        grades,
        None if said is None else compare(case.record(index), said, case.result(index)),
        asked=asked,
        others=bool(other_verifiers(co, case, index)) or (asked and waited_s <= co.config.audit_timeout_s),
        usable=allowed.usable,
    )


def _split(case: Case, index: int) -> tuple[list[Row], list[Row]]:
    """A segment's audits by other kinds of machines, and by the provider's own kind."""
    mine = case.of_segment(index)
    return [one for one in mine if one.why != SECOND_OPINION], [one for one in mine if one.why == SECOND_OPINION]


def _allowed(case: Case) -> Tolerance:
    sigma = Distance(**case.job.sigma) if case.job.sigma else None
    return TABLE[catalog.find(case.job.recipe).info.numerics].calibrated(sigma)


async def _handed_over(co: Coordinator, case: Case, audit: Row) -> bool:
    """Whether a verifier uploaded what it says it came to."""
    replayed = Replayed.model_validate(audit.replayed)
    needed = [replayed.state] if case.input_of(audit.segment) else [replayed.state, replayed.start]
    return all([one is not None and await holds(co, audit.node_id, one.sha256) for one in needed])


async def _ask_another(co: Coordinator, audit: Row) -> None:
    logger.warning("audit_without_state", node_id=audit.node_id, audit_id=audit.audit_id)
    await _write(co, audit, replayed=None, salt=None, **dropped(audit, {audit.node_id: co.clock()}, refusals=1))


async def _from_provider(co: Coordinator, case: Case, audit: Row) -> Distance:
    """How far the provider's end state is from a verifier's; as far as can be if it is not the one committed to."""
    replayed, record = Replayed.model_validate(audit.replayed), case.record(audit.segment)
    theirs = co.artifacts.path(case.state_after(audit.segment).sha256)
    if replayed.data_root != record.data_root or (
        case.input_of(audit.segment) and replayed.state_root_prev != record.state_root_prev
    ):
        return _NEVER
    start, mine = _paths(co, case, audit)
    return await asyncio.to_thread(_apart, start, mine, theirs, record)


def _paths(co: Coordinator, case: Case, audit: Row) -> tuple[Path, Path]:
    """The files of a verifier's start and end state."""
    replayed = Replayed.model_validate(audit.replayed)
    start = case.input_of(audit.segment) or replayed.start
    if start is None or replayed.state is None:
        raise LookupError(f"audit {audit.audit_id} has no states")
    return co.artifacts.path(start.sha256), co.artifacts.path(replayed.state.sha256)


def _apart(start: Path, mine: Path, theirs: Path, record: SegmentRecord | None) -> Distance:
    try:
        if record is not None and root_of(theirs) != record.state_root:
            return _NEVER
        found = distance(start, mine, theirs)
    except BadData as err:
        logger.warning("states_not_comparable", why=str(err))
        return _NEVER
    return Distance(**{name: min(value, _FARTHEST) for name, value in asdict(found).items()})


async def _calibrate(co: Coordinator, case: Case) -> bool:
    """Note how far two other kinds of machines are apart on this job; the provider's data play no part in it."""
    first = min((one.segment for one in case.audits), default=case.last_index)
    drawn, _ = _split(case, first)
    if not drawn or any(one.distance is None for one in drawn):
        return False
    offers = [co.book.get(one.node_id) for one in drawn]
    kinds = {offer.terms.numeric_class for offer in offers if offer is not None}
    sigma: dict[str, float] = {}
    if len(kinds) > 1:
        start, mine = _paths(co, case, drawn[0])
        _, other = _paths(co, case, drawn[1])
        sigma = asdict(await asyncio.to_thread(_apart, start, mine, other, None))
    async with co.store.write() as tx:
        await change(tx, jobs, jobs.c.job_id == case.job.job_id, sigma=sigma)
    logger.info("tolerance_calibrated", job_id=case.job.job_id, kinds=len(kinds), **sigma)
    return True


async def _grade(co: Coordinator, case: Case) -> bool:
    measured = [one for one in case.audits if one.outcome == "pending" and one.distance is not None]
    allowed = _allowed(case)
    async with co.store.write() as tx:
        for audit in measured:
            await _note(co, tx, audit, allowed.grade(Distance(**audit.distance)))
    return bool(measured)


async def _note(co: Coordinator, tx: Tx, audit: Row, grade: Grade) -> None:
    word = {Grade.CLOSE: "came out close", Grade.FLAGGED: "came out suspiciously far", Grade.FAR: "came out too far"}
    outcome = "mismatch" if grade is Grade.FAR else "passed"
    if await change(tx, audits, audits.c.audit_id == audit.audit_id, outcome=outcome):
        text = f"Segment {audit.segment} was re-run by {audit.verifier_name!r} and {word[grade]}."
        fields = {"segment": audit.segment, "outcome": outcome, **audit.distance}
        await job_rows.tell(tx, audit.job_id, "audit", text, now=co.clock(), **fields)


async def _write(co: Coordinator, audit: Row, **values: object) -> None:
    async with co.store.write() as tx:
        await change(tx, audits, audits.c.audit_id == audit.audit_id, **values)
