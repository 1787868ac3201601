"""The committed bytecode of the Ledger and TestUSD in pyrevm, called and read in the model's terms (fakes/books.py)."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pyrevm
from eth_utils.crypto import keccak

from fakes.books import Account, Books, Outcome
from fakes.books_wire import word
from gristmill_contracts.artifacts import artifact

CHAIN_ID = 1  # pyrevm's

TOKEN_FUNCTIONS = {
    "mint": "mint(address,uint256)",
    "approve": "approve(address,uint256)",
    "transfer": "transfer(address,uint256)",
}
LEDGER_FUNCTIONS = {
    "open": "open(address,address,uint32,bytes)",
    "deposit": "deposit(address,uint256)",
    "award": "award((address,uint32,uint96)[])",
    "request_withdrawal": "requestWithdrawal(address,uint96)",
    "request_withdrawal_signed": "requestWithdrawal(address,uint96,bytes)",
    "withdraw": "withdraw(address)",
    "add_payee": "addPayee(address)",
    "set_payout": "setPayout(uint32,address)",
    "collect": "collect(uint32)",
    "add_recipe": "addRecipe(uint32,uint16,uint16)",
    "add_coordinator": "addCoordinator()",
    "set_operator": "setOperator(uint32,address)",
    "settle": "settle(uint32,bytes)",
    "settle_reserved": "settleReserved(bytes,(uint32,uint96,uint96,uint40,bytes32,bytes32))",
    "set_paused": "setPaused(bool)",
}
LEDGER_VIEWS = {
    "require_reserved": "requireReserved(address,uint32,(uint32,uint96,uint96,uint40,bytes32,bytes32))",
    "account": "account(address)",
    "payee": "payee(uint32)",
    "recipe": "recipe(uint32)",
    "nonce_used": "nonceUsed(address,uint32)",
    "history": "history()",
    "domain_separator": "domainSeparator()",
}
# Where a batch starts in the call's data: the Ledger counts from the front of that, the model from the batch's own.
BATCH_AT = {"settle": 4 + 3 * 32, "settle_reserved": 4 + 8 * 32}

# Storage of the Ledger, as in contracts/src/Ledger.sol after the authority (0) and EIP712's two strings (1, 2).
COUNTS, ACCOUNTS, ARCHIVE, OWNERS, PAYEES, RECIPES, OPERATORS, FORMER, TILL = range(3, 12)
TOKEN_BALANCES, TOKEN_ALLOWANCES = 0, 1

Argument = int | bytes | tuple[int, ...] | list[tuple[int, ...]]


class Bytecode:
    """A fresh chain with AccessManager, TestUSD and Ledger; the deployer is the admin."""

    def __init__(self, *, admin: int, treasury: int, now: int) -> None:
        self.evm = pyrevm.EVM(spec_id="PRAGUE")
        self.set_time(now)
        manager = self._deploy("AccessManager", admin, admin)
        self.token = self._deploy("TestUSD", admin)
        self.ledger = self._deploy("Ledger", admin, int(self.token, 16), treasury, int(manager, 16))

    def set_time(self, now: int) -> None:
        self.evm.set_block_env(pyrevm.BlockEnv(timestamp=now))

    def call(self, function: str, caller: int, *arguments: Argument) -> tuple[str, Outcome]:
        """What a call came to: "ok" and the values returned, or the custom error's name and values."""
        on_token = function in TOKEN_FUNCTIONS
        data = selector(SIGNATURES[function]) + encode(arguments)
        try:
            returned = self.evm.message_call(hex_of(caller), self.token if on_token else self.ledger, calldata=data)
        except RuntimeError as err:
            name, values = custom_error(err)
            if name == "TruncatedStatement":
                values = (values[0] - BATCH_AT[function],)
            return name, values
        return "ok", words(returned)

    def events(self) -> list[tuple[str, Outcome]]:
        """What the Ledger announced in the last call."""
        logs = self.evm.result.logs if self.evm.result else []
        found = []
        for log in logs:
            if int(log.address, 16) == int(self.ledger, 16):
                (topic, *indexed), rest = log.data
                found.append((_events()[topic], words(b"".join(indexed) + rest)))
        return found

    def differences(self, books: Books, people: Sequence[int], nonces: Sequence[int]) -> list[str]:
        """Storage slots that don't hold what the model says."""
        held = [
            *((self.ledger, *expected) for expected in ledger_slots(books, people, nonces)),
            *((self.token, *expected) for expected in token_slots(books, people)),
        ]
        return [
            f"{what}: {hex(found)}, by the model {hex(expected)}"
            for contract, what, slot, expected in held
            if (found := self.evm.storage(contract, slot)) != expected
        ]

    def _deploy(self, name: str, admin: int, *arguments: int) -> str:
        return self.evm.deploy(hex_of(admin), _creation_code(name) + b"".join(map(word, arguments)))


