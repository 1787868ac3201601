"""Stage 5a, commitment: windows close, their roots go on chain in one transaction, a later block draws the samples."""

import math
from collections.abc import Sequence

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import watched
from gristmill_coordinator.chain.port import AnchorCall
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.domain.jobs import ACTIVE
from gristmill_coordinator.domain.windows import Finding, Start, broken, kept, samples
from gristmill_coordinator.stages.loop import REFUSED_AGAIN_S, each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.store import Row, Tx, claimed, keep
from gristmill_coordinator.store.tables import (
    anchors,
    attempts,
    audits,
    jobs,
    segments,
    standings,
    transactions,
    windows,
)
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import SignedRecord, draw_segments, window_root
from gristmill_protocol.jobs import AttemptState, Quote, WindowState
from gristmill_protocol.merkle import InclusionProof, merkle_root, prove

_AGAIN_S = 1.0


async def step(co: Coordinator) -> int:
    """Close windows, have their roots anchored, draw samples; how many of these moved on."""
    return await _close(co) + await _gather(co) + await _draw(co)


async def _close(co: Coordinator) -> int:
    """OPEN -> COMMITTED, for windows that are full or whose attempt has ended; a window waits for the one before."""
    config = co.config
    before = windows.alias()
    open_before = sa.exists().where(
        before.c.attempt_id == windows.c.attempt_id,
        before.c.number == windows.c.number - 1,
        before.c.state == WindowState.OPEN,
    )
    mine = attempts.c.attempt_id == windows.c.attempt_id
    ended = sa.exists().where(mine, attempts.c.state.not_in(ACTIVE))
    # The job's last segment counts only together with its result, so its window waits for the attempt's end.
    midway = sa.exists().where(mine, attempts.c.job_id == jobs.c.job_id, attempts.c.step_to < jobs.c.steps)
    held = sa.select(sa.func.count()).where(segments.c.window_id == windows.c.window_id).scalar_subquery()
    full = sa.and_(held >= windows.c.capacity, midway)
    where = sa.and_(windows.c.state == WindowState.OPEN, ~open_before, sa.or_(ended, full))
    rows = await co.store.claim(windows, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    closed = 0
    if rows:
        async with co.store.write() as tx:
            for row in rows:
                closed += await _close_one(co, tx, row)
    return closed


async def _close_one(co: Coordinator, tx: Tx, window: Row) -> bool:
    attempt = (await job_rows.by_id(tx, attempts, [window.attempt_id]))[window.attempt_id]
    quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == window.job_id)))
    mine = sa.select(segments).where(segments.c.window_id == window.window_id).order_by(segments.c.segment)
    found = await tx.rows(mine)
    ended = None if attempt.state in ACTIVE else AttemptState(attempt.state)
    count = kept([row.uploaded for row in found], ended)
    if ended is not AttemptState.FINISHED and count and _ends_job(found[count - 1], quote):
        count -= 1
    start = await _start(tx, window, attempt)
    now = co.clock()
    if count == 0 or start is None:
        reason = "The states of these segments were lost with the machine."
        return await verdicts.void(tx, window, Finding.DROPPED, reason, now=now)
    signed = [SignedRecord.model_validate(row.signed) for row in found[:count]]
    records = [one.record for one in signed]
    why = broken(start, records, quote.plan)
    if why is not None:
        evidence = sha256_json([one.model_dump(mode="json") for one in signed]).hex()
        reason = f"Its records contradict one another: {why}."
        return await verdicts.void(
            tx, window, Finding.FRAUD, reason, now=now, proof=verdicts.Proof((), evidence)
        )  # fmt: skip
    steps = records[-1].step_to - records[0].step_from
    kept_ = await keep(
        tx,
        windows,
        window,
        due_s=_epoch_end(now, co.config.anchor_every_s),
        state=WindowState.COMMITTED,
        segments=count,
        steps=steps,
        root=window_root(records).hex(),
    )
    if kept_:
        text = f"{count} segments of {attempt.provider_name!r} are committed and wait for the draw."
        await job_rows.tell(tx, window.job_id, "audit", text, now=now, window_id=window.window_id)
    return kept_


def _ends_job(segment: Row, quote: Quote) -> bool:
    return SignedRecord.model_validate(segment.signed).record.step_to == quote.plan.steps


async def _start(tx: Tx, window: Row, attempt: Row) -> Start | None:
    """Where the window has to begin; None if what it would build on is not there."""
    if window.number == 0:
        return Start(attempt.segment_from, attempt.step_from, attempt.state_root)
    where = sa.and_(windows.c.attempt_id == window.attempt_id, windows.c.number == window.number - 1)
    before = await tx.row(sa.select(windows).where(where))
    if before is None or before.state == WindowState.VOID:
        return None
    if before.first_index + before.segments != window.first_index:
        return None
    last = sa.and_(segments.c.attempt_id == window.attempt_id, segments.c.segment == window.first_index - 1)
    record = SignedRecord.model_validate(await tx.value(sa.select(segments.c.signed).where(last))).record
    return Start(window.first_index, record.step_to, record.state_root)


