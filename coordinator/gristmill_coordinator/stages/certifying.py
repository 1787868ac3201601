"""Stage 7, certifying: a finished job's machines are asked to sign how its model came to be; then we sign it too.

The statement itself names who signs it. A machine that declines or stays away is therefore named as not signing in a
fresh statement, which the others are asked to sign again: so nobody can drop a signature later.
"""

from hashlib import sha256

import sqlalchemy as sa
import structlog

from gristmill_coordinator import certificates as readings
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.store.store import Row, change, keep
from gristmill_coordinator.store.tables import certificates
from gristmill_protocol.certificate import Asked, CertificateStatement, Envelope, signer
from gristmill_protocol.errors import BadSignature
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_ASK_AGAIN_S = 5.0
_MAX_REASON_CHARS = 300
_MAX_ASKED_BYTES = 12_000_000  # a node's stream ends at a message of 16 MiB; records of some 13,000 segments


async def step(co: Coordinator) -> int:
    """Bring certificates forward; how many moved on."""
    config = co.config
    waiting = ~certificates.c.issued
    rows = await co.store.claim(certificates, waiting, now=co.clock(), hold_s=config.claim_s, limit=config.batch)
    moved = 0
    for row in rows:
        moved += await _advance(co, row)
    return moved


async def certificate_replied(co: Coordinator, node_id: str, reply: pb.CertificateReply) -> None:
    """Keep a machine's signature, or why it gives none; of an earlier statement or another machine's, nothing."""
    async with co.store.write() as tx:
        mine = certificates.c.job_id == reply.job_id
        row = await tx.row(sa.select(certificates).where(mine, ~certificates.c.issued).with_for_update())
        if row is None or row.payload is None or sha256(row.payload.encode()).digest() != reply.statement_sha256:
            return
        asked = {one.node_id: one for one in _waited_for(row)}.get(node_id)
        if asked is None:
            logger.warning("foreign_certificate", node_id=node_id, job_id=reply.job_id)
        elif _holds(row, asked, reply.signature):
            await change(tx, certificates, mine, signatures={**row.signatures, node_id: reply.signature})
        else:
            reason = (reply.reason or "Its signature does not hold.")[:_MAX_REASON_CHARS]
            logger.warning("certificate_declined", node_id=node_id, job_id=reply.job_id, reason=reason)
            await change(tx, certificates, mine, payload=None, unsigned={**row.unsigned, node_id: reason})
        tx.wake("certifying")


async def _advance(co: Coordinator, row: Row) -> bool:
    """One of: write the statement, sign it, give a machine up, or ask again; whether it moved on."""
    now = co.clock()
    if row.payload is None:
        payload = (await readings.statement(co, row.job_id, row.unsigned)).payload().decode()
        return await _keep(co, row, payload=payload, asked_s=now, signatures={})
    waited_for = _waited_for(row)
    if not waited_for:
        return await _issue(co, row)
    wait_s = co.config.certificate_wait_s
    if now > max(row.asked_s, co.started_s) + wait_s:
        silent = {one.node_id: f"It did not answer within {wait_s:g} s." for one in waited_for}
        return await _keep(co, row, payload=None, unsigned={**row.unsigned, **silent})
    if len(row.payload) > _MAX_ASKED_BYTES:
        unasked = {one.node_id: "It was too long to be sent to it." for one in waited_for}
        return await _keep(co, row, payload=None, unsigned={**row.unsigned, **unasked})
    request = pb.CertificateRequest(job_id=row.job_id, statement=row.payload.encode())
    for one in waited_for:
        co.links.send(one.node_id, pb.CoordinatorMessage(certificate=request))
    await _keep(co, row, due_s=min(now + _ASK_AGAIN_S, now + wait_s))
    return False


async def _issue(co: Coordinator, row: Row) -> bool:
    payload = row.payload.encode()
    statement = CertificateStatement.read(payload)
    made = [row.signatures[one.node_id] for one in statement.predicate.asked if one.signed]
    signatures = zip(statement.signers(), [co.chain.sign_certificate(payload), *made], strict=True)
    envelope = Envelope.of(payload, list(signatures)).file().decode()
    logger.info("certificate_issued", job_id=row.job_id, machines=len(made), unsigned=len(row.unsigned))
    return await _keep(co, row, envelope=envelope, issued=True)


async def _keep(co: Coordinator, row: Row, *, due_s: float = 0.0, **values: object) -> bool:
    async with co.store.write() as tx:
        return await keep(tx, certificates, row, due_s=due_s, **values)


def _waited_for(row: Row) -> list[Asked]:
    asked = CertificateStatement.read(row.payload.encode()).predicate.asked
    return [one for one in asked if one.signed and one.node_id not in row.signatures]


def _holds(row: Row, asked: Asked, signature: str) -> bool:
    try:
        return bool(signature) and signer(row.payload.encode(), signature) == asked.key
    except (BadSignature, ValueError):  # ValueError: no hex
        return False
