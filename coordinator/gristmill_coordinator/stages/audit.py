"""Stage 5b, audit: sampled segments are run again elsewhere, blindly; the digests are compared, the verdict written."""

from collections import Counter

import sqlalchemy as sa
import structlog
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.disputes import Fault
from gristmill_coordinator.domain.windows import Finding, Opinion, Verdict, compare, judge, judge_segment
from gristmill_coordinator.market.nodes import holds, refresh
from gristmill_coordinator.stages.commitment import new_audit
from gristmill_coordinator.stages.verifying import second_verifiers, serve
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.cases import SECOND_OPINION, Case, cases
from gristmill_coordinator.store.store import Row, Tx, change, claimed, keep
from gristmill_coordinator.store.tables import audits, segments, windows
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.jobs import WindowState
from gristmill_protocol.progress import Replayed
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_AGAIN_S = 1.0
_MAX_REFUSALS = 5  # of one audit: then it is the segment that cannot be re-run


async def step(co: Coordinator) -> int:
    """Bring sampled windows forward; how many were judged."""
    config = co.config
    where = windows.c.state.in_((WindowState.SAMPLED, WindowState.DISPUTED))
    rows = await co.store.claim(windows, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    async with co.store.read() as tx:
        found = await cases(tx, rows)
        running = await job_rows.running(tx)
    judged = 0
    for case in found:
        if await _conclude(co, case):
            judged += 1
        else:
            waits_for = await serve(co, case, running)
            async with co.store.write() as tx:
                await keep(tx, windows, case.window, due_s=co.clock() + _AGAIN_S, reason=waits_for)
    return judged


async def audit_replied(co: Coordinator, node_id: str, reply: pb.AuditReply) -> None:
    """Store a verifier's answer; the first answer to an audit stands."""
    mine = sa.and_(audits.c.audit_id == reply.audit_id, audits.c.node_id == node_id, audits.c.outcome == "pending")
    async with co.store.write() as tx:
        audit = await tx.row(sa.select(audits).where(mine))
        if audit is None:
            logger.warning("foreign_audit", node_id=node_id, audit_id=reply.audit_id)
            return
        # The window first, as in verdicts.void: two transactions that lock in different orders wait for ever.
        await change(tx, windows, windows.c.window_id == audit.window_id, reason=windows.c.reason)
        where = sa.and_(segments.c.attempt_id == audit.attempt_id, segments.c.segment == audit.segment)
        record = SignedRecord.model_validate(await tx.value(sa.select(segments.c.signed).where(where))).record
        replayed = _replayed(record, reply)
        if replayed is not None:
            await _note(co, tx, audit, record, replayed)
        else:
            logger.warning("audit_refused", node_id=node_id, audit_id=reply.audit_id, why=reply.reason)
            refusal = {"refused": {**audit.refused, node_id: co.clock()}, "refusals": audit.refusals + 1}
            await change(tx, audits, mine, node_id=None, sent_s=0.0, **refusal)
        tx.wake("audit")


async def state_replied(co: Coordinator, node_id: str, reply: pb.StateReply) -> None:
    """A node has uploaded the boundary state it was asked for, or cannot."""
    async with co.store.read() as tx:
        if await job_rows.owned(tx, node_id, reply.attempt_id) is None:
            return
    uploaded = reply.uploaded and await holds(co, node_id, reply.sha256)
    async with co.store.write() as tx:
        judging = sa.and_(
            windows.c.attempt_id == reply.attempt_id,
            windows.c.state.in_((WindowState.SAMPLED, WindowState.DISPUTED)),
        )
        await change(tx, windows, judging, reason=windows.c.reason)
        mine = segments.c.attempt_id == reply.attempt_id
        asked = await tx.rows(sa.select(segments).where(mine, segments.c.asked_s > 0, ~segments.c.uploaded))
        for row in [row for row in asked if row.state["sha256"] == reply.sha256]:
            this = sa.update(segments).where(mine, segments.c.segment == row.segment)
            refused = "" if uploaded else reply.reason or "The provider does not have it."
            await tx.run(this.values(uploaded=uploaded, refused=refused))
        tx.wake("audit")


def _replayed(record: SegmentRecord, reply: pb.AuditReply) -> Replayed | None:
    """The answer, if it is one to the question that was asked."""
    if not reply.accepted:
        return None
    try:
        replayed = Replayed.model_validate_json(reply.replayed_json)
    except ValidationError:
        return None
    asked = (record.step_from, record.step_to)
    return replayed if (replayed.step_from, replayed.step_to) == asked else None


async def _note(co: Coordinator, tx: Tx, audit: Row, record: SegmentRecord, replayed: Replayed) -> None:
    """Keep the answer and tell the renter; what follows from it is decided once all answers are there."""
    agrees = compare(record, replayed) is Opinion.AGREES
    outcome, word = ("passed", "matched") if agrees else ("mismatch", "did not match")
    still_open = sa.and_(audits.c.audit_id == audit.audit_id, audits.c.outcome == "pending")
    if await change(tx, audits, still_open, replayed=replayed.model_dump(mode="json"), outcome=outcome):
        text = f"Segment {audit.segment} was re-run by {audit.verifier_name!r} and {word}."
        fields = {"segment": audit.segment, "outcome": outcome}
        await job_rows.tell(tx, audit.job_id, "audit", text, now=co.clock(), **fields)


async def _conclude(co: Coordinator, case: Case) -> bool:
    """Judge the window if its audits allow it; whether it was judged."""
    if any(one.refusals >= _MAX_REFUSALS for one in case.audits):
        return await _void(co, case, Finding.NOT_RUN, "Its sampled segment could not be run again by others.")
    missing = await _missing(co, case)
    if missing is not None:
        return await _unserved(co, case, *missing)
    sampled = sorted({one.segment for one in case.audits})
    verdicts_ = {
        index: judge_segment(case.record(index), case.answers(index), others=_can_be_confirmed(co, case, index))
        for index in sampled
    }
    verdict = judge(list(verdicts_.values()))
    if verdict is Verdict.FRAUD:
        return await _fraud(co, case, [index for index in sampled if verdicts_[index] is Verdict.FRAUD])
    if verdict is Verdict.NOT_REPRODUCIBLE:
        reason = "Three machines got three different results: it cannot be reproduced."
        return await _void(co, case, Finding.NOT_REPRODUCIBLE, reason)
    if verdict is Verdict.UNCONFIRMED:
        reason = "One machine got another result, and there was no second one to confirm it."
        return await _void(co, case, Finding.UNCONFIRMED, reason)
    if verdict is Verdict.SECOND_OPINION:
        return await _dispute(co, case, [i for i in sampled if verdicts_[i] is Verdict.SECOND_OPINION])
    if verdict is Verdict.PASSED and case.settled_before and await _last_state_here(co, case):
        return await _pass(co, case)
    return False


def _can_be_confirmed(co: Coordinator, case: Case, index: int) -> bool:
    """Whether a second verifier is there or may yet come: machines reconnect, and others join."""
    asked_s = max(co.started_s, *(one.sent_s for one in case.of_segment(index)))
    return bool(second_verifiers(co, case, index)) or co.clock() <= asked_s + co.config.audit_timeout_s


async def _missing(co: Coordinator, case: Case) -> tuple[int, str] | None:
    """The segment whose end state cannot be had any more, and why; None while there is hope."""
    now = co.clock()
    for index in sorted(case.needed_states()):
        row = case.segments[index]
        if await _here(co, case, index):
            continue
        if row.refused:
            return index, f"The state after segment {index} could not be had: {row.refused}"
        if row.asked_s and now > max(row.asked_s, co.started_s) + co.config.state_wait_s:
            return index, f"The state after segment {index} was not sent in time."
    return None


async def _here(co: Coordinator, case: Case, index: int) -> bool:
    row = case.segments[index]
    return row.uploaded or await holds(co, case.attempt.node_id, row.state["sha256"])


async def _last_state_here(co: Coordinator, case: Case) -> bool:
    index = case.last_index
    return index not in case.needed_states() or await _here(co, case, index)


async def _pass(co: Coordinator, case: Case) -> bool:
    last = case.record(case.last_index)
    first = case.record(case.window.first_index)
    async with co.store.write() as tx:
        if not await claimed(tx, windows, case.window):
            return False
        agreeing = [one.verifier for one in case.audits if one.outcome == "passed"]
        named = case.attempt.verifier
        await verdicts.accept(
            tx,
            case.window,
            verifier=named if named in agreeing else Counter(agreeing).most_common(1)[0][0],
            steps_from=first.step_from,
            state_root=last.state_root,
            state=case.state_after(case.last_index),
            provider=case.attempt.provider,
        )
        for wrong in [one for one in case.audits if one.outcome == "mismatch"]:
            await verdicts.disgrace(tx, wrong.verifier)
    return True


async def _fraud(co: Coordinator, case: Case, found: list[int]) -> bool:
    answers = [one for index in found for one in case.of_segment(index) if one.replayed is not None]
    documents = [case.segments[index].signed for index in found] + [one.replayed for one in answers]
    reason = f"Segment {found[0]} comes out differently when it is run again."
    accusation = verdicts.Accusation(Fault.DIFFERS, found[0], documents)
    return await _void(co, case, Finding.FRAUD, reason, accusation)


async def _unserved(co: Coordinator, case: Case, index: int, reason: str) -> bool:
    accusation = verdicts.Accusation(Fault.UNSERVED, index, [case.segments[index].signed])
    return await _void(co, case, Finding.UNSERVED, reason, accusation)


async def _void(
    co: Coordinator, case: Case, finding: Finding, reason: str, accusation: verdicts.Accusation | None = None
) -> bool:
    now = co.clock()
    async with co.store.write() as tx:
        if not await claimed(tx, windows, case.window):
            return False
        await verdicts.void(tx, case.window, finding, reason, now=now, accusation=accusation)
    if accusation is not None:
        await refresh(co, now)
    return True


async def _dispute(co: Coordinator, case: Case, disputed: list[int]) -> bool:
    """SAMPLED -> DISPUTED: a second verifier runs the segments that came out differently."""
    async with co.store.write() as tx:
        if not await keep(tx, windows, case.window, state=WindowState.DISPUTED):
            return False
        for index in disputed:
            await tx.add(audits, new_audit(case.window, index, SECOND_OPINION))
            text = f"Segment {index} came out differently when it was run again; another machine is asked."
            await job_rows.tell(tx, case.job.job_id, "audit", text, now=co.clock(), segment=index)
        tx.wake("audit")
    return True
