"""A renter's own way to its money on chain: no coordinator, and the key pays its own gas."""

from collections.abc import Callable
from pathlib import Path

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import EventData

from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, block_spans, connect
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.api import AccountView
from gristmill_protocol.consents import sign_opening
from gristmill_protocol.errors import BadSettings
from gristmill_protocol.wallet import DepositTarget, HistoryView, Movement

_EVENTS = {
    "AccountOpened": "opened",
    "Deposited": "deposit",
    "StatementSettled": "payment",
    "WithdrawalRequested": "withdrawal_asked",
    "Withdrawn": "withdrawal",
}


class OwnMoney:
    """Implements gristmill._money.Desk.

    Args:
        account: the address that names it.
        signer: of the key, which is the same unless an owner acts for another key's account.
        key: opens the key, when something has to be signed.
        deployment: the deployment.json that the coordinator's operator published.
    Raises:
        NotFound, BadSettings: that file is missing or wrong, or the node is of another chain.
        ChainUnavailable: the node does not answer.
    """

    def __init__(
        self, signer: str, key: Callable[[], LocalAccount], rpc_url: str, deployment: Path, *, account: str = ""
    ) -> None:
        self._signer = signer
        self._address = Web3.to_checksum_address(account or signer)
        self._key = key
        self._deployment = Deployment.load(deployment)
        self._w3 = connect(rpc_url)
        self._ledger = Ledger(self._w3, self._deployment.ledger)
        self._token = TestUSD(self._w3, self._deployment.token)
        found = self._w3.eth.chain_id
        if found != self._deployment.chain_id:
            raise BadSettings(
                f"{rpc_url} is a node of chain {found}; the deployment is on chain {self._deployment.chain_id}.",
                effect="Nothing was signed.",
                todo="Name a node of that chain.",
            )

    def signer(self) -> str:
        return self._signer

    def account(self) -> AccountView:
        key = self._address
        account = self._ledger.account(key)
        leaving = min(account.pending_usd_micros, account.balance_usd_micros)
        left = account.balance_usd_micros - leaving
        return AccountView(
            key=key,
            balance_usd_micros=left,
            reserved_usd_micros=0,  # the chain knows of no reservations
            available_usd_micros=left,
            owner=account.owner if int(account.owner, 16) else None,
            outside_usd_micros=self._token.balance_usd_micros(key),
            withdrawing_usd_micros=leaving,
            withdrawal_at_s=account.unlock_at_s,
            withdrawal_requests=account.requests,
            chain_time_s=self._w3.eth.get_block("latest")["timestamp"],
        )

    def terms(self) -> DepositTarget:
        return DepositTarget(
            ledger=self._ledger.address, token=self._token.address, least_usd_micros=0, gas="paid by your key"
        )

    def open(self, owner: str) -> None:
        key, coordinator = self._key(), self._deployment.coordinator_id
        opening = sign_opening(key, self._ledger.domain(), owner=owner, coordinator=coordinator)
        self._sender().run(self._ledger.open(key.address, opening, coordinator=coordinator))

    def deposit(self, amount_usd_micros: int) -> None:
        sender = self._sender()
        sender.run(self._token.approve(self._ledger.address, amount_usd_micros))
        sender.run(self._ledger.deposit(sender.address, amount_usd_micros))

    def request_withdrawal(self, account: AccountView, amount_usd_micros: int) -> None:
        self._sender().run(self._ledger.request_withdrawal(account.key, amount_usd_micros))

    def pay_out(self) -> None:
        self._sender().run(self._ledger.withdraw(self._address))

    def history(self, before: str, limit: int) -> HistoryView:
        """All that the chain holds, whatever the limit: a node that was asked once may be asked for the rest too."""
        found: list[tuple[int, int, Movement]] = []
        last = self._w3.eth.block_number
        for span in block_spans(self._deployment.start_block, last):
            for name in _EVENTS:
                found += self._movements(name, *span)
        newest_first = sorted(found, key=lambda one: one[:2], reverse=True)
        return HistoryView(movements=tuple(movement for *_, movement in newest_first), before=None)

    def _movements(self, name: str, first: int, last: int) -> list[tuple[int, int, Movement]]:
        event = self._ledger.contract.events[name]()
        logs = event.get_logs(argument_filters={"key": self._address}, from_block=first, to_block=last)
        return [(log["blockNumber"], log["logIndex"], self._movement(name, log)) for log in logs]

    def _movement(self, name: str, log: EventData) -> Movement:
        args, kind = log["args"], _EVENTS[name]
        if name == "Deposited" and args["from"] == self._deployment.registry:
            kind = "award"
        if name == "WithdrawalRequested" and not args["unlockAt"]:
            kind = "withdrawal_cancelled"
        return Movement.model_validate(
            {
                "kind": kind,
                "amount_usd_micros": args.get("amount", args.get("total", 0)),
                "at_s": self._w3.eth.get_block(log["blockNumber"])["timestamp"],
                "tx": log["transactionHash"].to_0x_hex(),
            }
        )

    def _sender(self) -> Sender:
        return Sender(self._w3, self._key())
