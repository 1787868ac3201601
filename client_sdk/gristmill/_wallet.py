"""The renter's key: signs, and never leaves this process."""

import secrets
from collections.abc import Iterable
from pathlib import Path

from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from gristmill_protocol.api import InfoView
from gristmill_protocol.jobs import Order, SignedOrder, SignedStatement, Statement
from gristmill_protocol.keystore import load_key
from gristmill_protocol.signin import SignIn
from gristmill_protocol.signing import (
    OPENING_TYPE,
    ORDER_TYPE,
    RECEIVE_AUTHORIZATION_TYPE,
    STATEMENT_TYPE,
    WITHDRAWAL_TYPE,
    Domain,
    order_message,
    sign,
    statement_message,
)
from gristmill_protocol.wallet import Authorization, SignedOpening, SignedWithdrawal


def ledger_domain(info: InfoView) -> Domain:
    """What orders and statements at a coordinator are signed for."""
    return Domain.ledger(info.chain_id, info.ledger)


class Wallet:
    """A hot key. What it signs has been checked before, by gristmill._checks."""

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
        """For who sends transactions of this key."""
        return self._account

    def sign_in(self, message: SignIn) -> str:
        signed = self._account.sign_message(encode_defunct(text=message.text()))
        return "0x" + bytes(signed.signature).hex()

    def sign_opening(self, ledger: Domain, *, owner: str, coordinator: int) -> SignedOpening:
        """Consent to an account of this key, from which only owner can withdraw."""
        message = {"key": self.address, "owner": owner, "coordinator": coordinator}
        return SignedOpening(owner=owner, signature=sign(self._account, ledger, OPENING_TYPE, message))

    def authorize_deposit(
        self, token: Domain, collector: str, *, key: str, amount_usd_micros: int, valid_before_s: int
    ) -> Authorization:
        """Consent to a payment of this key's tokens into the account of a key, through the collector and no other."""
        salt = secrets.token_bytes(32)
        message = {
            "from": self.address,
            "to": collector,
            "value": amount_usd_micros,
            "validAfter": 0,
            "validBefore": valid_before_s,
            "nonce": keccak(bytes.fromhex(key[2:]).rjust(32, b"\0") + salt),  # abi.encode(address, bytes32)
        }
        return Authorization(
            payer=self.address,
            amount_usd_micros=amount_usd_micros,
            valid_after_s=0,
            valid_before_s=valid_before_s,
            salt="0x" + salt.hex(),
            signature=sign(self._account, token, RECEIVE_AUTHORIZATION_TYPE, message),
        )

    def sign_withdrawal(self, ledger: Domain, *, key: str, amount_usd_micros: int, request: int) -> SignedWithdrawal:
        """Ask, as the owner of a key's account, to withdraw."""
        message = {"key": key, "amount": amount_usd_micros, "request": request}
        signature = sign(self._account, ledger, WITHDRAWAL_TYPE, message)
        return SignedWithdrawal(key=key, amount_usd_micros=amount_usd_micros, request=request, signature=signature)

    def sign_order(self, order: Order, ledger: Domain) -> SignedOrder:
        return SignedOrder(order=order, signature=sign(self._account, ledger, ORDER_TYPE, order_message(order)))

    def sign_statements(self, statements: Iterable[Statement], ledger: Domain) -> tuple[SignedStatement, ...]:
        return tuple(self.sign_statement(statement, ledger) for statement in statements)

    def sign_statement(self, statement: Statement, ledger: Domain) -> SignedStatement:
        signature = sign(self._account, ledger, STATEMENT_TYPE, statement_message(statement))
        return SignedStatement(statement=statement, signature=signature)
