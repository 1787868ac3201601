"""What only the chain can say of a certificate or a draw, asked of a node over JSON-RPC; no library of the chain's."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import httpx
from eth_utils.crypto import keccak

from gristmill_protocol.api import WindowEvidence
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.evidence import Finding, held, name_of, note, wrong

if TYPE_CHECKING:
    from gristmill_protocol.certificate import Market, Payment

_TIMEOUT_S = 20.0
_ANCHORED = "0x" + keccak(text="Anchored(uint32,bytes32)").hex()
_SETTLED = "0x" + keccak(text="StatementSettled(address,uint256,uint256)").hex()
_OPERATOR_OF = "0x" + keccak(text="operatorOf(uint256)")[:4].hex()


class ChainFacts:
    """A node of the chain.

    Args:
        wire: what carries the requests instead of the network; for tests.
    """

    def __init__(self, rpc_url: str, *, wire: httpx.BaseTransport | None = None) -> None:
        self._url = rpc_url
        self._http = httpx.Client(transport=wire, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def check_market(self, market: "Market") -> Iterator[Finding]:
        """Whether the node is of the certificate's chain, and who is the coordinator's operator there now."""
        yield self.check_chain(market.chain_id)
        call = {"to": market.ledger, "data": f"{_OPERATOR_OF}{market.coordinator:064x}"}
        answer = str(self._ask("eth_call", call, "latest"))
        operator = f"0x{answer[-40:]}"
        yield held(
            operator == market.operator.lower(),
            f"On chain, the operator of coordinator {market.coordinator} is {market.operator}.",
            f"On chain, the operator of coordinator {market.coordinator} is {operator}, not {market.operator}.",
        )

    def check_chain(self, chain_id: int) -> Finding:
        found = int(str(self._ask("eth_chainId")), 16)
        return held(found == chain_id, f"The node is of chain {chain_id}.", f"The node is of chain {found}.")

    def check_anchor(self, window: WindowEvidence, *, registry: str, coordinator: int) -> Iterator[Finding]:
        """Whether the window's root was anchored when it is said to be, and the beacon is of the block after that.

        Only the root's first anchor counts, so that nobody anchors it again until the draw suits.
        """
        name = name_of(window)
        if window.anchor_root is None or window.anchor_tx is None:
            yield note(f"{name}: it is not anchored yet.")
            return
        topics = [_ANCHORED, f"0x{coordinator:064x}", "0x" + window.anchor_root]
        asked = {"address": registry, "topics": topics, "fromBlock": "earliest", "toBlock": "latest"}
        logs: Any = self._ask("eth_getLogs", asked)
        if not logs:
            yield wrong(f"{name}: the chain knows no anchor of the root {window.anchor_root[:12]}….")
            return
        first = min(logs, key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))
        yield held(
            first["transactionHash"] == window.anchor_tx,
            f"{name}: the chain has its anchor, transaction {window.anchor_tx}.",
            f"{name}: its root was anchored first by {first['transactionHash']}, not by {window.anchor_tx}.",
        )
        if window.beacon is None:
            return
        block: Any = self._ask("eth_getBlockByNumber", hex(int(first["blockNumber"], 16) + 1), False)
        beacon = str((block or {}).get("mixHash"))
        yield held(
            beacon == "0x" + window.beacon,
            f"{name}: its beacon is the random number of the block after its anchor.",
            f"{name}: the block after its anchor has the random number {beacon}, not 0x{window.beacon}.",
        )

    def check_payment(self, payment: "Payment", market: "Market") -> Iterator[Finding]:
        if payment.bill is None or payment.bill.settle_tx is None:
            return
        tx, paid = payment.bill.settle_tx, payment.bill.paid_usd_micros
        receipt: Any = self._ask("eth_getTransactionReceipt", tx) or {"logs": []}
        found = [
            log
            for log in receipt["logs"]
            if log["address"].lower() == market.ledger.lower()
            and log["topics"][0] == _SETTLED
            and int(log["topics"][2], 16) == payment.nonce
            and int(log["data"], 16) == paid
        ]
        yield held(
            bool(found),
            f"The chain has the payment, transaction {tx}.",
            f"The chain knows no such payment in the transaction {tx}.",
        )

    def _ask(self, method: str, *params: object) -> object:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = self._http.post(self._url, json=body).raise_for_status().json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as err:
            raise ChainUnavailable(
                f"The chain's node at {self._url} does not answer: {err}.",
                effect="The check was not finished.",
                todo="Check that the node runs and that its address is right.",
            ) from err
        if not isinstance(answer, dict) or "result" not in answer:
            said = answer.get("error") if isinstance(answer, dict) else answer
            raise ChainUnavailable(
                f"The chain's node refused {method}: {said}.",
                effect="The check was not finished.",
                todo="Use a node that serves old logs.",
            )
        return answer["result"]
