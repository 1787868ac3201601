"""The renter's key: signs, and never leaves the process that holds it."""

from collections.abc import Iterable
from pathlib import Path

from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from gristmill_protocol.api import InfoView
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import JobSpec, JobSubmission, Order, Quote, SignedOrder, SignedStatement, Statement
from gristmill_protocol.keystore import load_key
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.signin import SignIn
from gristmill_protocol.signing import ORDER_TYPE, STATEMENT_TYPE, Domain, order_message, sign, statement_message


def ledger_domain(info: InfoView) -> Domain:
    """What orders and statements at a coordinator are signed for."""
    return Domain.ledger(info.chain_id, info.ledger)


class Wallet:
    """A hot key. What it signs has been checked before, by renter_checks."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @staticmethod
    def open(keystore: Path, password: str) -> "Wallet":
        """Raises:
        NotFound: no such file.
        WrongKey: the password does not open it.
        """
        return Wallet(load_key(keystore, password))

    @property
    def address(self) -> str:
        return str(self._account.address)

    @property
    def account(self) -> LocalAccount:
        """For what moves this key's money: gristmill_protocol.consents, and who sends its transactions."""
        return self._account

    def sign_in(self, message: SignIn) -> str:
        signed = self._account.sign_message(encode_defunct(text=message.text()))
        return "0x" + bytes(signed.signature).hex()

    def submission(
        self, quote: Quote, spec: JobSpec, *, coordinator: int, ledger: Domain, request_id: str = ""
    ) -> JobSubmission:
        """The order of a quoted job with all that may have to be paid for it, signed.

        Args:
            coordinator: the Ledger's coordinator id.
            request_id: the same again is the same order; by default ordering the same quote again is.
        """
        order = Order(
            key=self.address,
            coordinator=coordinator,
            spec_digest=quote.spec_digest,
            cap_usd_micros=quote.cap_usd_micros,
            nonce=quote.nonce,
            deadline_s=quote.deadline_s,
        )
        return JobSubmission(
            request_id=request_id or id_bytes32(quote.quote_id).hex(),
            quote_id=quote.quote_id,
            spec=spec,
            order=self.sign_order(order, ledger),
            ladder=self.sign_statements(ladder_statements(quote), ledger),
        )

    def sign_order(self, order: Order, ledger: Domain) -> SignedOrder:
        return SignedOrder(order=order, signature=sign(self._account, ledger, ORDER_TYPE, order_message(order)))

    def sign_statements(self, statements: Iterable[Statement], ledger: Domain) -> tuple[SignedStatement, ...]:
        return tuple(self.sign_statement(statement, ledger) for statement in statements)

    def sign_statement(self, statement: Statement, ledger: Domain) -> SignedStatement:
        signature = sign(self._account, ledger, STATEMENT_TYPE, statement_message(statement))
        return SignedStatement(statement=statement, signature=signature)
