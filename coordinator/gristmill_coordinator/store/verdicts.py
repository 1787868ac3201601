"""What a verdict on a window changes besides the window itself, inside the transaction of the stage that found it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gristmill_coordinator.domain.disputes import UNSERVED_AGAIN_S, Fault, Tier, tier
from gristmill_coordinator.domain.jobs import Ending
from gristmill_coordinator.domain.windows import UNJUDGED, Finding
from gristmill_coordinator.store.jobs import end_attempt, note_payable, tell
from gristmill_coordinator.store.store import Row, Tx, change, keep
from gristmill_coordinator.store.tables import attempts, audits, bans, disputes, jobs, nodes, standings, windows
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.jobs import ArtifactRef, AttemptState, WindowState

BAN_S = 30 * 86_400


@dataclass(frozen=True)
class Accusation:
    """What a provider is taken to Disputes for.

    Args:
        segment: the first that does not hold.
        documents: what shows it, as JSON: signed records, and the answers that contradict them.
    """

    fault: Fault
    segment: int
    documents: Sequence[Any]


async def void(
    tx: Tx, window: Row, finding: Finding, reason: str, *, now: float, accusation: Accusation | None = None
) -> bool:
    """Void a claimed window and what builds on it, and end its attempt; an accusation is taken to Disputes.

    False, and nothing changed, if the claim was lost.
    """
    if not await keep(tx, windows, window, state=WindowState.VOID, finding=finding, reason=reason):
        return False
    later = sa.and_(
        windows.c.attempt_id == window.attempt_id, windows.c.number > window.number, windows.c.state.in_(UNJUDGED)
    )
    follows = "It follows a window that is void."
    await change(tx, windows, later, state=WindowState.VOID, finding=Finding.DROPPED, reason=follows)
    voided = sa.select(windows.c.window_id).where(
        windows.c.attempt_id == window.attempt_id, windows.c.number >= window.number
    )
    open_audits = sa.and_(audits.c.window_id.in_(voided), audits.c.outcome == "pending")
    await change(tx, audits, open_audits, outcome="unserved")
    attempt = await tx.row(sa.select(attempts).where(attempts.c.attempt_id == window.attempt_id))
    if attempt is None:
        raise LookupError(window.attempt_id)
    await end_attempt(tx, attempt, AttemptState.FAILED, reason, now=now, code="void")
    await tell(tx, window.job_id, "audit", f"Work of {attempt.provider_name!r} does not count: {reason}", now=now)
    if accusation is not None:
        await _accuse(tx, window, attempt, reason, accusation, now=now)
    if finding is Finding.WRONG_RESULT:
        await disgrace(tx, attempt.provider)  # no Disputes: it did not sign what it handed over
    if finding is Finding.NOT_REPRODUCIBLE:
        await _give_up_if_again(tx, window)
    tx.wake("conclude", "dispatch")
    return True


async def accept(
    tx: Tx, window: Row, *, verifier: int, steps_from: int, state_root: str, state: ArtifactRef, credit: int | None
) -> bool:
    """Pass a claimed window: its steps become payable and its last state the one to go on from.

    Args:
        credit: the provider whose standing it adds to; none if nobody audited it or only friends had to do with it.
    """
    if not await keep(tx, windows, window, state=WindowState.PASSED, verifier=verifier, reason=""):
        return False
    await note_payable(tx, window.job_id)  # attempts before jobs, as in end_attempt: or the two may wait for ever
    moved = await change(
        tx,
        jobs,
        sa.and_(jobs.c.job_id == window.job_id, jobs.c.steps_accepted == steps_from),
        steps_accepted=steps_from + window.steps,
        segments_accepted=window.first_index + window.segments,
        state_root=state_root,
        state=state.model_dump(mode="json"),
    )
    if not moved:
        raise LookupError(f"window {window.window_id} does not continue its job")
    if credit is not None:
        await tx.add(standings, {"provider": credit})
        known = sa.update(standings).where(standings.c.provider == credit)
        await tx.run(known.values(clean_windows=standings.c.clean_windows + 1))
    tx.wake("conclude", "audit", "dispatch")
    return True


async def disgrace(tx: Tx, provider: int, *, frauds: int = 0) -> None:
    """Have a payee start over as unknown."""
    await tx.add(standings, {"provider": provider})
    known = sa.update(standings).where(standings.c.provider == provider)
    await tx.run(known.values(clean_windows=0, frauds=standings.c.frauds + frauds))


async def ban(tx: Tx, provider: int, numeric_class: str, *, now: float) -> None:
    """Keep a provider's machines of a numeric class from work and from checks for 30 days; the book has to be told."""
    until_s = now + BAN_S
    await tx.add(bans, {"provider": provider, "numeric_class": numeric_class, "until_s": until_s})
    its = sa.and_(bans.c.provider == provider, bans.c.numeric_class == numeric_class)
    await tx.run(sa.update(bans).where(its).values(until_s=until_s))


async def suspend(tx: Tx, provider: int, *, now: float) -> None:
    """Have a provider's machines get no work until they connect with stake that is in no dispute."""
    theirs = sa.update(nodes).where(nodes.c.provider == provider)
    await tx.run(theirs.values(bonded_usd_micros=0, changed_s=now))


async def _give_up_if_again(tx: Tx, window: Row) -> None:
    """Fail a job that did not repeat on two machines: a third would do no better, and nobody is to blame for it."""
    one = windows.c
    before = sa.and_(one.job_id == window.job_id, one.attempt_id != window.attempt_id)
    again = sa.select(one.window_id).where(before, one.finding == Finding.NOT_REPRODUCIBLE)
    if await tx.row(again.limit(1)) is None:
        return
    text = (
        "Its training does not repeat bit for bit: on two machines, work that was run again came out differently each "
        "time. Nobody was slashed. `gristmill lint` names operations that do this; or choose a weaker way of checking."
    )
    undecided = sa.and_(jobs.c.job_id == window.job_id, jobs.c.ending == Ending.NONE)
    await change(tx, jobs, undecided, ending=Ending.FAILED, ending_text=text)


async def _accuse(tx: Tx, window: Row, attempt: Row, reason: str, accusation: Accusation, *, now: float) -> None:
    """Leave the case for the disputes stage; who is accused of fraud gets no work meanwhile."""
    found = tier(accusation.fault, unserved_before=await _unserved_before(tx, attempt.provider, now))
    documents = list(accusation.documents)
    dispute = {
        "window_id": window.window_id,
        "job_id": window.job_id,
        "attempt_id": window.attempt_id,
        "segment": accusation.segment,
        "provider": attempt.provider,
        "provider_name": attempt.provider_name,
        "tier": found,
        "reason": reason,
        "documents": documents,
        "evidence": sha256_json(documents).hex(),
        "opened_s": now,
        "digests": {},
    }
    await tx.add(disputes, dispute)
    if found is Tier.FRAUD:
        await suspend(tx, attempt.provider, now=now)
    tx.wake("disputes")


async def _unserved_before(tx: Tx, provider: int, now: float) -> bool:
    one = disputes.c
    lately = sa.and_(one.provider == provider, one.tier == Tier.UNSERVED, one.opened_s > now - UNSERVED_AGAIN_S)
    return await tx.row(sa.select(one.window_id).where(lately).limit(1)) is not None
