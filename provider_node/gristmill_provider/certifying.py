"""Before a node signs how a model came to be: what it says of this node's part must be what the journal says."""

from gristmill_protocol.certificate import AttemptPart, Certificate, CertificateStatement
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.money import format_usd
from gristmill_provider.journal import Journal
from gristmill_provider.owner import Market


def require_true(payload: bytes, journal: Journal, market: Market, *, node_id: str) -> None:
    """Raises:
    BadData: it is no statement of a certificate.
    BadRequest: it says something of this node's work, files or pay that is not so.
    """
    statement = CertificateStatement.read(payload)
    certificate = statement.predicate
    _require_market(certificate, market)
    mine = [attempt for attempt in certificate.attempts if attempt.node_id == node_id]
    if not mine:
        raise BadRequest("It names no attempt of this node.")
    for attempt in mine:
        _require_records(certificate, attempt, journal.made(attempt.attempt_id))
    last = certificate.attempts[-1]
    if last.node_id == node_id:
        ours = {name: digest for name, digest in journal.made(last.attempt_id).items() if name.startswith("file ")}
        if ours != {f"file {one.name}": one.digest.sha256 for one in statement.subject}:
            raise BadRequest("It names other files than this node made.")
    _require_pay(certificate, mine[0].provider, journal)


def _require_market(certificate: Certificate, market: Market) -> None:
    said = certificate.market
    where = (said.chain_id, said.ledger, said.registry, said.coordinator, said.operator)
    ours = market.ledger, market.registry
    known = (ours[0].chain_id, ours[0].contract, ours[1].contract, market.coordinator, market.operator)
    if where != known:
        raise BadRequest("It is for another market than the one this node works in.")


def _require_records(certificate: Certificate, attempt: AttemptPart, made: dict[str, str]) -> None:
    for part in certificate.windows:
        if part.evidence.attempt_id != attempt.attempt_id:
            continue
        for signed in part.records:
            if made.get(f"segment {signed.record.index}") != signed.record.leaf().hex():
                raise BadRequest(f"Segment {signed.record.index} is not what this node signed.")


def _require_pay(certificate: Certificate, provider: int, journal: Journal) -> None:
    """No less than the highest that was promised; the last rung may have been chosen without our hearing of it."""
    promised = journal.payables.of_job(certificate.job_id)
    lines = certificate.payment.lines
    paid = sum(line.amount_usd_micros for line in lines if line.provider == provider)
    if promised is not None and paid < promised.share_usd_micros:
        said, due = format_usd(paid), format_usd(promised.share_usd_micros)
        raise BadRequest(f"It says that this provider earned {said} USD; {due} USD was accepted.")
