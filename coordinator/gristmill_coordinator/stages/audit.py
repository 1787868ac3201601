"""Stage 5b, audit: sampled segments are run again elsewhere, blindly; the digests are compared, the verdict written."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
import structlog
from eth_utils.address import to_checksum_address
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.domain.disputes import Fault
from gristmill_coordinator.domain.jobs import Ending
from gristmill_coordinator.domain.modes import MEASUREMENT, WAYS, Checkers, is_whole
from gristmill_coordinator.domain.windows import MAX_REFUSALS, Finding, Opinion, Verdict, compare, judge, judge_segment
from gristmill_coordinator.market.nodes import holds, rebook, refresh, unwilling
from gristmill_coordinator.stages import tolerating, wholes
from gristmill_coordinator.stages.commitment import new_audit
from gristmill_coordinator.stages.verifying import dropped, other_verifiers, serve
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.cases import SECOND, SECOND_OPINION, Case, cases, result
from gristmill_coordinator.store.store import Row, Tx, change, claimed, keep
from gristmill_coordinator.store.tables import attempts, audits, jobs, nodes, segments, windows
from gristmill_protocol.commitments import SegmentRecord, SignedRecord, answer_digest
from gristmill_protocol.errors import BadData
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import Quote, WindowState
from gristmill_protocol.progress import Evaluated, Replayed, trainer_event
from gristmill_protocol.signing import AUDIT_COMMITMENT_TYPE, require_signer
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_AGAIN_S = 1.0

_VOIDS = {
    Verdict.WRONG_RESULT: (Finding.WRONG_RESULT, "What it handed over is not what its training gives."),
    Verdict.TOO_FAR: (Finding.TOO_FAR, tolerating.TOO_FAR),
    Verdict.NOT_COMPARABLE: (Finding.NOT_COMPARABLE, tolerating.NOT_COMPARABLE),
    Verdict.NOT_REPRODUCIBLE: (
        Finding.NOT_REPRODUCIBLE,
        "Three machines got three different results: it cannot be reproduced.",
    ),
    Verdict.UNCONFIRMED: (
        Finding.UNCONFIRMED,
        "One machine got another result, and there was no second one to confirm it.",
    ),
}


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
        if case.way.keep_state and await tolerating.measure(co, case):
            async with co.store.write() as tx:
                await keep(tx, windows, case.window)
        elif await _conclude(co, case):
            judged += 1
        else:
            waits_for = await serve(co, case, running)
            async with co.store.write() as tx:
                await keep(tx, windows, case.window, due_s=co.clock() + _AGAIN_S, reason=waits_for)
    return judged


async def audit_committed(co: Coordinator, node_id: str, said: pb.AuditCommitment) -> None:
    """Bind a verifier to its answer, which it says when it is asked to; the first commitment to an audit stands.

    Raises:
        BadSignature: it is not its node's.
    """
    signed: dict[str, object] = {"audit": id_bytes32(said.audit_id), "digest": said.digest}
    async with co.store.read() as tx:
        key = await tx.value(sa.select(nodes.c.key).where(nodes.c.node_id == node_id))
    require_signer(co.chain.info.registry_domain, AUDIT_COMMITMENT_TYPE, signed, said.signature, key)
    mine = sa.and_(audits.c.audit_id == said.audit_id, audits.c.node_id == node_id, audits.c.outcome == "pending")
    async with co.store.write() as tx:
        audit = await tx.row(sa.select(audits).where(mine, audits.c.committed.is_(None)))
        if audit is None:
            logger.warning("foreign_audit", node_id=node_id, audit_id=said.audit_id)
            return
        # The window first, as in verdicts.void: two transactions that lock in different orders wait for ever.
        await change(tx, windows, windows.c.window_id == audit.window_id, reason=windows.c.reason)
        bound = {"committed": said.digest.hex(), "commitment_signature": said.signature}
        await change(tx, audits, sa.and_(mine, audits.c.committed.is_(None)), **bound)
        tx.wake("audit")


async def audit_replied(co: Coordinator, node_id: str, reply: pb.AuditReply) -> None:
    """Store the answer that a verifier had committed to; anything else counts as a refusal."""
    unanswered = sa.and_(audits.c.outcome == "pending", audits.c.replayed.is_(None))
    mine = sa.and_(audits.c.audit_id == reply.audit_id, audits.c.node_id == node_id, unanswered)
    async with co.store.write() as tx:
        audit = await tx.row(sa.select(audits).where(mine))
        if audit is None:
            logger.warning("foreign_audit", node_id=node_id, audit_id=reply.audit_id)
            return
        await change(tx, windows, windows.c.window_id == audit.window_id, reason=windows.c.reason)
        where = sa.and_(segments.c.attempt_id == audit.attempt_id, segments.c.segment == audit.segment)
        record = SignedRecord.model_validate(await tx.value(sa.select(segments.c.signed).where(where))).record
        answer = _revealed(audit, record, reply)
        if answer is not None and is_whole(audit.why):
            await wholes.note(co, tx, audit, answer, salt=reply.salt)
        elif isinstance(answer, Replayed):
            await _note(co, tx, audit, record, answer, salt=reply.salt)
        else:
            logger.warning("audit_refused", node_id=node_id, audit_id=reply.audit_id, why=reply.reason)
            await change(tx, audits, mine, **dropped(audit, {node_id: co.clock()}, refusals=1))
            await unwilling(co, tx, node_id)
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


def _revealed(audit: Row, record: SegmentRecord, reply: pb.AuditReply) -> Replayed | Evaluated | None:
    """The answer, if it is the one committed to, one to the question that was asked, and was asked for."""
    if not reply.accepted or audit.committed is None or not audit.reveal_s:
        return None
    try:
        answer = trainer_event.validate_json(reply.replayed_json)
    except ValidationError:
        return None
    if audit.why.startswith(MEASUREMENT):
        if not isinstance(answer, Evaluated):
            return None
    elif not isinstance(answer, Replayed) or (answer.step_from, answer.step_to) != (record.step_from, record.step_to):
        return None
    return answer if answer_digest(audit.audit_id, reply.salt, answer).hex() == audit.committed else None


async def _note(co: Coordinator, tx: Tx, audit: Row, record: SegmentRecord, replayed: Replayed, *, salt: bytes) -> None:
    """Keep the answer and tell the renter; what follows from it is decided once all answers are there."""
    quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == audit.job_id)))
    if WAYS[quote.mode].keep_state and audit.why != SECOND_OPINION:
        values = {"replayed": replayed.model_dump(mode="json"), "salt": salt.hex()}
        await change(tx, audits, audits.c.audit_id == audit.audit_id, **values)  # its distance counts
        return
    attempt = (await job_rows.by_id(tx, attempts, [audit.attempt_id]))[audit.attempt_id]
    agrees = compare(record, replayed, result(attempt, record, quote)) is Opinion.AGREES
    outcome, word = ("passed", "matched") if agrees else ("mismatch", "did not match")
    still_open = sa.and_(audits.c.audit_id == audit.audit_id, audits.c.outcome == "pending")
    answer = {"replayed": replayed.model_dump(mode="json"), "salt": salt.hex(), "outcome": outcome}
    if await change(tx, audits, still_open, **answer):
        text = f"Segment {audit.segment} was re-run by {audit.verifier_name!r} and {word}."
        fields = {"segment": audit.segment, "outcome": outcome}
        await job_rows.tell(tx, audit.job_id, "audit", text, now=co.clock(), **fields)


async def _conclude(co: Coordinator, case: Case) -> bool:
    """Judge the window if its audits allow it; whether it was judged."""
    if not case.way.samples:
        return await wholes.conclude(co, case)
    if any(one.refusals >= MAX_REFUSALS for one in case.audits if one.why != SECOND):
        return await _void(co, case, Finding.NOT_RUN, "Its sampled segment could not be run again by others.")
    missing = await _missing(co, case)
    if missing is not None:
        return await _unserved(co, case, *missing)
    verdicts_ = _by_segment(co, case)
    verdict = judge(list(verdicts_.values()))
    decisive = [index for index in verdicts_ if verdicts_[index] is verdict]
    if verdict in (Verdict.FRAUD, Verdict.WRONG_RESULT):
        return await _convict(co, case, verdict, decisive)
    if verdict in _VOIDS:
        return await _void(co, case, *_VOIDS[verdict])
    if verdict is Verdict.SECOND_OPINION:
        return await _dispute(co, case, decisive)
    if verdict is Verdict.PASSED and case.settled_before and await _last_state_here(co, case):
        return await _pass(co, case)
    return False


def _by_segment(co: Coordinator, case: Case) -> dict[int, Verdict]:
    if case.way.keep_state:
        return tolerating.judge(co, case)
    return {
        index: judge_segment(
            case.record(index),
            case.answers(index),
            others=_can_be_confirmed(co, case, index),
            doubled=case.doubled(index),
            result=case.result(index),
        )
        for index in sorted({one.segment for one in case.audits})
    }


def _can_be_confirmed(co: Coordinator, case: Case, index: int) -> bool:
    """Whether a second verifier is there or may yet come: machines reconnect, and others join."""
    asked_s = max(co.started_s, *(one.sent_s for one in case.of_segment(index)))
    return bool(other_verifiers(co, case, index)) or co.clock() <= asked_s + co.config.audit_timeout_s


async def _missing(co: Coordinator, case: Case) -> tuple[int, str] | None:
    """The segment whose end state cannot be had any more, and why; None while there is hope."""
    now = co.clock()
    for index in sorted(case.needed_states()):
        row = case.segments[index]
        if await _here(co, case, index):
            if row.checked or await _is_as_signed(co, case, index):
                continue
            return index, f"What was sent as the state after segment {index} is not the one that the record names."
        if row.refused:
            return index, f"The state after segment {index} could not be had: {row.refused}"
        if row.asked_s and now > max(row.asked_s, co.started_s) + co.config.state_wait_s:
            return index, f"The state after segment {index} was not sent in time."
    return None


async def _here(co: Coordinator, case: Case, index: int) -> bool:
    row = case.segments[index]
    return row.uploaded or await holds(co, case.attempt.node_id, row.state["sha256"])


async def _is_as_signed(co: Coordinator, case: Case, index: int) -> bool:
    """Whether a state has the root that its provider signed; verifiers could not start from another one."""
    try:
        root = await asyncio.to_thread(co.root_of, co.artifacts.path(case.state_after(index).sha256))
    except BadData:
        return False
    if root != case.record(index).state_root:
        return False
    this = sa.and_(segments.c.attempt_id == case.attempt.attempt_id, segments.c.segment == index)
    async with co.store.write() as tx:
        await tx.run(sa.update(segments).where(this).values(checked=True))
    return True


async def _last_state_here(co: Coordinator, case: Case) -> bool:
    index = case.last_index
    return index not in case.needed_states() or await _here(co, case, index)


async def _pass(co: Coordinator, case: Case) -> bool:
    last = case.record(case.last_index)
    first = case.record(case.window.first_index)
    async with co.store.write() as tx:
        if not await claimed(tx, windows, case.window):
            return False
        wrong = {one.verifier for one in case.audits if one.outcome == "mismatch"}
        agreeing = [one for one in case.audits if one.outcome == "passed" and one.verifier not in wrong]
        named = case.attempt.verifier
        counts = bool(agreeing) and not await _among_friends(co, tx, case, agreeing)
        await verdicts.accept(
            tx,
            case.window,
            verifier=Counter(one.verifier for one in agreeing).most_common(1)[0][0] if named in wrong else named,
            steps_from=first.step_from,
            state_root=last.state_root,
            state=case.state_after(case.last_index),
            credit=case.attempt.provider if counts else None,
        )
        # Another kind of machine may come out elsewhere through no fault of its owner.
        for verifier in sorted(wrong) if case.way.checkers is Checkers.SAME_CLASS else ():
            await verdicts.disgrace(tx, verifier)
    return True


async def _among_friends(co: Coordinator, tx: Tx, case: Case, agreeing: Sequence[Row]) -> bool:
    """Whether the renter or a verifier seems to be the provider's owner: such work would farm a standing."""
    provider = case.attempt.node_id
    patrons = await chain_events.patrons(tx, to_checksum_address(case.job.renter))
    return bool(patrons & co.book.traits(provider)) or any(co.book.related(provider, one.node_id) for one in agreeing)


