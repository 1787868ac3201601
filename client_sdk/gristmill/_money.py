"""A renter's money: into its account, and out of it again.

The account is on chain and the renter's own. A desk carries out what is decided here: the coordinator's, which pays the
gas (_sponsored), or the renter's own way to the chain, which needs no coordinator (gristmill_contracts.own_money).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from gristmill._wording import amount_usd_micros
from gristmill_protocol.api import AccountView
from gristmill_protocol.errors import BadRequest, Conflict, NotAllowed
from gristmill_protocol.wallet import DepositTarget, HistoryView, Movement
from gristmill_protocol.wording import usd

_PAGE = 50
_NOTHING = "Nothing was signed or sent."


class Desk(Protocol):
    """Carries out; each call returns when what it did is final."""

    def signer(self) -> str:
        """The address that signs, which is the account's unless an owner acts for another key's."""

    def account(self) -> AccountView: ...
    def terms(self) -> DepositTarget: ...
    def open(self, owner: str) -> None: ...
    def deposit(self, amount_usd_micros: int) -> None: ...
    def request_withdrawal(self, account: AccountView, amount_usd_micros: int) -> None: ...
    def pay_out(self) -> None: ...
    def history(self, before: str, limit: int) -> HistoryView: ...


@dataclass(frozen=True)
class DepositPlan:
    """What a deposit will do; nothing is signed yet."""

    amount_usd_micros: int
    key: str  # whose account, and who pays
    owner: str  # who can withdraw it
    opens: bool  # the account is opened first
    target: DepositTarget
    _start: "Callable[[DepositPlan], AccountView]" = field(repr=False, compare=False)

    def start(self) -> AccountView:
        """Sign it and wait until the money is in the account.

        Raises:
            Conflict, BadRequest: it was refused; nothing moved.
            Unavailable: it is not through yet; it may still come.
        """
        return self._start(self)

    def __str__(self) -> str:
        opening = f"Open the account of {self.key} (owner: {self.owner}), and deposit" if self.opens else "Deposit"
        return (
            f"{opening} {usd(self.amount_usd_micros)} from {self.key}.\n"
            f"  token {self.target.token}\n  into Ledger {self.target.ledger}\n  gas: {self.target.gas}"
        )


class Money:
    """One key's money."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def account(self) -> AccountView:
        return self._desk.account()

    def plan_deposit(self, amount: str | float | Decimal, *, owner: str = "") -> DepositPlan:
        """What depositing so many USD would do.

        Args:
            owner: who can withdraw, if the account has to be opened; the key itself unless given. A key that is not on
                this machine is safer: whoever steals the hot key can then spend on jobs, and not take the money.
        Raises:
            BadRequest: less than the desk takes, or than the key's address holds; with where to send what is missing.
            Conflict: the account is open already, with another owner.
        """
        micros, account, target = amount_usd_micros(amount), self._desk.account(), self._desk.terms()
        _require_positive(micros)
        if micros < target.least_usd_micros:
            raise BadRequest(
                f"{usd(micros)} is less than the coordinator pays gas for.",
                effect=_NOTHING,
                todo=f"Deposit at least {usd(target.least_usd_micros)}, or pay the gas yourself with --rpc.",
            )
        if micros > account.outside_usd_micros:
            raise BadRequest(
                f"{account.key} holds {usd(account.outside_usd_micros)}, not {usd(micros)}.",
                effect=_NOTHING,
                todo=f"Send {usd(micros - account.outside_usd_micros)} more to {account.key} (token {target.token}).",
                held_usd_micros=account.outside_usd_micros,
            )
        if owner and account.owner and owner.lower() != account.owner.lower():
            raise Conflict(f"The account is open already, and its owner is {account.owner}.", effect=_NOTHING)
        owner = account.owner or owner or account.key
        return DepositPlan(micros, account.key, owner, account.owner is None, target, _start=self._deposit)

    def withdraw(self, amount: str | float | Decimal | None = None) -> AccountView:
        """Ask to withdraw so many USD, or all that the account holds; replaces what was asked for before.

        They are paid to the account's owner after 24 hours. What jobs earn until then is still paid, and jobs that
        the rest does not cover are stopped.

        Raises:
            BadRequest: the account holds less.
            NotFound, NotAllowed, Conflict: there is no account, it is another's to withdraw from, or not now.
        """
        account = self._owned()
        whole = account.balance_usd_micros + account.withdrawing_usd_micros
        micros = whole if amount is None else amount_usd_micros(amount)
        _require_positive(micros)
        if micros > whole:
            raise BadRequest(
                f"The account holds {usd(whole)}, not {usd(micros)}.",
                effect=_NOTHING,
                todo=f"Withdraw at most {usd(whole)}.",
            )
        self._desk.request_withdrawal(account, micros)
        return self._desk.account()

    def cancel_withdrawal(self) -> AccountView:
        """Take back what was asked for.

        Raises:
            Conflict: nothing was.
        """
        account = self._owned()
        _require_asked(account)
        self._desk.request_withdrawal(account, 0)
        return self._desk.account()

    def pay_out(self) -> AccountView:
        """Have a withdrawal paid whose 24 hours are over; a coordinator does that by itself.

        Raises:
            Conflict: nothing was asked for, or it is too early.
        """
        account = self._desk.account()
        _require_asked(account)
        if account.chain_time_s < account.withdrawal_at_s:
            wait_s = account.withdrawal_at_s - account.chain_time_s
            raise Conflict(f"The withdrawal can be paid in {wait_s:,} seconds.", effect=_NOTHING)
        self._desk.pay_out()
        return self._desk.account()

    def history(self) -> Iterator[Movement]:
        """What happened to the account on chain, newest first; asked for page by page."""
        before: str | None = ""
        while before is not None:
            page = self._desk.history(before, _PAGE)
            yield from page.movements
            before = page.before

    def _deposit(self, plan: DepositPlan) -> AccountView:
        if plan.opens:
            self._desk.open(plan.owner)
        self._desk.deposit(plan.amount_usd_micros)
        return self._desk.account()

    def _owned(self) -> AccountView:
        account = self._desk.account()
        if account.owner is None:
            raise Conflict("The account is not open.", effect=_NOTHING, todo="`gristmill wallet deposit` opens it.")
        if account.owner.lower() != self._desk.signer().lower():
            raise NotAllowed(
                f"Only the account's owner, {account.owner}, can withdraw from it.",
                effect=_NOTHING,
                todo=f"With the owner's key: `gristmill wallet withdraw --account {account.key} --rpc URL ...`.",
            )
        return account


def _require_positive(usd_micros: int) -> None:
    if usd_micros == 0:
        raise BadRequest("The amount is 0 USD.", effect=_NOTHING, todo='Name one like "10".')


def _require_asked(account: AccountView) -> None:
    if not account.withdrawal_at_s:
        raise Conflict("There is no withdrawal under way.", effect=_NOTHING)
