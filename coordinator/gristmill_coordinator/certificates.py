"""What a job's certificate says, from the rows; and the certificate, for the renter whose job it is."""

import json
import re
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from eth_utils.address import to_checksum_address

from gristmill_coordinator import evidence, views
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import attempts, certificates, jobs, segments, windows
from gristmill_protocol.api import WindowEvidence
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.certificate import (
    Asked,
    AttemptPart,
    Certificate,
    CertificateStatement,
    DataUsed,
    Digest,
    Market,
    Payment,
    RecipeUsed,
    Subject,
    WindowPart,
)
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.errors import NotFinished, NotFound
from gristmill_protocol.evidence import ACCEPTED, made_again
from gristmill_protocol.jobs import JobSpec, JobState, JobView, Quote, StatementLine
from gristmill_protocol.modes import Mode

_LOCK = "recipe.lock"
_LOCKED = {"data_root": re.compile("[0-9a-f]{64}"), "recipe_version": re.compile("[0-9A-Za-z.+-]{1,40}")}
_MAX_LOCK_BYTES = 1_000_000


async def certificate(co: Coordinator, renter: str, job_id: str) -> bytes:
    """The signed envelope of a finished job of this renter.

    Raises:
        NotFound: no such job of this renter, or one that ended without a result.
        NotFinished: it is not done yet, or its machines are being asked to sign.
    """
    view = await views.job(co, renter, job_id)
    if view.state.ended and view.state is not JobState.DONE:
        raise NotFound("The job has no result, so it has no certificate.")
    async with co.store.read() as tx:
        envelope = await tx.value(sa.select(certificates.c.envelope).where(certificates.c.job_id == job_id))
    if envelope is None:
        why = "the job is not done" if view.state is not JobState.DONE else "the machines are being asked to sign it"
        raise NotFinished(f"There is no certificate yet: {why}.", todo="Ask again in a few seconds.")
    return bytes(envelope.encode())


async def statement(co: Coordinator, job_id: str, unsigned: Mapping[str, str]) -> CertificateStatement:
    """How a finished job's model came to be.

    Args:
        unsigned: node id -> why this machine does not sign.
    """
    async with co.store.read() as tx:
        job = (await tx.rows(sa.select(jobs).where(jobs.c.job_id == job_id)))[0]
        turns = await tx.rows(sa.select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number))
        parts = await _windows(tx, job_id)
    view = await views.job(co, job.renter, job_id)
    spec, quote = JobSpec.model_validate(job.spec), Quote.model_validate(job.quote)
    lock = _lock(co, view)
    predicate = Certificate(
        job_id=job_id,
        mode=quote.mode,
        guarantee=quote.guarantee,
        data=DataUsed(sha256=spec.data.sha256, size_bytes=spec.data.size_bytes, root=lock.get("data_root")),
        recipe=_recipe(job, quote, view, lock),
        base_model=None,
        seed=spec.seed,
        settings_sha256=sha256_json(quote.plan.settings).hex(),
        steps=job.steps,
        initial_state_root=_initial_root(parts),
        final_state_root=view.final_state_root,
        attempts=tuple(_attempt(row) for row in turns),
        windows=tuple(parts),
        slashes=view.slashes,
        payment=await _payment(co, job, view),
        market=_market(co),
        asked=_asked(turns, parts, unsigned),
        not_verified=_not_verified(quote.mode, parts),
        issued_s=int(co.clock()),
    )
    return CertificateStatement(subject=_subject(view), predicate=predicate)


def _subject(view: JobView) -> tuple[Subject, ...]:
    files = sorted((name, ref.sha256) for name, ref in view.outputs.items())
    return tuple(Subject(name=name, digest=Digest(sha256=sha256)) for name, sha256 in files)


async def _windows(tx: Tx, job_id: str) -> list[WindowPart]:
    reasons = {row.window_id: row.reason for row in await tx.rows(sa.select(windows).where(windows.c.job_id == job_id))}
    return [
        WindowPart(
            evidence=one,
            records=await _records(tx, one) if one.state in ACCEPTED else (),
            reason=reasons[one.window_id],
        )
        for one in await evidence.evidence(tx, job_id)
    ]