def ledger_slots(books: Books, people: Sequence[int], nonces: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """(what, slot, value) of everything that the Ledger stores, with the slots around it that must be empty."""
    counts = (len(books.payees), len(books.recipes) - 1, len(books.operators) - 1)
    yield "counts", COUNTS, books.paused | counts[0] << 8 | counts[1] << 40 | counts[2] << 72
    yield "till", TILL, books.fees | books.history << 96
    for key in people:
        yield from _account_slots(key, books.accounts[key], {nonce >> 6 for nonce in nonces})
    for id_ in range(len(books.payees) + 1):
        payout, credit = (books.payees[id_].payout, books.payees[id_].credit) if id_ < len(books.payees) else (0, 0)
        yield f"payee {id_}", slot(id_, PAYEES), credit | payout << 96
    for id_ in range(len(books.recipes) + 1):
        author, royalty, verifying, registered = books.recipe(id_)
        packed = author | royalty << 32 | verifying << 48 | registered << 64
        yield f"recipe {id_}", slot(id_, RECIPES), packed
    for id_ in range(len(books.operators) + 1):
        yield f"operator {id_}", slot(id_, OPERATORS), (*books.operators, 0)[id_]
        for person in people:
            until = books.former_until[id_, person]
            yield f"former operator {id_} {person:#x}", slot(person, slot(id_, FORMER)), until


def _account_slots(key: int, account: Account, archived: set[int]) -> Iterator[tuple[str, int, int]]:
    hot = max((nonce >> 6 for nonce in account.used), default=0)
    bits = dict.fromkeys(archived | {hot}, 0)
    for nonce in account.used:
        bits[nonce >> 6] = bits.get(nonce >> 6, 0) | 1 << nonce % 64
    packed = account.balance | bits.pop(hot) << 96 | hot << 160 | account.coordinator << 192
    yield f"account {key:#x}", slot(key, ACCOUNTS), packed
    for number, used in bits.items():
        yield f"archive {key:#x} {number}", slot(number, slot(key, ARCHIVE)), used
    at = slot(key, OWNERS)
    yield f"owner {key:#x}", at, account.owner | account.pending << 160
    yield f"request {key:#x}", at + 1, account.unlock_at | account.requests << 40


def token_slots(books: Books, people: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    for person in (*people, books.address):
        yield f"tokens of {person:#x}", slot(person, TOKEN_BALANCES), books.token.balances[person]
        allowed = books.token.allowances[person, books.address]
        yield f"approval of {person:#x}", slot(books.address, slot(person, TOKEN_ALLOWANCES)), allowed


def custom_error(err: RuntimeError) -> tuple[str, Outcome]:
    """The error in pyrevm's text of a revert; anything else than a known custom error is raised on."""
    output = re.fullmatch(r"Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}", str(err))
    data = bytes.fromhex(output[1]) if output else b""
    names = error_names("Ledger", "TestUSD")
    if data[:4] not in names:
        raise err
    return names[data[:4]], words(data[4:])


@cache
def error_names(*contracts: str) -> dict[bytes, str]:
    """Custom errors of the contracts by selector."""
    entries = [entry for contract in contracts for entry in _entries(contract, "error")]
    return {selector(_signature(entry)): entry["name"] for entry in entries}


def functions(contract: str) -> dict[str, bool]:
    """Its functions' signatures, and whether each changes anything."""
    changing = ("nonpayable", "payable")
    return {_signature(entry): entry["stateMutability"] in changing for entry in _entries(contract, "function")}


@cache
def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def encode(arguments: Sequence[Argument]) -> bytes:
    """Solidity's ABI for the few shapes that are needed: words, structs of words, bytes, lists of such structs."""
    heads = [b"".join(map(word, a)) if isinstance(a, tuple) else word(0) for a in arguments]
    tail_at, tail = len(b"".join(heads)), b""
    for index, argument in enumerate(arguments):
        if isinstance(argument, int):
            heads[index] = word(argument)
        elif not isinstance(argument, tuple):
            heads[index] = word(tail_at + len(tail))
            tail += word(len(argument)) + _body(argument)
    return b"".join(heads) + tail


def _body(argument: bytes | list[tuple[int, ...]]) -> bytes:
    if isinstance(argument, bytes):
        return argument + bytes(-len(argument) % 32)
    return b"".join(word(value) for struct in argument for value in struct)


def words(data: bytes) -> Outcome:
    assert len(data) % 32 == 0, data.hex()
    return tuple(int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32))


@cache
def slot(key: int, mapping: int) -> int:
    """Where a mapping at a slot keeps a key's value."""
    return int.from_bytes(keccak(word(key) + word(mapping)), "big")


@cache
def hex_of(address: int) -> str:
    return f"0x{address:040x}"


@cache
def _events() -> dict[bytes, str]:
    return {bytes(keccak(text=_signature(entry))): entry["name"] for entry in _entries("Ledger", "event")}


@cache
def _creation_code(name: str) -> bytes:
    return bytes.fromhex(artifact(name).bytecode[2:])


def _entries(name: str, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in artifact(name).abi if entry["type"] == kind]


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(map(_type, entry['inputs']))})"


def _type(part: dict[str, Any]) -> str:
    """As it stands in a signature: a struct's parts in brackets."""
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    return f"({','.join(map(_type, part['components']))}){part['type'].removeprefix('tuple')}"


SIGNATURES = TOKEN_FUNCTIONS | LEDGER_FUNCTIONS | LEDGER_VIEWS
