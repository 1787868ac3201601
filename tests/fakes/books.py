"""The Ledger's rules once more, in plain Python: what tests/contracts/test_model.py compares the bytecode with.

Written from contracts/README.md and the comments in contracts/src, and sharing no code with our bindings or signers, so
that a mistake has to be made twice to go unseen. Everything is an int, as on chain: addresses, hashes, amounts, times.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import IntEnum

from eth_utils.crypto import keccak

from fakes.books_wire import (
    Reverted,
    Statement,
    domain_separator,
    opening_hash,
    read_batch,
    read_statement,
    recover,
    reservation_hash,
    signer_or_nobody,
    statement_hash,
    unpack_compact,
    withdrawal_hash,
    word,
)

DAY_S = 86_400
MOST = 2**96 - 1  # base units that the Ledger can hold, and that a balance or an amount can be
TREASURY = 0

Outcome = tuple[int, ...]


class Skip(IntEnum):
    """Why a statement was not paid, as LedgerTypes.Skip numbers it."""

    NONE = 0
    NO_ACCOUNT = 1
    EXPIRED = 2
    NONCE_USED = 3
    UNKNOWN_RECIPE = 4
    EMPTY = 5
    UNFUNDED = 6


@dataclass
class Account:
    """A renter's account; the nonces it has spent are simply a set."""

    owner: int = 0
    coordinator: int = 0
    balance: int = 0
    pending: int = 0
    unlock_at: int = 0
    requests: int = 0
    used: set[int] = field(default_factory=set)


@dataclass
class Payee:
    payout: int
    credit: int = 0


@dataclass(frozen=True)
class Recipe:
    author: int = 0
    royalty_bps: int = 0
    verifier_bps: int = 0


class Token:
    """An ERC-20 dollar as OpenZeppelin writes it."""

    def __init__(self) -> None:
        self.balances: defaultdict[int, int] = defaultdict(int)
        self.allowances: defaultdict[tuple[int, int], int] = defaultdict(int)

    def mint(self, _caller: int, to: int, amount: int) -> Outcome:
        self.balances[to] += amount
        return ()

    def approve(self, caller: int, spender: int, amount: int) -> Outcome:
        self.allowances[caller, spender] = amount
        return (1,)

    def transfer(self, caller: int, to: int, amount: int) -> Outcome:
        if self.balances[caller] < amount:
            raise Reverted("ERC20InsufficientBalance", caller, self.balances[caller], amount)
        self.balances[caller] -= amount
        self.balances[to] += amount
        return (1,)

    def require_spendable(self, owner: int, spender: int, amount: int) -> None:
        if self.allowances[owner, spender] < amount:
            raise Reverted("ERC20InsufficientAllowance", spender, self.allowances[owner, spender], amount)
        if self.balances[owner] < amount:
            raise Reverted("ERC20InsufficientBalance", owner, self.balances[owner], amount)

    def spend(self, owner: int, spender: int, amount: int) -> None:
        """Move tokens that require_spendable let through."""
        if self.allowances[owner, spender] != 2**256 - 1:
            self.allowances[owner, spender] -= amount
        self.balances[owner] -= amount
        self.balances[spender] += amount


