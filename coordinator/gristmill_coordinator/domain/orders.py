"""Whether an order says what was quoted, and whether its renter signed it."""

from gristmill_protocol.errors import BadRequest, BadSignature
from gristmill_protocol.jobs import JobSubmission, Quote, SignedStatement
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.signing import (
    ORDER_TYPE,
    STATEMENT_TYPE,
    Domain,
    order_message,
    require_signer,
    statement_message,
)


def require_agreed(submission: JobSubmission, quoted: Quote, *, renter: str, coordinator: int) -> None:
    """Raises:
    BadRequest: the order or its ladder is not for what was quoted.
    """
    order = submission.order.order
    agreed = (
        order.key.lower() == renter
        and order.coordinator == coordinator
        and submission.spec.digest().hex() == order.spec_digest == quoted.spec_digest
        and (order.cap_usd_micros, order.nonce, order.deadline_s)
        == (quoted.cap_usd_micros, quoted.nonce, quoted.deadline_s)
    )
    if not agreed:
        raise BadRequest(
            "The order is not for what was quoted.",
            effect="Nothing was started or charged.",
            todo="Order exactly what the quote says, or ask for a new quote.",
        )
    if tuple(signed.statement for signed in submission.ladder) != ladder_statements(quoted):
        raise BadRequest(
            "The ladder is not the quote's.",
            effect="Nothing was started or charged.",
            todo="Sign the statements that gristmill_protocol.ladder computes from the quote.",
        )


def require_signatures(submission: JobSubmission, renter: str, domain: Domain) -> None:
    """Check the order's and the whole ladder's signatures; a third of a millisecond each.

    Raises:
        BadSignature: somebody other than the renter signed.
    """
    require_signer(domain, ORDER_TYPE, order_message(submission.order.order), submission.order.signature, renter)
    for signed in submission.ladder:
        require_statement(signed, renter, domain)


def require_statement(signed: SignedStatement, renter: str, domain: Domain) -> None:
    """Raises:
    BadSignature: not the renter's 65 bytes r || s || v, as the Ledger wants them.
    """
    if len(signed.signature) != 2 + 2 * 65:
        raise BadSignature("A statement's signature must be 65 bytes.")
    require_signer(domain, STATEMENT_TYPE, statement_message(signed.statement), signed.signature, renter)
