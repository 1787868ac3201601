"""The Ledger's settled batches, read back from the chain, and the proofs that Cover takes about them.

The history is the hash chain of contracts/src/libraries/TillWord.sol. Batches settled through another contract
are not seen in transactions' own data: reading past one fails.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3 import Web3
from web3.logs import DISCARD
from web3.types import TxData

from gristmill_contracts.cover import Settled
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.roles import selector
from gristmill_protocol.errors import BadSignature, Conflict, NotFound
from gristmill_protocol.signing import STATEMENT_TYPE, Domain, recover

_HEAD_BYTES, _LINE_BYTES = 75, 24


@dataclass(frozen=True)
class Batch:
    """What one settle or settleReserved transaction did."""

    coordinator: int
    data: bytes
    skips: tuple[int, ...]  # offsets of the statements that were not paid

    def entry(self) -> bytes:
        skips = bytes(32)
        for offset in self.skips:
            skips = keccak(encode(["bytes32", "uint256"], [skips, offset]))
        return keccak(encode(["uint32", "bytes32", "bytes32"], [self.coordinator, keccak(self.data), skips]))


def next_history(before: int, entry: bytes) -> int:
    return int.from_bytes(keccak(encode(["uint160", "bytes32"], [before, entry]))[12:], "big")


def offsets(data: bytes) -> Iterator[int]:
    """Where in a batch its statements start."""
    cursor = 0
    while cursor < len(data):
        yield cursor
        cursor += _HEAD_BYTES + _LINE_BYTES * int.from_bytes(data[cursor + 73 : cursor + 75], "big")


def prove(batches: Sequence[Batch], before: int, recorded: int, *, key: str, nonce: int, domain: Domain) -> Settled:
    """Where the batches settled a nonce of a key.

    Args:
        before: history before the first batch.
        recorded: digest that Cover holds, in which the proof ends.
    Raises:
        NotFound: they did not settle it, or don't lead to the digest.
    """
    settled: Settled | None = None
    later: list[bytes] = []
    history = before
    for batch in batches:
        if history == recorded:
            break
        if settled is None:
            found = next((at for at in offsets(batch.data) if _pays(batch, at, key, nonce, domain)), None)
            if found is not None:
                settled = Settled(batch.data, found, batch.skips, history, ())
        else:
            later.append(batch.entry())
        history = next_history(history, batch.entry())
    if history != recorded:
        raise NotFound("These batches do not lead to the recorded digest.")
    if settled is None:
        raise NotFound(f"These batches did not settle nonce {nonce} of {key}.")
    return Settled(settled.batch, settled.offset, settled.skips, settled.before, tuple(later))


def read_batches(w3: Web3, ledger: Ledger, first_block: int, last_block: int) -> list[Batch]:
    """Every batch settled in these blocks, in order.

    Raises:
        Conflict: the history went on by something else than transactions to the Ledger.
    """
    history = ledger.history(first_block - 1) if first_block else 0
    batches: list[Batch] = []
    for number in range(first_block, last_block + 1):
        for tx in w3.eth.get_block(number, full_transactions=True)["transactions"]:
            if not isinstance(tx, bytes) and (batch := _batch(w3, ledger, tx)):
                batches.append(batch)
                history = next_history(history, batch.entry())
    if history != ledger.history(last_block):
        raise Conflict("Batches were settled through another contract; their data takes a node that traces.")
    return batches


def _batch(w3: Web3, ledger: Ledger, tx: TxData) -> Batch | None:
    data = bytes(tx["input"])
    settles = (selector("Ledger", "settle"), selector("Ledger", "settleReserved"))
    if tx.get("to") != ledger.address or data[:4] not in settles:
        return None
    receipt = w3.eth.get_transaction_receipt(tx["hash"])
    if receipt["status"] != 1:
        return None
    _, arguments = ledger.contract.decode_function_input(data)
    # One event for each statement, in order.
    skipped = bytes.fromhex(ledger.contract.events.StatementSkipped().topic.removeprefix("0x"))
    fates = [bytes(log["topics"][0]) == skipped for log in receipt["logs"]]
    starts = list(offsets(arguments["data"]))
    skips = tuple(at for at, skip in zip(starts, fates, strict=True) if skip)
    coordinator = arguments.get("coordinator")
    if coordinator is None:  # a reserved statement: a batch of one, of its account's coordinator
        key = ledger.contract.events.StatementSettled().process_receipt(receipt, errors=DISCARD)[0]["args"]["key"]
        coordinator = ledger.account(key).coordinator
    return Batch(coordinator, arguments["data"], skips)


def _pays(batch: Batch, offset: int, key: str, nonce: int, domain: Domain) -> bool:
    raw = batch.data[offset:]
    if offset in batch.skips or int.from_bytes(raw[64:68], "big") != nonce:
        return False
    vs, count = int.from_bytes(raw[32:64], "big"), int.from_bytes(raw[73:75], "big")
    signature = raw[:32] + (vs % 2**255).to_bytes(32, "big") + bytes([27 + (vs >> 255)])
    lines = raw[_HEAD_BYTES : _HEAD_BYTES + _LINE_BYTES * count]
    message = {"nonce": nonce, "deadline": int.from_bytes(raw[68:73], "big"), "lines": lines}
    try:
        return recover(domain, STATEMENT_TYPE, message, "0x" + signature.hex()).lower() == key.lower()
    except BadSignature:
        return False
