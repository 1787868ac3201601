"""Stage 5a, commitment: windows close, their roots go on chain in one transaction, a later block draws the samples."""

import math

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import watched
from gristmill_coordinator.chain.port import AnchorCall
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain.disputes import Fault
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.domain.jobs import ACTIVE
from gristmill_coordinator.domain.modes import WAYS, Way, checks
from gristmill_coordinator.domain.sampling import samples_ppm
from gristmill_coordinator.domain.windows import Finding, Start, broken, kept
from gristmill_coordinator.stages.loop import REFUSED_AGAIN_S, each
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import verdicts
from gristmill_coordinator.store.cases import SECOND
from gristmill_coordinator.store.store import Row, Tx, claimed, keep
from gristmill_coordinator.store.tables import (
    anchors,
    attempts,
    audits,
    jobs,
    nodes,
    segments,
    transactions,
    windows,
)
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.commitments import PPM, SignedRecord, draw_seconds, draw_seed, draw_segments, window_root
from gristmill_protocol.jobs import AttemptState, JobSpec, Quote, SampleBasis, WindowState
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
        reason = f"Its records contradict one another: {why}."
        documents = [one.model_dump(mode="json") for one in signed]
        accusation = verdicts.Accusation(Fault.BROKEN, window.first_index, documents)
        return await verdicts.void(tx, window, Finding.FRAUD, reason, now=now, accusation=accusation)
    steps = records[-1].step_to - records[0].step_from
    kept_ = await keep(
        tx,
        windows,
        window,
        due_s=_epoch_end(now, co.config.anchor_every_s),
        state=WindowState.COMMITTED,
        segments=count,
        steps=steps,
        ends_job=records[-1].step_to == quote.plan.steps,
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
    attempts_ = await job_rows.by_id(tx, attempts, [row.attempt_id for row in rows])
    jobs_ = await job_rows.by_id(tx, jobs, [row.job_id for row in rows])
    clean = await job_rows.clean_windows(tx, [one.provider for one in attempts_.values()])
    for row in rows:
        attempt, job = attempts_[row.attempt_id], jobs_[row.job_id]
        way = WAYS[Quote.model_validate(job.quote).mode]
        if not way.samples:
            await _judge_as_a_whole(co, tx, row, job, beacon)
            continue
        basis = await _basis(co, tx, row, attempt, job, clean.get(attempt.provider, 0), way)
        await _draw_window(co, tx, row, beacon, basis, way)
    tx.wake("audit")
    return len(rows)


async def _judge_as_a_whole(co: Coordinator, tx: Tx, row: Row, job: Row, beacon: bytes) -> None:
    """Have a finished job replicated or measured."""
    quote = Quote.model_validate(job.quote)
    now = co.clock()
    values = {"state": WindowState.SAMPLED, "beacon": beacon.hex(), "sampled_s": now, "due_s": 0.0}
    await tx.run(sa.update(windows).where(windows.c.window_id == row.window_id).values(**values))
    if row.steps < quote.plan.steps:
        return  # only a finished job is judged; the audit stage says so
    answered = {one.why for one in await job_rows.replicas(tx, row.job_id)}
    missing = [why for why in checks(quote.mode, JobSpec.model_validate(job.spec)) if why not in answered]
    for why in missing:
        await tx.add(audits, new_audit(row, row.first_index, why))
    text = f"{len(missing)} other owners' machines are to judge the finished job."
    await job_rows.tell(tx, row.job_id, "audit", text, now=now, window_id=row.window_id)


async def _basis(
    co: Coordinator, tx: Tx, window: Row, attempt: Row, job: Row, clean_windows: int, way: Way
) -> SampleBasis:
    """What decides how much of a window is drawn. A lock counts as far as there is still a bond behind it."""
    bond = await tx.value(sa.select(nodes.c.bonded_usd_micros).where(nodes.c.node_id == attempt.node_id))
    return SampleBasis(
        price_usd_micros=attempt.price_usd_micros * window.steps // job.steps,
        lock_usd_micros=min(attempt.lock_usd_micros, bond or 0),
        clean_windows=clean_windows,
        assurance=JobSpec.model_validate(job.spec).assurance,
        second_ppm=co.config.sampling.second_ppm if way.verifiers == 1 else PPM,
    )


async def _draw_window(co: Coordinator, tx: Tx, window: Row, beacon: bytes, basis: SampleBasis, way: Way) -> None:
    drawn_ppm = way.samples * samples_ppm(basis, window.segments, co.config.sampling)
    seed = window_seed(window, beacon)
    drawn = draw_segments(
        seed,
        first_index=window.first_index,
        count=window.segments,
        samples_ppm=drawn_ppm,
        ends_job=window.ends_job,
    )
    seconds = draw_seconds(seed, drawn, second_ppm=basis.second_ppm)
    now = co.clock()
    values = {
        "state": WindowState.SAMPLED,
        "beacon": beacon.hex(),
        "sampled_s": now,
        "samples_ppm": drawn_ppm,
        "basis": basis.model_dump(mode="json"),
        "due_s": 0.0,
    }
    await tx.run(sa.update(windows).where(windows.c.window_id == window.window_id).values(**values))
    for index in drawn:
        await tx.add(audits, new_audit(window, index, _why(window, index)))
    for index in seconds:
        await tx.add(audits, new_audit(window, index, SECOND))
    names = ", ".join(map(str, drawn))
    text = f"A public random number drew {'segments' if len(drawn) > 1 else 'segment'} {names} for checking."
    if not drawn:
        text = "A public random number drew no segment of these for checking."
    await job_rows.tell(tx, window.job_id, "audit", text, now=now, window_id=window.window_id, segments=list(drawn))


def _why(window: Row, index: int) -> str:
    if index == 0:
        return "first"
    return "last" if window.ends_job and index == window.first_index + window.segments - 1 else "drawn"


def window_seed(window: Row, beacon: bytes) -> bytes:
    """The seed of all draws about a window."""
    return draw_seed(
        beacon=beacon, job_id=window.job_id, window_id=window.window_id, root=bytes.fromhex(window.root)
    )  # fmt: skip


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


def _epoch_end(now: float, every_s: float) -> float:
    """Windows become due together, at the next multiple of every_s, and so share an anchor."""
    return (math.floor(now / every_s) + 1) * every_s if every_s else 0.0


def _proof(proof: InclusionProof) -> dict[str, object]:
    siblings = [sibling.hex() for sibling in proof.siblings]
    return {"index": proof.index, "count": proof.count, "siblings": siblings}