async def _gather(co: Coordinator) -> int:
    """One anchor for all windows of an epoch, whatever their number; each keeps its inclusion proof."""
    config = co.config
    where = sa.and_(windows.c.state == WindowState.COMMITTED, windows.c.anchor_id.is_(None))
    rows = await co.store.claim(windows, where, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    if not rows:
        return 0
    leaves = [bytes.fromhex(row.root) for row in rows]
    anchor_id = co.new_id("anchor")
    async with co.store.write() as tx:
        root = merkle_root(leaves).hex()
        transaction_id = await submit(co, tx, AnchorCall(root=root))
        await tx.run(sa.insert(anchors).values(anchor_id=anchor_id, root=root, transaction_id=transaction_id))
        for index, row in enumerate(rows):
            await keep(tx, windows, row, anchor_id=anchor_id, proof=_proof(prove(leaves, index)))
    return len(rows)


async def _draw(co: Coordinator) -> int:
    """COMMITTED -> SAMPLED, by the randomness of the block after the anchor's: nobody knew it when they committed."""
    sent = transactions.c
    beacon_is_final = sa.and_(sent.outcome == Outcome.SUCCEEDED, sent.block + co.config.confirmations <= watched())
    failed = sent.outcome.not_in((Outcome.PENDING, Outcome.SUCCEEDED))
    known = sa.exists().where(sent.transaction_id == anchors.c.transaction_id, sa.or_(beacon_is_final, failed))
    where = sa.and_(anchors.c.beacon.is_(None), sa.or_(anchors.c.transaction_id.is_(None), known))
    rows = await co.store.claim(anchors, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    return await each(co, anchors, rows, _draw_one)


async def _draw_one(co: Coordinator, row: Row) -> int:
    """Draw the samples of an anchor's windows, or have its root anchored anew; how many windows."""
    async with co.store.read() as tx:
        sent = (await job_rows.by_id(tx, transactions, [row.transaction_id])).get(row.transaction_id)
    anchored = sent is not None and sent.outcome == Outcome.SUCCEEDED
    beacon = await co.chain.beacon_after(sent.block) if sent is not None and anchored else None
    async with co.store.write() as tx:
        if beacon is not None:
            return await _draw_all(co, tx, row, beacon)
        if anchored:
            await keep(tx, anchors, row, due_s=co.clock() + _AGAIN_S)
        elif sent is not None:
            await keep(tx, anchors, row, due_s=co.clock() + REFUSED_AGAIN_S, transaction_id=None)
        elif await claimed(tx, anchors, row):
            await keep(tx, anchors, row, transaction_id=await submit(co, tx, AnchorCall(root=row.root)))
    return 0


async def _draw_all(co: Coordinator, tx: Tx, anchor: Row, beacon: bytes) -> int:
    if not await keep(tx, anchors, anchor, beacon=beacon.hex()):
        return 0
    waiting = sa.and_(windows.c.anchor_id == anchor.anchor_id, windows.c.state == WindowState.COMMITTED)
    rows = await tx.rows(sa.select(windows).where(waiting))
    clean = await _clean_windows(tx, rows)
    for row in rows:
        drawn = draw_segments(
            beacon=beacon,
            job_id=row.job_id,
            window_id=row.window_id,
            root=bytes.fromhex(row.root),
            first_index=row.first_index,
            count=row.segments,
            samples=samples(
                clean_windows=clean.get(row.attempt_id, 0),
                known_after=co.config.known_after_windows,
                new=co.config.samples_new,
                known=co.config.samples_known,
            ),
        )
        now = co.clock()
        values = {"state": WindowState.SAMPLED, "beacon": beacon.hex(), "sampled_s": now, "due_s": 0.0}
        await tx.run(sa.update(windows).where(windows.c.window_id == row.window_id).values(**values))
        for index in drawn:
            await tx.add(audits, new_audit(row, index, "first" if index == 0 else "drawn"))
        names = ", ".join(map(str, drawn))
        text = f"A public random number drew {'segment' if len(drawn) == 1 else 'segments'} {names} for checking."
        await job_rows.tell(tx, row.job_id, "audit", text, now=now, window_id=row.window_id, segments=list(drawn))
    tx.wake("audit")
    return len(rows)


def new_audit(window: Row, segment: int, why: str) -> dict[str, object]:
    """The row of an audit; its id follows from what it is about, so that it is made once."""
    digest = sha256_json([window.window_id, segment, why]).hex()[:24]
    return {
        "audit_id": f"audit_{digest}",
        "job_id": window.job_id,
        "window_id": window.window_id,
        "attempt_id": window.attempt_id,
        "segment": segment,
        "why": why,
        "refused": {},
    }


async def _clean_windows(tx: Tx, rows: Sequence[Row]) -> dict[str, int]:
    query = (
        sa.select(attempts.c.attempt_id, standings.c.clean_windows)
        .join(standings, standings.c.provider == attempts.c.provider)
        .where(attempts.c.attempt_id.in_([row.attempt_id for row in rows]))
    )
    return {row[0]: row[1] for row in await tx.rows(query)}


def _epoch_end(now: float, every_s: float) -> float:
    """Windows become due together, at the next multiple of every_s, and so share an anchor."""
    return (math.floor(now / every_s) + 1) * every_s if every_s else 0.0


def _proof(proof: InclusionProof) -> dict[str, object]:
    siblings = [sibling.hex() for sibling in proof.siblings]
    return {"index": proof.index, "count": proof.count, "siblings": siblings}
