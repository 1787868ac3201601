"""The port on a real chain: web3's blocking calls, each in a thread and under a time limit."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from eth_utils.abi import event_abi_to_log_topic
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import BlockNotFound, ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import LogReceipt, TxParams

from gristmill_contracts.deploy import Deployment
from gristmill_contracts.disputes import Disputes
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import connect, refusal
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD, token_domain
from gristmill_coordinator.chain.port import (
    AccountState,
    AdvanceCall,
    AllowBondsCall,
    AnchorCall,
    Block,
    BondFunds,
    Call,
    ChainInfo,
    CollectCall,
    DepositCall,
    DisputeCall,
    DrawCall,
    EmptyCall,
    Fees,
    Log,
    OpenCall,
    OpenDisputeCall,
    ProviderState,
    Receipt,
    RecipeTerms,
    RequestWithdrawalCall,
    SettleCall,
    Signed,
    TooMuchGas,
    WithdrawCall,
)
from gristmill_coordinator.chain.relayed import relayed
from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol import certificate
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.jobs import Reservation
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    SEGMENT_RECORD_TYPE,
    Domain,
    reservation_message,
    sign,
    struct_hash,
)

# A call makes a handful of requests, each of which may be tried three times.
_CALL_TIMEOUT_S = 60.0
_FEE_BLOCKS = 10
_READS_AT_ONCE = 8
_ANY_AMOUNT = 2**256 - 1
_HELD_ALREADY = ("already known", "already imported", "known transaction", "alreadyknown")

P = ParamSpec("P")
T = TypeVar("T")


class EvmChain:
    """Implements coordinator.chain.port.Chain."""

    def __init__(self, w3: Web3, deployment: Deployment, operator: LocalAccount) -> None:
        self.info = ChainInfo(
            deployment.chain_id,
            deployment.ledger,
            deployment.registry,
            deployment.disputes,
            deployment.token,
            deployment.coordinator_id,
            deployment.challenger_payee,
            str(operator.address),
            deployment.start_block,
            {kind: address for kind, address in deployment.collectors.model_dump().items() if address},
        )
        self._w3 = w3
        self._ledger = Ledger(w3, deployment.ledger)
        self._registry = Registry(w3, deployment.registry)
        self._disputes = Disputes(w3, deployment.disputes)
        self._token = TestUSD(w3, deployment.token)
        self._token_domain: Domain | None = None  # read once
        self._operator = operator
        self._events = {
            (contract.address, event_abi_to_log_topic(event)): (name, contract.events[event["name"]]())
            for name, contract in (
                ("ledger", self._ledger.contract),
                ("registry", self._registry.contract),
                ("disputes", self._disputes.contract),
            )
            for event in contract.abi
            if event["type"] == "event"
        }

    @staticmethod
    def connect(rpc_url: str, deployment: Deployment, operator: LocalAccount) -> "EvmChain":
        """A chain behind a node's HTTP address; no request is made yet."""
        return EvmChain(connect(rpc_url), deployment, operator)

    # What the contracts hold

    async def account(self, key: str) -> AccountState:
        account = await _in_thread(self._ledger.account, key)
        leaving = min(account.pending_usd_micros, account.balance_usd_micros)
        return AccountState(
            account.balance_usd_micros - leaving,
            account.owner,
            account.coordinator,
            leaving,
            account.unlock_at_s,
            account.requests,
        )

    async def tokens(self, holder: str) -> int:
        return await _in_thread(self._token.balance_usd_micros, holder)

    async def token_domain(self) -> Domain:
        if self._token_domain is None:
            self._token_domain = await _in_thread(token_domain, self._w3, self.info.token)
        return self._token_domain

    async def nonce_used(self, key: str, nonce: int) -> bool:
        return await _in_thread(self._ledger.nonce_used, key, nonce)

    async def provider(self, provider_id: int) -> ProviderState:
        return await _in_thread(self._provider, provider_id)

    async def recipe(self, recipe_id: int) -> RecipeTerms:
        terms = await _in_thread(self._ledger.recipe, recipe_id)
        return RecipeTerms(terms.author, terms.royalty_bps, terms.verifier_bps, active=terms.registered)

    async def bond_funds(self, amount_usd_micros: int) -> BondFunds:
        return await _in_thread(self._bond_funds, amount_usd_micros)

    async def balances(self, keys: Sequence[str], block: int) -> list[int]:
        at_once = asyncio.Semaphore(_READS_AT_ONCE)

        async def balance(key: str) -> int:
            async with at_once:
                return await _in_thread(self._balance, key, block)

        return await asyncio.gather(*map(balance, keys))

    async def held(self, block: int) -> int:
        held = self._token.contract.functions.balanceOf(self._ledger.address)
        return int(await _in_thread(held.call, block_identifier=block))

    # Blocks

    async def chain_id(self) -> int:
        return await _in_thread(lambda: self._w3.eth.chain_id)

    async def head(self) -> Block:
        return await _in_thread(lambda: _block(self._w3.eth.get_block("latest")))

    async def block(self, number: int) -> Block | None:
        return await _in_thread(_or_none, lambda: _block(self._w3.eth.get_block(number)))

    async def logs(self, first: int, last: int) -> list[Log]:
        return await _in_thread(self._logs, first, last)

    async def beacon_after(self, block: int) -> bytes | None:
        # The header calls it mixHash, its name before EIP-4399.
        return await _in_thread(_or_none, lambda: bytes(self._w3.eth.get_block(block + 1)["mixHash"]))

    # The operator's transactions

    async def transaction_count(self, block: int | None = None) -> int:
        address = self._operator.address
        return await _in_thread(
            lambda: int(self._w3.eth.get_transaction_count(address, "latest" if block is None else block))
        )

    async def fees(self) -> Fees:
        return await _in_thread(self._fees)

    async def estimate(self, call: Call) -> int:
        return await _in_thread(self._estimate, call)

    def sign(self, call: Call, *, nonce: int, gas: int, bid: Bid) -> Signed:
        signed = self._operator.sign_transaction(
            {
                **self._call(call),
                "type": 2,
                "chainId": self.info.chain_id,
                "nonce": nonce,
                "gas": gas,
                "maxFeePerGas": bid.max_fee_wei,
                "maxPriorityFeePerGas": bid.tip_wei,
            }
        )
        return Signed(signed.hash.to_0x_hex(), bytes(signed.raw_transaction))

    async def send(self, raw: bytes) -> str:
        return await _in_thread(self._send, raw)

    async def knows(self, tx_hash: str) -> bool:
        found = await _in_thread(_or_none, lambda: self._w3.eth.get_transaction(HexStr(tx_hash)))
        return found is not None

    async def receipt(self, tx_hash: str) -> Receipt | None:
        found = await _in_thread(_or_none, lambda: self._w3.eth.get_transaction_receipt(HexStr(tx_hash)))
        if found is None:
            return None
        block_hash = found["blockHash"].to_0x_hex()
        return Receipt(found["blockNumber"], block_hash, found["status"] == 1, found["gasUsed"])

    def sign_reservation(self, reservation: Reservation) -> str:
        return sign(self._operator, self.info.ledger_domain, RESERVATION_TYPE, reservation_message(reservation))

    def sign_certificate(self, payload: bytes) -> str:
        return certificate.sign(self._operator, payload)

    # In the thread

    def _provider(self, provider_id: int) -> ProviderState:
        stake = self._registry.stake(provider_id)
        return ProviderState(
            payout=self._ledger.payee(provider_id).payout,
            node_key=self._registry.node(provider_id).key,
            bonded_usd_micros=stake.bonded_usd_micros,
            active=self._registry.is_active(provider_id),
            unbonding_usd_micros=stake.unbonding_usd_micros,
            locked_usd_micros=stake.locked_usd_micros,
        )

    def _bond_funds(self, amount_usd_micros: int) -> BondFunds:
        operator, spender = self._operator.address, self._disputes.address
        return BondFunds(
            self._disputes.bond_usd_micros(amount_usd_micros),
            self._token.balance_usd_micros(operator),
            int(self._token.contract.functions.allowance(operator, spender).call()),
            self._ledger.payee(self.info.challenger_payee).credit_usd_micros,
        )

    def _balance(self, key: str, block: int) -> int:
        return int(self._ledger.contract.functions.account(key).call(block_identifier=block)[0])

    def _logs(self, first: int, last: int) -> list[Log]:
        addresses = [self._ledger.address, self._registry.address, self._disputes.address]
        found = self._w3.eth.get_logs({"address": addresses, "fromBlock": first, "toBlock": last})
        return [log for raw in found if (log := self._log(raw)) is not None]

    def _log(self, raw: LogReceipt) -> Log | None:
        """The event; None for one that the ABI does not know."""
        known = self._events.get((raw["address"], bytes(raw["topics"][0])))
        if known is None:
            return None
        name, event = known
        return Log(
            raw["blockNumber"],
            raw["blockHash"].to_0x_hex(),
            raw["logIndex"],
            raw["transactionHash"].to_0x_hex(),
            name,
            event.event_name,
            dict(event.process_log(raw)["args"]),
        )

    def _fees(self) -> Fees:
        history = self._w3.eth.fee_history(_FEE_BLOCKS, "latest", [50])
        tips = sorted(reward[0] for reward in history["reward"] if reward[0])
        tip = tips[len(tips) // 2] if tips else self._w3.eth.max_priority_fee
        return Fees(history["baseFeePerGas"][-1], max(1, tip))

    def _estimate(self, call: Call) -> int:
        try:
            params = cast(TxParams, {**self._call(call), "from": self._operator.address})
            return int(self._w3.eth.estimate_gas(params))
        except ContractLogicError as err:
            raise refusal(err) from err
        except Web3RPCError as err:
            if "gas" in _words(err).lower():  # however the node puts it, there was not enough of it
                raise TooMuchGas(f"It needs more gas than a block has: {_words(err)}.") from err
            raise

    def _send(self, raw: bytes) -> str:
        try:
            self._w3.eth.send_raw_transaction(raw)
        except Web3RPCError as err:
            return "" if any(known in _words(err).lower() for known in _HELD_ALREADY) else _words(err)
        return ""

    def _call(self, call: Call) -> Mapping[str, Any]:
        """Where a call goes and what it says."""
        coordinator = self.info.coordinator_id
        function: ContractFunction
        match call:
            case AnchorCall():
                function = self._registry.anchor(coordinator, bytes.fromhex(call.root))
            case SettleCall():
                function = self._ledger.settle(coordinator, call.batch)
            case OpenDisputeCall() | DrawCall() | AdvanceCall() | AllowBondsCall() | CollectCall():
                function = self._of_disputes(call)
            case OpenCall() | DepositCall() | RequestWithdrawalCall() | WithdrawCall():
                function = relayed(self._ledger, self.info, call)
            case EmptyCall():
                return {"to": self._operator.address, "value": 0, "data": "0x"}
        return {"to": function.address, "value": 0, "data": function._encode_transaction_data()}

    def _of_disputes(self, call: DisputeCall) -> ContractFunction:
        match call:
            case OpenDisputeCall():
                return self._disputes.open(
                    challenger=self.info.challenger_payee,
                    provider=call.provider,
                    renter=call.renter,
                    amount_usd_micros=call.amount_usd_micros,
                    evidence=bytes.fromhex(call.evidence),
                    record=struct_hash(SEGMENT_RECORD_TYPE, call.work.record.typed()),
                    signature=call.work.signature,
                )
            case DrawCall():
                return self._disputes.draw(call.dispute)
            case AdvanceCall():
                return self._disputes.advance(call.dispute)
            case AllowBondsCall():
                return self._token.approve(self._disputes.address, _ANY_AMOUNT)
            case CollectCall():
                return self._ledger.collect(self.info.challenger_payee)


def _block(raw: Any) -> Block:
    hashes = raw["hash"].to_0x_hex(), raw["parentHash"].to_0x_hex()
    return Block(raw["number"], *hashes, at_s=raw["timestamp"], gas_limit=raw["gasLimit"])


def _words(err: Web3RPCError) -> str:
    """What the node said, without the envelope."""
    said = (err.rpc_response or {}).get("error")
    return str(said["message"] if isinstance(said, Mapping) and "message" in said else err.message)


def _or_none(read: Callable[[], T]) -> T | None:
    """What is read; None where the node has no such block or transaction."""
    try:
        return read()
    except (BlockNotFound, TransactionNotFound):
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