class Books:
    """The Ledger: methods are its functions, with the caller first, and return what those return.

    `events` holds what the last call announced: a name and the values in the order of the Solidity event.
    """

    def __init__(self, *, address: int, chain_id: int, treasury: int, admin: int, now: int) -> None:
        self.address, self.admin, self.now = address, admin, now
        self.domain = domain_separator(chain_id, address)
        self.token = Token()
        self.paused = False
        self.accounts: defaultdict[int, Account] = defaultdict(Account)
        self.payees = [Payee(treasury)]
        self.recipes = [Recipe()]  # numbered from 1
        self.operators = [0]  # of coordinators, numbered from 1
        self.former_until: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.fees = 0  # the treasury's, not yet credited to it
        self.history = 0
        self.events: list[tuple[str, tuple[int, ...]]] = []

    # Accounts

    def open(self, _caller: int, key: int, owner: int, coordinator: int, signature: bytes) -> Outcome:
        if self.paused:
            raise Reverted("Paused")
        if owner == 0:
            raise Reverted("ZeroAddress")
        if not self._operator(coordinator):
            raise Reverted("UnknownCoordinator", coordinator)
        if self.accounts[key].owner:
            raise Reverted("AlreadyOpen", key, self.accounts[key].owner)
        if recover(self.digest(opening_hash(key, owner, coordinator)), signature) != key:
            raise Reverted("NotSignedBy", key)
        self.accounts[key] = Account(owner, coordinator)
        self._announce("AccountOpened", key, owner, coordinator)
        return ()

    def deposit(self, caller: int, key: int, amount: int) -> Outcome:
        if self.paused:
            raise Reverted("Paused")
        self._require_payable(caller, amount)
        if not self.accounts[key].owner:
            raise Reverted("NotOpen", key)
        self.token.spend(caller, self.address, amount)
        self.accounts[key].balance += amount
        self._announce("Deposited", key, caller, amount)
        return ()

    def award(self, caller: int, awards: list[tuple[int, int, int]]) -> Outcome:
        total = sum(amount for _, _, amount in awards)
        self._require_payable(caller, total)
        for account, payee, _ in awards:
            if account and not self.accounts[account].owner:
                raise Reverted("NotOpen", account)
            if not account and payee >= len(self.payees):
                raise Reverted("UnknownPayee", payee)
        self.token.spend(caller, self.address, total)
        for account, payee, amount in awards:
            if account:
                self.accounts[account].balance += amount
                self._announce("Deposited", account, caller, amount)
            else:
                self.payees[payee].credit += amount
                self._announce("PayeeCredited", payee, caller, amount)
        return ()

    # Withdrawals

    def request_withdrawal(self, caller: int, key: int, amount: int) -> Outcome:
        if self.accounts[key].owner != caller:
            raise Reverted("NotOwner", key, caller)
        return self._request(key, amount)

    def request_withdrawal_signed(self, _caller: int, key: int, amount: int, signature: bytes) -> Outcome:
        account = self.accounts[key]
        signed = self.digest(withdrawal_hash(key, amount, account.requests))
        if not account.owner or signer_or_nobody(signed, signature) != account.owner:
            raise Reverted("NotSignedBy", account.owner)
        return self._request(key, amount)

    def withdraw(self, _caller: int, key: int) -> Outcome:
        account = self.accounts[key]
        if not account.unlock_at:
            raise Reverted("NothingPending", key)
        if self.now < account.unlock_at:
            raise Reverted("StillLocked", key, account.unlock_at)
        amount = min(account.pending, account.balance)
        account.balance -= amount
        account.pending = account.unlock_at = 0
        self.token.transfer(self.address, account.owner, amount)
        self._announce("Withdrawn", key, account.owner, amount)
        return (amount,)

    def _request(self, key: int, amount: int) -> Outcome:
        account = self.accounts[key]
        account.pending = amount
        account.unlock_at = self.now + DAY_S if amount else 0
        account.requests += 1
        self._announce("WithdrawalRequested", key, amount, account.unlock_at)
        return ()

    # Payees, recipes, coordinators

    def add_payee(self, _caller: int, payout: int) -> Outcome:
        if payout == 0:
            raise Reverted("ZeroAddress")
        self.payees.append(Payee(payout))
        self._announce("PayeeAdded", len(self.payees) - 1, payout)
        return (len(self.payees) - 1,)

    def set_payout(self, caller: int, payee: int, payout: int) -> Outcome:
        if payee >= len(self.payees) or self.payees[payee].payout != caller:
            raise Reverted("NotPayout", payee, caller)
        if payout == 0:
            raise Reverted("ZeroAddress")
        self.payees[payee].payout = payout
        self._announce("PayoutChanged", payee, payout)
        return ()

    def collect(self, _caller: int, payee: int) -> Outcome:
        _, amount = self.payee(payee)
        if amount == 0:
            return (0,)
        if payee == TREASURY:
            self.fees = 0
        self.payees[payee].credit = 0
        self.token.transfer(self.address, self.payees[payee].payout, amount)
        self._announce("Collected", payee, self.payees[payee].payout, amount)
        return (amount,)

    def add_recipe(self, _caller: int, author: int, royalty_bps: int, verifier_bps: int) -> Outcome:
        if author >= len(self.payees):
            raise Reverted("UnknownPayee", author)
        if royalty_bps > 500:
            raise Reverted("RateTooHigh", royalty_bps, 500)
        if verifier_bps > 2000:
            raise Reverted("RateTooHigh", verifier_bps, 2000)
        self.recipes.append(Recipe(author, royalty_bps, verifier_bps))
        self._announce("RecipeAdded", len(self.recipes) - 1, author, royalty_bps, verifier_bps)
        return (len(self.recipes) - 1,)

    def add_coordinator(self, caller: int) -> Outcome:
        self.operators.append(caller)
        self._announce("CoordinatorAdded", len(self.operators) - 1, caller)
        return (len(self.operators) - 1,)

    def set_operator(self, caller: int, coordinator: int, operator: int) -> Outcome:
        if self._operator(coordinator) != caller:
            raise Reverted("NotOperator", coordinator, caller)
        if operator == 0:
            raise Reverted("ZeroAddress")
        self.former_until[coordinator, caller] = self.now + 14 * DAY_S
        self.operators[coordinator] = operator
        self._announce("OperatorChanged", coordinator, operator)
        return ()

    # Settlement

    def settle(self, caller: int, coordinator: int, batch: bytes) -> Outcome:
        if self._operator(coordinator) != caller:
            raise Reverted("NotOperator", coordinator, caller)
        paid, skipped, skips = 0, 0, bytes(32)
        for statement in read_batch(batch):
            key = self.signer(statement)
            why, total = self._judge(key, coordinator, statement)
            if why:
                skipped += 1
                skips = keccak(skips + word(statement.offset))
                self._announce("StatementSkipped", key, statement.nonce, why)
            else:
                paid += total
                self._pay(key, statement, total)
        self._record(coordinator, batch, skips)
        return (paid, skipped)

    def settle_reserved(self, _caller: int, batch: bytes, reservation: tuple[int, ...]) -> Outcome:
        statement = read_statement(batch, 0)
        if statement.end != len(batch):
            raise Reverted("MoreThanOneStatement", len(batch) - statement.end)
        provider, cap, accepted, forced_from, _, _ = reservation
        key = self.signer(statement)
        (coordinator,) = self.require_reserved(0, key, statement.nonce, reservation)
        if self.now < forced_from:
            raise Reverted("TooEarly", forced_from)
        why, total = self._judge(key, coordinator, statement)
        if why:
            raise Reverted("StatementRejected", why)
        if total > cap:
            raise Reverted("CapExceeded", total, cap)
        given = sum(line.amount for line in statement.lines() if line.provider == provider)
        if given < accepted:
            raise Reverted("LessThanAccepted", given, accepted)
        self._pay(key, statement, total)
        self._record(coordinator, batch, bytes(32))
        return (total,)

    def require_reserved(self, _caller: int, key: int, nonce: int, reservation: tuple[int, ...]) -> Outcome:
        """The coordinator of the key's account, if its operator or a former one signed the reservation."""
        coordinator = self.accounts[key].coordinator
        *terms, r, vs = reservation
        signer = recover(self.digest(reservation_hash(key, coordinator, nonce, terms)), unpack_compact(r, vs))
        if signer != self._operator(coordinator) and self.now > self.former_until[coordinator, signer]:
            raise Reverted("NotSignedBy", self._operator(coordinator))
        return (coordinator,)

    def signer(self, statement: Statement) -> int:
        struct = statement_hash(statement.nonce, statement.deadline, statement.packed_lines)
        return signer_or_nobody(self.digest(struct), unpack_compact(statement.r, statement.vs))

    def _judge(self, key: int, coordinator: int, statement: Statement) -> tuple[Skip, int]:
        account, lines = self.accounts[key], statement.lines()
        total = sum(line.amount for line in lines)
        if account.coordinator != coordinator:
            return Skip.NO_ACCOUNT, 0
        if self.now > statement.deadline:
            return Skip.EXPIRED, 0
        if statement.nonce in account.used:
            return Skip.NONCE_USED, 0
        if any(not 0 < line.recipe < len(self.recipes) for line in lines):
            return Skip.UNKNOWN_RECIPE, 0
        if total == 0:
            return Skip.EMPTY, 0
        if total > account.balance:
            return Skip.UNFUNDED, 0
        return Skip.NONE, total

    def _pay(self, key: int, statement: Statement, total: int) -> None:
        self.accounts[key].balance -= total
        self.accounts[key].used.add(statement.nonce)
        for line in statement.lines():
            recipe = self.recipes[line.recipe]
            fee = line.amount * 100 // 10_000
            royalty = line.amount * recipe.royalty_bps // 10_000
            verifying = line.amount * recipe.verifier_bps // 10_000
            self.fees += fee
            self._credit(recipe.author, royalty)
            self._credit(line.verifier, verifying)
            self._credit(line.provider, line.amount - fee - royalty - verifying)
        self._announce("StatementSettled", key, statement.nonce, total)

    def _credit(self, payee: int, amount: int) -> None:
        self.payees[payee if payee < len(self.payees) else TREASURY].credit += amount

    def _record(self, coordinator: int, batch: bytes, skips: bytes) -> None:
        entry = keccak(word(coordinator) + keccak(batch) + skips)
        self.history = int.from_bytes(keccak(word(self.history) + entry), "big") % 2**160

    # Guard and views

    def set_paused(self, caller: int, paused: int) -> Outcome:
        if caller != self.admin:
            raise Reverted("AccessManagedUnauthorized", caller)
        self.paused = bool(paused)
        self._announce("PausedSet", paused)
        return ()

    def account(self, key: int) -> Outcome:
        found = self.accounts[key]
        return (found.balance, found.pending, found.unlock_at, found.coordinator, found.requests, found.owner)

    def payee(self, payee: int) -> Outcome:
        if payee >= len(self.payees):
            return (0, 0)
        found = self.payees[payee]
        return (found.payout, found.credit + (self.fees if payee == TREASURY else 0))

    def recipe(self, recipe: int) -> Outcome:
        if not 0 < recipe < len(self.recipes):
            return (0, 0, 0, 0)
        found = self.recipes[recipe]
        return (found.author, found.royalty_bps, found.verifier_bps, 1)

    def digest(self, struct_hash: bytes) -> bytes:
        return keccak(b"\x19\x01" + self.domain + struct_hash)

    def _operator(self, coordinator: int) -> int:
        return self.operators[coordinator] if coordinator < len(self.operators) else 0

    def _require_payable(self, caller: int, amount: int) -> None:
        self.token.require_spendable(caller, self.address, amount)
        held = self.token.balances[self.address] + amount
        if held > MOST:
            raise Reverted("TokenTooLarge", held)

    def _announce(self, name: str, *values: int) -> None:
        self.events.append((name, values))
