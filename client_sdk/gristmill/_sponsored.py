"""The coordinator's desk: the renter signs, the coordinator hands in and pays the gas."""

from typing import TYPE_CHECKING, Protocol, TypeVar

from gristmill import _calls
from gristmill._session import Key
from gristmill._transport import Transport
from gristmill_protocol.api import AccountView, InfoView
from gristmill_protocol.errors import Conflict, Unavailable
from gristmill_protocol.wallet import DepositTarget, DepositTerms, HistoryView, RelayView

if TYPE_CHECKING:
    from gristmill_protocol.signing import Domain

T = TypeVar("T")

_VALID_S = 3600  # a deposit that is not handed in by then is void
_PAUSE_S = 1.0
_PATIENCE_S = 600
_DIRECT = "Pay the gas yourself: --rpc URL --deployment FILE."


class Caller(Protocol):
    """What a Client is to this desk."""

    def account(self) -> AccountView: ...
    def info(self) -> InfoView: ...
    def send(self, call: _calls.Call[T]) -> T: ...


class Sponsored:
    """Implements gristmill._money.Desk."""

    def __init__(self, client: Caller, key: Key, transport: Transport) -> None:
        self._client = client
        self._key = key
        self._transport = transport

    def signer(self) -> str:
        return self._key.address

    def account(self) -> AccountView:
        from eth_utils.address import to_checksum_address

        account = self._client.account()
        return account.model_copy(update={"key": to_checksum_address(account.key)})

    def terms(self) -> DepositTarget:
        info, least = self._client.info(), self._deposits().least_usd_micros
        return DepositTarget(ledger=info.ledger, token=info.token, least_usd_micros=least, gas=f"paid by {info.url}")

    def open(self, owner: str) -> None:
        from gristmill_protocol.consents import sign_opening

        key = self._key.wallet().account
        opening = sign_opening(key, self._ledger(), owner=owner, coordinator=self._client.info().coordinator)
        self._finish(self._client.send(_calls.open_account(opening)))

    def deposit(self, amount_usd_micros: int) -> None:
        from gristmill_protocol.consents import authorize_deposit
        from gristmill_protocol.signing import Domain

        info, terms, account = self._client.info(), self._deposits(), self.account()
        if terms.erc3009 is None:
            raise Conflict("This coordinator's stablecoin takes no deposits by one signature.", todo=_DIRECT)
        token = Domain(terms.token_name, info.chain_id, info.token, terms.token_version)
        authorization = authorize_deposit(
            self._key.wallet().account,
            token,
            terms.erc3009,
            key=account.key,
            amount_usd_micros=amount_usd_micros,
            valid_before_s=account.chain_time_s + _VALID_S,
        )
        self._finish(self._client.send(_calls.deposit(authorization)))

    def request_withdrawal(self, account: AccountView, amount_usd_micros: int) -> None:
        from gristmill_protocol.consents import sign_withdrawal

        signed = sign_withdrawal(
            self._key.wallet().account,
            self._ledger(),
            key=account.key,
            amount_usd_micros=amount_usd_micros,
            request=account.withdrawal_requests,
        )
        self._finish(self._client.send(_calls.withdraw(signed)))

    def pay_out(self) -> None:
        raise Conflict(
            "The coordinator pays withdrawals out by itself, within minutes after their 24 hours.",
            effect="Nothing was sent.",
            todo=f"If it does not: {_DIRECT}",
        )

    def history(self, before: str, limit: int) -> HistoryView:
        return self._client.send(_calls.history(before=before, limit=limit))

    def _deposits(self) -> DepositTerms:
        terms = self._client.info().deposits
        if terms is None or not terms.sponsored:
            raise Unavailable("This coordinator pays nobody's gas.", effect="Nothing was signed.", todo=_DIRECT)
        return terms

    def _ledger(self) -> "Domain":
        from gristmill_protocol.renter_key import ledger_domain

        return ledger_domain(self._client.info())

    def _finish(self, relay: RelayView) -> None:
        """Wait until what was handed in is final on chain."""
        waited_s = 0.0
        while relay.state == "pending":
            if waited_s > _PATIENCE_S:
                raise Unavailable(
                    f"It is not through after {_PATIENCE_S // 60} minutes.",
                    effect="It was handed in and may still come; nothing is done twice.",
                    todo="Look again later: `gristmill wallet history`.",
                )
            self._transport.pause(_PAUSE_S)
            waited_s += _PAUSE_S
            relay = self._client.send(_calls.relay(relay.relay_id))
        if relay.state == "failed":
            raise Conflict(relay.reason, effect="No money moved.", todo="Try again.")
