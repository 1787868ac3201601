"""The EVM node: one connection, one way to send, and plain words when either fails."""

import json
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import requests
from eth_abi.abi import decode
from eth_account.signers.local import LocalAccount
from eth_typing import ABIError, HexStr
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import HTTPProvider, Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import BadResponseFormat, ContractLogicError, Web3RPCError
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration
from web3.types import RPCEndpoint, RPCResponse, TxReceipt

from gristmill_contracts.artifacts import PUBLISHED, artifact
from gristmill_protocol.errors import ChainUnavailable, Conflict

_RETRIES = 3
_READS = [method for method in REQUEST_RETRY_ALLOWLIST if method != "eth_sendRawTransaction"]
_POLL_S = 0.05
_LOG_BLOCKS = 10_000  # what nodes commonly let one query of logs span


class Node(HTTPProvider):
    """An HTTP connection that says ChainUnavailable whatever breaks; reads are tried three times."""

    def __init__(self, rpc_url: str, timeout_s: float) -> None:
        retry = ExceptionRetryConfiguration(
            errors=(requests.ConnectionError, requests.Timeout, requests.HTTPError),
            retries=_RETRIES,
            backoff_factor=0.1,
            method_allowlist=_READS,
        )
        super().__init__(rpc_url, request_kwargs={"timeout": timeout_s}, exception_retry_configuration=retry)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            return super().make_request(method, params)
        except (requests.RequestException, BadResponseFormat, json.JSONDecodeError) as err:
            raise ChainUnavailable(
                f"The chain's node at {self.endpoint_uri} does not answer.",
                effect="Nothing was lost; what is due on chain waits.",
                todo="Check that the node runs and that its address is right.",
            ) from err


def connect(rpc_url: str, *, timeout_s: float = 10.0) -> Web3:
    """A connection to a node; no request is made yet."""
    return Web3(Node(rpc_url, timeout_s))


def block_spans(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks that a node answers a query of logs about, newest first."""
    while last >= first:
        yield max(first, last - _LOG_BLOCKS + 1), last
        last -= _LOG_BLOCKS


class Sender:
    """Signs and sends the transactions of one key, one after the other, from any thread.

    The next nonce is asked of the node each time, so that a restart or another process with this key does no harm.
    """

    def __init__(self, w3: Web3, account: LocalAccount) -> None:
        self.w3 = w3
        self.account = account
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return str(self.account.address)

    def send(self, call: ContractFunction | ContractConstructor) -> str:
        """Send a call with live gas and fees; gives its hash without waiting for a block.

        Raises:
            Conflict: the contract refuses it, with the contract's own reason.
            ChainUnavailable: the node refuses it, or cannot be reached.
        """
        with self._lock:
            try:
                nonce = self.w3.eth.get_transaction_count(self.account.address, "pending")
                tx = call.build_transaction({"from": self.account.address, "nonce": nonce})
                tx["gas"] = tx["gas"] * 5 // 4  # what it costs may rise before it is in a block
                signed = self.account.sign_transaction(cast("dict[str, Any]", tx))
                return self.w3.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()
            except ContractLogicError as err:
                raise refusal(err) from err
            except Web3RPCError as err:
                raise ChainUnavailable(
                    f"The chain's node refused a transaction of {self.address}: {err.message}.",
                    effect="Nothing was sent.",
                    todo="Check that this address has enough to pay for gas.",
                ) from err

    def run(self, call: ContractFunction | ContractConstructor, *, timeout_s: float = 120.0) -> TxReceipt:
        """Send a call and wait until it is in a block.

        Raises:
            Conflict: it reverted.
            ChainUnavailable: as send(), or no block held it in time.
        """
        tx_hash = self.send(call)
        try:
            receipt = self.w3.eth.wait_for_transaction_receipt(HexStr(tx_hash), timeout=timeout_s, poll_latency=_POLL_S)
        except TimeoutError as err:
            raise ChainUnavailable(f"Transaction {tx_hash} is in no block after {timeout_s:.0f} s.") from err
        if receipt["status"] != 1:
            raise Conflict(f"Transaction {tx_hash} reverted.")
        return receipt


def refusal(err: ContractLogicError) -> Conflict:
    """A contract's revert in its own words, for a call that was not sent."""
    return Conflict(f"The contract refused: {_reason(err)}.", effect="Nothing was sent.")


def _reason(err: ContractLogicError) -> str:
    """The contract's error as it stands in the source: NotOpen(key=0x12...)."""
    data = err.data if isinstance(err.data, str) else ""
    known = _errors().get(data[:10])
    if known is None:
        return str(err.message or data or "no reason given")
    values = decode([item["type"] for item in known["inputs"]], bytes.fromhex(data[10:]))
    shown = [f"{item['name']}={_shown(value)}" for item, value in zip(known["inputs"], values, strict=True)]
    return f"{known['name']}({', '.join(shown)})"


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


@cache
def _errors() -> dict[str, dict[str, Any]]:
    """Selector -> ABI entry of every error that our contracts may raise."""
    entries = [item for name in PUBLISHED for item in artifact(name).abi if item["type"] == "error"]
    return {"0x" + function_abi_to_4byte_selector(cast(ABIError, entry)).hex(): entry for entry in entries}