async def _convict(co: Coordinator, case: Case, verdict: Verdict, found: list[int]) -> bool:
    """A fraud or a wrong result, and what follows for verifiers who had agreed with it.

    They can't have run what they vouched for.
    """
    numeric_class, now = case.attempt.numeric_class, co.clock()
    vouched = [one for index in found for one in case.of_segment(index) if one.outcome == "passed"]
    async with co.store.write() as tx:
        if vouched and await claimed(tx, windows, case.window):
            for one in vouched:
                await verdicts.disgrace(tx, one.verifier)
                await verdicts.ban(tx, one.verifier, numeric_class, now=now)
                text = f"{one.verifier_name!r} had agreed with it, and checks no such work for 30 days."
                await job_rows.tell(tx, case.job.job_id, "audit", text, now=now, segment=one.segment)
    by_word = verdict is Verdict.WRONG_RESULT  # not signed by the provider, so nothing to take to Disputes
    convicted = await (_void(co, case, *_VOIDS[verdict]) if by_word else _fraud(co, case, found))
    await rebook(co, {case.attempt.provider, *(one.verifier for one in vouched)})
    return convicted


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
        if finding is Finding.NOT_COMPARABLE:
            undecided = sa.and_(jobs.c.job_id == case.job.job_id, jobs.c.ending == Ending.NONE)
            await change(tx, jobs, undecided, ending=Ending.FAILED, ending_text=reason)
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
