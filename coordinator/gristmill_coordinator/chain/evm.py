"""The port on a real chain: web3's blocking calls, each in a thread and under a time limit."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3Exception

from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Award as LedgerAward
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.registry import Registry
from gristmill_coordinator.chain.port import (
    AccountState,
    Award,
    ChainInfo,
    ProviderState,
    RecipeTerms,
    TxState,
)
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.jobs import SignedStatement
from gristmill_protocol.signing import RESERVATION_TYPE, sign

# A call makes a handful of requests, each of which may be tried three times.
_CALL_TIMEOUT_S = 60.0

P = ParamSpec("P")
T = TypeVar("T")


class EvmChain:
    """Implements coordinator.chain.port.Chain."""

    def __init__(self, w3: Web3, deployment: Deployment, operator: LocalAccount) -> None:
        self.info = ChainInfo(
            deployment.chain_id,
            deployment.ledger,
            deployment.registry,
            deployment.token,
            deployment.coordinator_id,
            str(operator.address),
        )
        self._w3 = w3
        self._ledger = Ledger(w3, deployment.ledger)
        self._registry = Registry(w3, deployment.registry)
        self._start_block = deployment.start_block
        self._operator = operator
        self._sender = Sender(w3, operator)

    @staticmethod
    def connect(rpc_url: str, deployment: Deployment, operator: LocalAccount) -> "EvmChain":
        """A chain behind a node's HTTP address; no request is made yet."""
        return EvmChain(connect(rpc_url), deployment, operator)

    # Reads

    async def account(self, key: str) -> AccountState:
        account = await _in_thread(self._ledger.account, key)
        left = max(0, account.balance_usd_micros - account.pending_usd_micros)
        return AccountState(left, account.owner, account.coordinator)

    async def nonce_used(self, key: str, nonce: int) -> bool:
        return await _in_thread(self._ledger.nonce_used, key, nonce)

    async def settled(self, key: str, nonce: int) -> int | None:
        return await _in_thread(self._ledger.settled_total, key, nonce, start_block=self._start_block)

    async def provider(self, provider_id: int) -> ProviderState:
        return await _in_thread(self._provider, provider_id)

    async def recipe(self, recipe_id: int) -> RecipeTerms:
        terms = await _in_thread(self._ledger.recipe, recipe_id)
        return RecipeTerms(terms.author, terms.royalty_bps, terms.verifier_bps, active=terms.registered)

    async def tx(self, tx_hash: str) -> TxState | None:
        return await _in_thread(self._tx, tx_hash)

    async def beacon_after(self, block: int) -> bytes | None:
        return await _in_thread(self._prevrandao, block + 1)

    # Writes

    async def anchor(self, root: bytes) -> str:
        return await _in_thread(self._sender.send, self._registry.anchor(self.info.coordinator_id, root))

    async def settle(self, batch: Sequence[SignedStatement]) -> str:
        return await _in_thread(self._sender.send, self._ledger.settle(self.info.coordinator_id, batch))

    async def slash(self, provider_id: int, awards: Sequence[Award], evidence: bytes) -> str:
        taken = [LedgerAward(award.to, award.amount_usd_micros) for award in awards]
        return await _in_thread(self._sender.send, self._registry.slash(provider_id, taken, evidence))

    def sign_reservation(self, key: str, nonce: int, cap_usd_micros: int) -> str:
        message = {"key": key, "coordinator": self.info.coordinator_id, "nonce": nonce, "cap": cap_usd_micros}
        return sign(self._operator, self.info.ledger_domain, RESERVATION_TYPE, message)

    # In the thread

    def _provider(self, provider_id: int) -> ProviderState:
        stake = self._registry.stake(provider_id)
        return ProviderState(
            payout=self._ledger.payee(provider_id).payout,
            node_key=self._registry.node(provider_id).key,
            bonded_usd_micros=stake.bonded_usd_micros,
            active=self._registry.is_active(provider_id),
            unbonding_usd_micros=stake.unbonding_usd_micros,
        )

    def _tx(self, tx_hash: str) -> TxState | None:
        try:
            receipt = self._w3.eth.get_transaction_receipt(HexStr(tx_hash))
        except TransactionNotFound:
            return None
        block = receipt["blockNumber"]
        confirmations = max(1, self._w3.eth.block_number - block + 1)
        return TxState(block, receipt["status"] == 1, receipt["gasUsed"], confirmations)

    def _prevrandao(self, block: int) -> bytes | None:
        try:
            return bytes(self._w3.eth.get_block(block)["mixHash"])  # its name since EIP-4399
        except BlockNotFound:
            return None


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the blocking call gives; every failure of the node is ChainUnavailable."""
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            return await asyncio.to_thread(call, *args, **kwargs)
    except TimeoutError as err:
        raise ChainUnavailable(f"The chain's node did not answer within {_CALL_TIMEOUT_S:.0f} s.") from err
    except Web3Exception as err:
        raise ChainUnavailable(
            f"The chain's node gave an answer that makes no sense: {err}.",
            todo="Check that the deployment file belongs to this node's chain.",
        ) from err
