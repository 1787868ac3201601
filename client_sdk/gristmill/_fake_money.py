"""The accounts of gristmill.testing: the Ledger's and the coordinator's rules about money, without a chain."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gristmill_protocol.api import AccountView, InfoView
from gristmill_protocol.errors import BadRequest, Conflict, NotFound
from gristmill_protocol.wallet import (
    WITHDRAWAL_DELAY_S,
    Authorization,
    HistoryView,
    Movement,
    RelayView,
    SignedOpening,
    SignedWithdrawal,
)

if TYPE_CHECKING:
    from gristmill_protocol.signing import Domain


@dataclass
class FakeAccount:
    """One key's money."""

    balance_usd_micros: int
    owner: str | None
    outside_usd_micros: int = 0
    withdrawing_usd_micros: int = 0
    withdrawal_at_s: int = 0
    requests: int = 0
    movements: list[Movement] = field(default_factory=list)  # oldest first


class FakeAccounts:
    """Every key's account; a key is a lower-case address.

    Args:
        opened: whether accounts are open from the start, with this balance.
    """

    def __init__(self, info: InfoView, clock: Callable[[], float], *, balance_usd_micros: int, opened: bool) -> None:
        self._info = info
        self._clock = clock
        self._balance = balance_usd_micros
        self._opened = opened
        self._accounts: dict[str, FakeAccount] = {}
        self._relays: dict[str, tuple[str, RelayView]] = {}  # id -> whose, and what became of it

    def of(self, key: str) -> FakeAccount:
        """The account, as far as time has come; a withdrawal whose delay is over is paid."""
        if key not in self._accounts:
            self._accounts[key] = FakeAccount(self._balance if self._opened else 0, key if self._opened else None)
        account = self._accounts[key]
        if account.withdrawal_at_s and self._clock() >= account.withdrawal_at_s:
            amount = min(account.withdrawing_usd_micros, account.balance_usd_micros)
            account.balance_usd_micros -= amount
            account.outside_usd_micros += amount
            account.withdrawing_usd_micros, account.withdrawal_at_s = 0, 0
            self._note(account, "withdrawal", amount)
        return account

    def view(self, key: str, *, reserved_usd_micros: int) -> AccountView:
        account = self.of(key)
        leaving = min(account.withdrawing_usd_micros, account.balance_usd_micros)
        left = account.balance_usd_micros - leaving
        return AccountView(
            key=key,
            balance_usd_micros=left,
            reserved_usd_micros=reserved_usd_micros,
            available_usd_micros=max(0, left - reserved_usd_micros),
            owner=account.owner,
            outside_usd_micros=account.outside_usd_micros,
            withdrawing_usd_micros=leaving,
            withdrawal_at_s=account.withdrawal_at_s,
            withdrawal_requests=account.requests,
            chain_time_s=int(self._clock()),
        )

    def charge(self, key: str, usd_micros: int, *, job_id: str, job_name: str) -> None:
        if not usd_micros:
            return
        account = self.of(key)
        account.balance_usd_micros -= usd_micros
        self._note(account, "payment", usd_micros, job_id=job_id, job_name=job_name)

    def open(self, key: str, by: SignedOpening) -> RelayView:
        from gristmill_protocol.signing import OPENING_TYPE, require_signer

        account = self.of(key)
        if account.owner is not None:
            raise Conflict("The account is open already.")
        message = {"key": key, "owner": by.owner, "coordinator": self._info.coordinator}
        require_signer(self._ledger(), OPENING_TYPE, message, by.signature, key)
        account.owner = by.owner
        self._note(account, "opened", 0)
        return self._relayed(key, "open", by.signature)

    def deposit(self, key: str, by: Authorization) -> RelayView:
        from eth_utils.crypto import keccak

        from gristmill_protocol.signing import RECEIVE_AUTHORIZATION_TYPE, Domain, require_signer

        account, payer, terms = self.of(key), self.of(by.payer.lower()), self._info.deposits
        assert terms is not None  # of this fake
        if account.owner is None:
            raise Conflict("The account is not open.")
        token = Domain(terms.token_name, self._info.chain_id, self._info.token, terms.token_version)
        message = {
            "from": by.payer,
            "to": terms.erc3009,
            "value": by.amount_usd_micros,
            "validAfter": by.valid_after_s,
            "validBefore": by.valid_before_s,
            "nonce": keccak(bytes.fromhex(key[2:]).rjust(32, b"\0") + bytes.fromhex(by.salt[2:])),
        }
        require_signer(token, RECEIVE_AUTHORIZATION_TYPE, message, by.signature, by.payer)
        if by.amount_usd_micros > payer.outside_usd_micros:
            raise BadRequest("The payer does not hold that much.")
        payer.outside_usd_micros -= by.amount_usd_micros
        account.balance_usd_micros += by.amount_usd_micros
        self._note(account, "deposit", by.amount_usd_micros)
        return self._relayed(key, "deposit", by.signature)

    def withdraw(self, by: SignedWithdrawal) -> RelayView:
        from gristmill_protocol.signing import WITHDRAWAL_TYPE, require_signer

        key, amount = by.key.lower(), by.amount_usd_micros
        account = self.of(key)
        if account.owner is None or by.request != account.requests:
            raise Conflict("The account is not open, or another request was made meanwhile.")
        message = {"key": by.key, "amount": amount, "request": by.request}
        require_signer(self._ledger(), WITHDRAWAL_TYPE, message, by.signature, account.owner)
        account.requests += 1
        account.withdrawing_usd_micros = amount
        account.withdrawal_at_s = int(self._clock()) + WITHDRAWAL_DELAY_S if amount else 0
        self._note(account, "withdrawal_asked" if amount else "withdrawal_cancelled", amount)
        return self._relayed(key, "request_withdrawal", by.signature)

    def relay(self, key: str, relay_id: str) -> RelayView:
        whose, view = self._relays.get(relay_id, ("", None))
        if view is None or whose != key:
            raise NotFound(f"You have handed in no {relay_id}.")
        return view.model_copy(update={"state": "done"})

    def history(self, key: str, before: str, limit: int) -> HistoryView:
        movements = self.of(key).movements
        end = int(before.split("-")[0]) if before else len(movements)
        start = max(0, end - limit)
        return HistoryView(movements=tuple(movements[start:end][::-1]), before=f"{start}-0" if start else None)

    def _relayed(self, key: str, kind: Any, signature: str) -> RelayView:
        relay_id = sha256(signature.encode()).hexdigest()
        view = RelayView(relay_id=relay_id, kind=kind, state="pending", reason="", tx=None)
        self._relays[relay_id] = (key, view)
        return view

    def _note(self, account: FakeAccount, kind: Any, usd_micros: int, **job: Any) -> None:
        tx = "0x" + sha256(f"{kind} {len(account.movements)} {self._clock()}".encode()).hexdigest()
        account.movements.append(
            Movement(kind=kind, amount_usd_micros=usd_micros, at_s=int(self._clock()), tx=tx, **job)
        )

    def _ledger(self) -> "Domain":
        from gristmill_protocol.renter_key import ledger_domain

        return ledger_domain(self._info)
