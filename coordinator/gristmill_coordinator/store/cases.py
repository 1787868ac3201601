"""Everything an audit of a window has to know, read at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gristmill_coordinator.domain.modes import WAYS, Way
from gristmill_coordinator.domain.windows import Result
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import attempts, audits, jobs, segments, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.jobs import ArtifactRef, JobSpec, Quote, WindowState
from gristmill_protocol.progress import Replayed

SECOND = "second"  # AuditView.why_drawn: of a second verifier from the start
SECOND_OPINION = "second opinion"  # of one who is asked after a mismatch

_LATER = (SECOND, SECOND_OPINION)


@dataclass(frozen=True)
class Case:
    """A sampled window with its attempt, its job, its segments' records and its audits so far."""

    window: Row
    attempt: Row
    job: Row
    quote: Quote
    spec: JobSpec
    before: WindowState | None  # of the attempt's previous window
    segments: dict[int, Row]  # by index; from the one before the window to its last
    audits: list[Row]

    @property
    def way(self) -> Way:
        """What the job's way of checking asks."""
        return WAYS[self.quote.mode]

    @property
    def last_index(self) -> int:
        return int(self.window.first_index + self.window.segments - 1)

    @property
    def settled_before(self) -> bool:
        """Whether all earlier work of the attempt has passed, so that this window's verdict can count."""
        return self.before in (None, WindowState.PASSED, WindowState.PAID)

    def signed(self, index: int) -> SignedRecord:
        return SignedRecord.model_validate(self.segments[index].signed)

    def record(self, index: int) -> SegmentRecord:
        return self.signed(index).record

    def state_after(self, index: int) -> ArtifactRef:
        return ArtifactRef.model_validate(self.segments[index].state)

    def input_of(self, index: int) -> ArtifactRef | None:
        """The state a segment starts from; None for the initial one, which everyone derives."""
        if index > self.attempt.segment_from:
            return self.state_after(index - 1)
        return None if self.attempt.start is None else ArtifactRef.model_validate(self.attempt.start)

    def needed_states(self) -> set[int]:
        """The segments whose end states somebody needs: a verifier's input, or the state the job goes on from."""
        open_audits = [
            one for one in self.audits if (one.replayed is None and one.outcome == "pending") or self.unmeasured(one)
        ]
        needed = {one.segment - 1 for one in open_audits if one.segment > self.attempt.segment_from}
        needed |= {one.segment for one in open_audits if self.unmeasured(one)}
        return needed if self.window.ends_job else needed | {self.last_index}

    def unmeasured(self, audit: Row) -> bool:
        """Whether an audit's end state still has to be held against the provider's."""
        by_distance = self.way.keep_state and audit.why != SECOND_OPINION
        return by_distance and audit.distance is None and audit.outcome == "pending"

    def of_segment(self, index: int) -> list[Row]:
        """The audits of one segment in their order, without those that were given up."""
        mine = [one for one in self.audits if one.segment == index and one.outcome != "unserved"]
        return sorted(mine, key=lambda one: (one.why in _LATER, one.why))

    def doubled(self, index: int) -> bool:
        """Whether a segment has two verifiers from the start."""
        return any(one.why == SECOND for one in self.of_segment(index))

    def result(self, index: int) -> Result | None:
        """What was handed over, if this segment ends the job."""
        return result(self.attempt, self.record(index), self.quote)

    def answers(self, index: int) -> list[Replayed | None]:
        return [answer(one) for one in self.of_segment(index)]


def answer(audit: Row) -> Replayed | None:
    return None if audit.replayed is None else Replayed.model_validate(audit.replayed)


def result(attempt: Row, record: SegmentRecord, quote: Quote) -> Result | None:
    """What an attempt handed over, if this record ends the job: only a finished attempt's counts."""
    if record.step_to < quote.plan.steps:
        return None
    files = {name: ref["sha256"] for name, ref in attempt.finished["files"].items()}
    return Result(files, sha256_json(attempt.finished["scorecard"]).hex())


async def cases(tx: Tx, rows: Sequence[Row]) -> list[Case]:
    """The cases of these windows, with a handful of queries whatever their number."""
    attempts_ = await job_rows.by_id(tx, attempts, [row.attempt_id for row in rows])
    jobs_ = await job_rows.by_id(tx, jobs, [row.job_id for row in rows])
    ids = list(attempts_)
    states: dict[tuple[str, int], WindowState] = {
        (row.attempt_id, row.number): WindowState(row.state)
        for row in await tx.rows(sa.select(windows).where(windows.c.attempt_id.in_(ids)))
    }
    audits_: dict[str, list[Row]] = defaultdict(list)
    for row in await tx.rows(sa.select(audits).where(audits.c.window_id.in_([row.window_id for row in rows]))):
        audits_[row.window_id].append(row)
    return [
        Case(
            window=row,
            attempt=attempts_[row.attempt_id],
            job=jobs_[row.job_id],
            quote=Quote.model_validate(jobs_[row.job_id].quote),
            spec=JobSpec.model_validate(jobs_[row.job_id].spec),
            before=states.get((row.attempt_id, row.number - 1)),
            segments=await _segments(tx, row),
            audits=sorted(audits_[row.window_id], key=lambda audit: (audit.segment, audit.why)),
        )
        for row in rows
    ]


async def _segments(tx: Tx, window: Row) -> dict[int, Row]:
    last = window.first_index + window.segments - 1
    mine = sa.and_(segments.c.attempt_id == window.attempt_id, segments.c.segment.between(window.first_index - 1, last))
    return {row.segment: row for row in await tx.rows(sa.select(segments).where(mine))}