async def _records(tx: Tx, window: WindowEvidence) -> tuple[SignedRecord, ...]:
    query = sa.select(segments.c.signed).where(segments.c.window_id == window.window_id).order_by(segments.c.segment)
    rows = await tx.rows(query.limit(len(window.leaves)))
    return tuple(SignedRecord.model_validate(row.signed) for row in rows)


def _recipe(job: Row, quote: Quote, view: JobView, lock: Mapping[str, str]) -> RecipeUsed:
    return RecipeUsed(
        id=job.recipe,
        version=lock.get("recipe_version"),
        ledger_id=quote.recipe_id,
        lock_sha256=view.outputs[_LOCK].sha256 if _LOCK in view.outputs else None,
    )


def _initial_root(parts: Sequence[WindowPart]) -> str | None:
    return next((part.records[0].record.state_root_prev for part in parts if part.records), None)


def _attempt(row: Row) -> AttemptPart:
    return AttemptPart(
        attempt_id=row.attempt_id,
        number=row.number,
        state=row.state,
        reason=row.reason,
        provider=row.provider,
        provider_name=row.provider_name,
        node_id=row.node_id,
        node_key=to_checksum_address(row.node_key),
        device=row.device,
        sandbox=row.sandbox,
        numeric_class=row.numeric_class,
        step_from=row.step_from,
        step_to=row.step_to,
    )


async def _payment(co: Coordinator, job: Row, view: JobView) -> Payment:
    if job.settle_tx is None or view.bill is None:
        return Payment(bill=None, nonce=job.nonce, lines=())
    async with co.store.read() as tx:
        signed = await views.paid_statement(tx, job)
    lines: tuple[StatementLine, ...] = () if signed is None else signed.statement.lines
    return Payment(bill=view.bill, nonce=job.nonce, lines=lines)


def _market(co: Coordinator) -> Market:
    chain = co.chain.info
    return Market(
        chain_id=chain.chain_id,
        ledger=chain.ledger,
        registry=chain.registry,
        coordinator=chain.coordinator_id,
        operator=chain.operator,
    )


def _asked(turns: Sequence[Row], parts: Sequence[WindowPart], unsigned: Mapping[str, str]) -> tuple[Asked, ...]:
    """Each machine that did a part of what counts, once."""
    counting = {part.evidence.attempt_id for part in parts if part.records}
    counting |= {row.attempt_id for row in turns[-1:] if row.finished is not None}  # it made the files
    machines = {row.node_id: row for row in turns if row.attempt_id in counting}
    return tuple(
        Asked(
            node_id=node_id,
            key=to_checksum_address(row.node_key),
            provider=row.provider,
            signed=node_id not in unsigned,
            reason=unsigned.get(node_id, ""),
        )
        for node_id, row in machines.items()
    )


def _not_verified(mode: Mode, parts: Sequence[WindowPart]) -> tuple[str, ...]:
    total = sum(len(part.records) for part in parts)
    again = len(
        {
            (part.evidence.window_id, audit.segment)
            for part in parts
            for audit in part.evidence.audits
            if part.records and audit.outcome == "passed"
        }
    )
    sentences = []
    if mode is not Mode.BITWISE:
        sentences.append(f"Not every claim about the work was run again bit for bit: the job was checked by {mode}.")
    if again < total:
        sentences.append(f"{total - again} of {total} segments were not drawn, so nobody ran them again.")
    if mode is not Mode.BITWISE or not any(made_again(part.evidence) for part in parts):
        sentences.append("The model's files and the score in the model card were made by the provider alone.")
    return (
        *sentences,
        "That the audits came out as said is the coordinator's word: what verifiers signed is not in here.",
        "Names and devices are what the machines say of themselves.",
    )


def _lock(co: Coordinator, view: JobView) -> dict[str, str]:
    """What a machine's recipe.lock says, as far as it is well-formed; empty if there is none that can be read."""
    ref = view.outputs.get(_LOCK)
    if ref is None or ref.size_bytes > _MAX_LOCK_BYTES:
        return {}
    try:
        lock = json.loads(co.artifacts.read(ref.sha256))
    except (NotFound, ValueError):
        return {}
    if not isinstance(lock, dict):
        return {}
    return {name: str(lock[name]) for name, form in _LOCKED.items() if form.fullmatch(str(lock.get(name)))}
