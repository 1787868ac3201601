"""Random calls of the Ledger, made of its bytecode and of the model alike (tests/contracts/test_model.py)."""

from collections import Counter
from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fakes.books import DAY_S, MOST, TREASURY, Account, Books, Outcome, Skip

# isort: off
# fmt: off
from fakes.books_drafts import (
    ADDRESSES, ADMIN, BY_ADDRESS, KEYS, NONCES, PEOPLE, POOR, SIGNERS, UNLIMITED, Draft, Terms, anybody,
    coordinators, doubtful_terms, drafts, ids, keys, mostly, people, sound_drafts, sound_terms, sums, terms,
)
# fmt: on
# isort: on
from fakes.books_evm import CHAIN_ID, SIGNATURES, Argument, Bytecode
from fakes.books_signers import SPOILT, Signer
from fakes.books_wire import (
    Reverted,
    opening_hash,
    read_batch,
    read_statement,
    reservation_hash,
    statement_hash,
    withdrawal_hash,
    word,
)

START = 1_900_000_000


class Side:
    """Both implementations, called alike and compared after every call."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()  # how often each function came to what
        self.bytecode = Bytecode(admin=ADMIN.address, treasury=PEOPLE[0].address, now=START)
        self.books = Books(
            address=int(self.bytecode.ledger, 16),
            chain_id=CHAIN_ID,
            treasury=PEOPLE[0].address,
            admin=ADMIN.address,
            now=START,
        )

    def call(self, function: str, caller: int, *arguments: Argument) -> tuple[str, Outcome]:
        self.books.events.clear()
        expected = self._by_the_model(function, caller, *arguments)

        found = self.bytecode.call(function, caller, *arguments)

        assert found == expected, f"{SIGNATURES[function]} came to {found}, by the model to {expected}"
        assert self.bytecode.events() == self.books.events
        assert self.bytecode.differences(self.books, ADDRESSES, NONCES) == []
        self._count(function, found, arguments)
        return found

    def _by_the_model(self, function: str, caller: int, *arguments: Argument) -> tuple[str, Outcome]:
        owner = self.books if hasattr(self.books, function) else self.books.token
        try:
            return "ok", getattr(owner, function)(caller, *arguments)
        except Reverted as err:
            return err.error, err.values

    def _count(self, function: str, found: tuple[str, Outcome], arguments: tuple[Argument, ...]) -> None:
        name, values = found
        self.seen[function, "called"] += 1
        self.seen[function, f"StatementRejected {Skip(values[0]).name}" if name == "StatementRejected" else name] += 1
        settled = set()
        for event, (key, nonce, *rest) in self.books.events if function.startswith("settle") else ():
            if event == "StatementSkipped":
                self.seen[function, f"skipped {Skip(rest[0]).name}"] += 1
            else:
                settled.add((key, nonce))
                self.seen[function, "paid"] += 1
                self.seen[function, "paid more than 2^90"] += rest[0] > 2**90
                self.seen[function, "paid by a late nonce"] += nonce >> 6 < max(self.books.accounts[key].used) >> 6
        for batch in arguments if settled else ():
            for statement in read_batch(batch) if isinstance(batch, bytes) else ():
                strange = any(line.provider >= len(self.books.payees) for line in statement.lines())
                paid = (self.books.signer(statement), statement.nonce) in settled
                self.seen[function, "paid an unknown payee"] += strange and paid


class BooksMachine(RuleBasedStateMachine):
    """Calls what callers may try, at random or as its methods are called.

    Attributes:
        all_seen: over all random runs, what they came to.
    """

    all_seen: ClassVar[Counter[tuple[str, str]]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.side = Side()
        self.books = self.side.books
        self.ledger = self.books.address
        self.sent: list[tuple[int, bytes]] = []

    @initialize()
    def set_up(self) -> None:
        for signer in (ADMIN, *SIGNERS):
            self.side.call("mint", signer.address, signer.address, 500 if signer.address == POOR else 2**97)
            self.side.call("approve", signer.address, self.ledger, 10**6 if signer.address == POOR else UNLIMITED)
        for person in PEOPLE[1:4]:
            self.side.call("add_payee", person.address, person.address)
        for coordinator, person in enumerate(PEOPLE[:2], 1):
            self.side.call("add_coordinator", person.address)
            self.side.call("add_recipe", person.address, coordinator + 1, 333 * coordinator % 500, 1999)
        for index, signer in enumerate(KEYS[:3]):
            self.open_account(signer.address, PEOPLE[2 + index % 2].address, 1, "", signer)
            self.side.call("deposit", PEOPLE[3].address, signer.address, 10**6 + index)
        self.side.seen.clear()

    def teardown(self) -> None:
        self.all_seen.update(self.side.seen)

    # The world

    @rule(seconds=st.sampled_from([0, 1, 60, 3599, 3600, DAY_S - 1, DAY_S, 14 * DAY_S, 14 * DAY_S + 1]))
    def time_passes(self, seconds: int) -> None:
        self.books.now += seconds
        self.side.bytecode.set_time(self.books.now)

    @rule(paused=mostly(0, 1, times=2), caller=mostly(ADMIN.address, PEOPLE[0].address, times=3))
    def set_paused(self, paused: int, caller: int) -> None:
        self.side.call("set_paused", caller, paused)

    @rule(caller=anybody, amount=st.sampled_from([0, 1, 10**6, UNLIMITED]))
    def approve(self, caller: int, amount: int) -> None:
        self.side.call("approve", caller, self.ledger, amount)

    @rule(caller=anybody, amount=st.integers(0, 1000))
    def donate(self, caller: int, amount: int) -> None:
        self.side.call("transfer", caller, self.ledger, amount)

    # Accounts

    @rule(
        key=st.sampled_from(KEYS),
        owner=people | st.sampled_from([0, -1]),
        coordinator=coordinators,
        signer=mostly(None, *PEOPLE[:2], times=8),
    )
    def open(self, key: Signer, owner: int, coordinator: int, signer: Signer | None) -> None:
        self.open_account(key.address, self.ledger if owner == -1 else owner, coordinator, "", signer or key)

    @rule(key=st.sampled_from(KEYS[3:]), spoilt=st.sampled_from(SPOILT))
    def open_badly(self, key: Signer, spoilt: str) -> None:
        self.open_account(key.address, POOR, 1, spoilt, key)

    def open_account(self, key: int, owner: int, coordinator: int, spoilt: str, signer: Signer) -> None:
        digest = self.books.digest(opening_hash(key, owner, coordinator))
        signature = signer.sign(digest, spoilt).full(spoilt)
        self.side.call("open", PEOPLE[4].address, key, owner, coordinator, signature)

    @rule(caller=anybody, key=anybody | keys, amount=sums)
    def deposit(self, caller: int, key: int, amount: int | str) -> None:
        self.side.call("deposit", caller, key, self._room(amount))

    @rule(key=st.sampled_from(KEYS[:3]))
    def fill(self, key: Signer) -> None:
        self.side.call("deposit", PEOPLE[1].address, key.address, self._room("all"))

    @rule(caller=people, awards=st.lists(st.tuples(keys | st.just(0), st.integers(0, 5), sums), max_size=3))
    def award(self, caller: int, awards: list[tuple[int, int, int | str]]) -> None:
        given = [(account, payee, self._room(amount) % 2**96) for account, payee, amount in awards]
        self.side.call("award", caller, given)

    def _room(self, amount: int | str) -> int:
        """An amount to pay in: all or one more than the Ledger can still hold."""
        room = MOST - self.books.token.balances[self.ledger]
        return amount if isinstance(amount, int) else max(room, 0) + (amount == "over")

    # Withdrawals

    @rule(key=anybody | keys, amount=sums, caller=mostly(None, *ADDRESSES[:3], times=12))
    def request_withdrawal(self, key: int, amount: int | str, caller: int | None) -> None:
        account = self.books.accounts[key]
        self.side.call("request_withdrawal", caller or _able(account.owner), key, _part(account, amount))

    @rule(
        key=keys,
        amount=sums,
        request=mostly(0, 1, -1),
        signer=mostly(None, *PEOPLE[:2], times=12),
        spoilt=mostly("", *SPOILT, times=30),
    )
    def request_signed(self, key: int, amount: int | str, request: int, signer: Signer | None, spoilt: str) -> None:
        account = self.books.accounts[key]
        asked = _part(account, amount)
        signer = signer or BY_ADDRESS.get(account.owner, ADMIN)
        digest = self.books.digest(withdrawal_hash(key, asked, max(account.requests + request, 0)))
        signature = signer.sign(digest, spoilt).full(spoilt)
        self.side.call("request_withdrawal_signed", POOR, key, asked, signature)

    @rule(key=anybody | keys, on_time=mostly(False, True, times=1))
    def withdraw(self, key: int, on_time: bool) -> None:
        account = self.books.accounts[key]
        if on_time:
            self.time_passes(max(account.unlock_at - self.books.now, 0))
        pending = account.pending
        outcome, values = self.side.call("withdraw", POOR, key)
        if outcome == "ok" and values[0] < pending:
            self.side.seen["withdraw", "paid what was left"] += 1

    @rule(key=keys, amount=sums)
    def withdraw_in_time(self, key: int, amount: int | str) -> None:
        self.request_withdrawal(key, amount, None)
        self.withdraw(key, True)

    # Payees, recipes, coordinators

    @rule(payout=people | st.sampled_from([0, -1]))
    def add_payee(self, payout: int) -> None:
        if len(self.books.payees) < 9:
            self.side.call("add_payee", POOR, self.ledger if payout == -1 else payout)

    @rule(payee=ids, payout=people | st.sampled_from([0, -1]), caller=mostly(None, *ADDRESSES[:3]))
    def set_payout(self, payee: int, payout: int, caller: int | None) -> None:
        caller = caller or _able(self.books.payee(payee)[0])
        self.side.call("set_payout", caller, payee, self.ledger if payout == -1 else payout)

    @rule(payee=ids | st.just(TREASURY))
    def collect(self, payee: int) -> None:
        if payee == TREASURY and self.books.fees:
            self.side.seen["collect", "paid the fees"] += 1
        self.side.call("collect", POOR, payee)

    @rule(
        author=ids,
        royalty_bps=st.integers(0, 500) | st.sampled_from([500, 501, 2**16 - 1]),
        verifier_bps=st.integers(0, 2000) | st.sampled_from([2000, 2001, 2**16 - 1]),
    )
    def add_recipe(self, author: int, royalty_bps: int, verifier_bps: int) -> None:
        self.side.call("add_recipe", POOR, author, royalty_bps, verifier_bps)

    @rule(caller=people)
    def add_coordinator(self, caller: int) -> None:
        if len(self.books.operators) < 5:
            self.side.call("add_coordinator", caller)

    @rule(coordinator=coordinators, operator=people | st.sampled_from([0, -1]), caller=mostly(None, *ADDRESSES[:3]))
    def set_operator(self, coordinator: int, operator: int, caller: int | None) -> None:
        caller = caller or self._operator(coordinator).address
        self.side.call("set_operator", caller, coordinator, self.ledger if operator == -1 else operator)

    # Settlement

    @rule(draft=sound_drafts)
    def settle_one(self, draft: Draft) -> None:
        self._settle(None, 1, self._written(draft))

    @rule(batch=st.lists(drafts, min_size=1, max_size=4), caller=mostly(None, *PEOPLE[:2], times=12))
    def settle(self, batch: list[Draft], caller: Signer | None) -> None:
        coordinator = self.books.accounts[KEYS[batch[0].key].address].coordinator or 1
        self._settle(caller, coordinator, b"".join(map(self._written, batch)))

    @rule(
        batch=st.lists(drafts, min_size=1, max_size=2),
        damage=st.sampled_from(["cut", "insert", "change", "append"]),
        at=st.integers(0, 300),
        junk=st.binary(min_size=1, max_size=8),
        coordinator=coordinators,
    )
    def settle_damaged(self, batch: list[Draft], damage: str, at: int, junk: bytes, coordinator: int) -> None:
        whole = b"".join(map(self._written, batch))
        at %= len(whole)
        damaged = {
            "cut": whole[:at],
            "insert": whole[:at] + junk + whole[at:],
            "change": whole[:at] + junk + whole[at + len(junk) :],
            "append": whole + junk,
        }[damage]
        self._settle(None, coordinator, damaged)

    @rule(batch=st.binary(max_size=200), coordinator=coordinators)
    def settle_garbage(self, batch: bytes, coordinator: int) -> None:
        self._settle(None, coordinator, batch)

    @rule(back=st.integers(0, 5), also=st.none() | drafts)
    def settle_again(self, back: int, also: Draft | None) -> None:
        if self.sent:
            coordinator, batch = self.sent[-1 - back % len(self.sent)]
            self._settle(None, coordinator, (self._written(also) if also else b"") + batch)

    @rule(draft=sound_drafts, terms=doubtful_terms)
    def settle_reserved_doubtfully(self, draft: Draft, terms: Terms) -> None:
        statement = self._written(draft)
        self.side.call("settle_reserved", POOR, statement, self._reservation(statement, terms))

    @rule(draft=drafts, terms=sound_terms, surplus=mostly(b"", b"\0", bytes(75), times=20))
    def settle_reserved(self, draft: Draft, terms: Terms, surplus: bytes) -> None:
        statement = self._written(draft)
        reservation = self._reservation(statement, terms)
        outcome, _ = self.side.call("settle_reserved", POOR, statement + surplus, reservation)
        coordinator = self.books.accounts[KEYS[draft.key].address].coordinator
        former = self._reserver(coordinator, terms.signer) is not self._operator(coordinator)
        self.side.seen["settle_reserved", "ok by a former operator"] += outcome == "ok" and former

    @rule(draft=sound_drafts, terms=sound_terms, operator=people)
    def settle_reserved_after_a_rotation(self, draft: Draft, terms: Terms, operator: int) -> None:
        coordinator = self.books.accounts[KEYS[draft.key].address].coordinator
        self.set_operator(coordinator, operator, None)
        self.settle_reserved(draft, replace(terms, signer="former"), b"")

    @rule(draft=drafts, terms=terms, cut=st.integers(1, 80))
    def settle_reserved_cut(self, draft: Draft, terms: Terms, cut: int) -> None:
        statement = self._written(draft)
        self.side.call("settle_reserved", POOR, statement[:-cut], self._reservation(statement, terms))

    @rule(draft=drafts, terms=terms)
    def require_reserved(self, draft: Draft, terms: Terms) -> None:
        reservation = self._reservation(self._written(draft), terms)
        self.side.call("require_reserved", POOR, KEYS[draft.key].address, draft.nonce, reservation)

    @rule(key=keys, id_=ids, nonce=st.sampled_from(NONCES))
    def look(self, key: int, id_: int, nonce: int) -> None:
        books, call = self.books, self.side.bytecode.call

        assert call("account", POOR, key) == ("ok", books.account(key))
        assert call("payee", POOR, id_) == ("ok", books.payee(id_))
        assert call("recipe", POOR, id_) == ("ok", books.recipe(id_))
        assert call("nonce_used", POOR, key, nonce) == ("ok", (nonce in books.accounts[key].used,))
        assert call("history", POOR) == ("ok", (books.history,))
        assert call("domain_separator", POOR) == ("ok", (int.from_bytes(books.domain, "big"),))

    def _settle(self, caller: Signer | None, coordinator: int, batch: bytes) -> None:
        sender = caller or self._operator(coordinator)
        outcome, _ = self.side.call("settle", sender.address, coordinator, batch)
        if outcome == "ok":
            self.sent.append((coordinator, batch))

    def _operator(self, coordinator: int) -> Signer:
        operators = [*self.books.operators, *([0] * 9)]
        return BY_ADDRESS.get(operators[coordinator], PEOPLE[4])

    def _written(self, draft: Draft) -> bytes:
        """The statement's wire form, signed."""
        signer = KEYS[draft.key]
        deadline = min(max(self.books.now + draft.seconds_left, 0), 2**40 - 1)
        account = self.books.accounts[signer.address]
        lines = b"".join(
            b"".join(id_.to_bytes(4, "big") for id_ in ids) + _part(account, amount).to_bytes(12, "big")
            for *ids, amount in draft.lines
        )
        digest = self.books.digest(statement_hash(draft.nonce, deadline, lines))
        r, vs = signer.sign(digest, draft.spoilt).compact()
        head = draft.nonce.to_bytes(4, "big") + deadline.to_bytes(5, "big") + len(draft.lines).to_bytes(2, "big")
        return word(r) + word(vs) + head + lines

    def _reservation(self, batch: bytes, terms: Terms) -> tuple[int, ...]:
        statement = read_statement(batch, 0)
        lines = statement.lines()
        key = self.books.signer(statement)
        coordinator = self.books.accounts[key].coordinator
        provider = lines[0].provider if terms.provider is None and lines else terms.provider or 0
        given = sum(line.amount for line in lines if line.provider == provider)
        promised = [
            provider,
            min(max(sum(line.amount for line in lines) + terms.spare, 0), MOST),
            min(max(given + terms.missing, 0), MOST),
            min(max(self.books.now + terms.seconds_to_wait, 0), 2**40 - 1),
        ]
        digest = self.books.digest(reservation_hash(key, coordinator, statement.nonce, promised))
        signature = self._reserver(coordinator, terms.signer).sign(digest, terms.spoilt)
        return (*promised, *signature.compact())

    def _reserver(self, coordinator: int, which: str) -> Signer:
        former = [person for (id_, person), until in self.books.former_until.items() if id_ == coordinator and until]
        if which == "former" and former:
            return BY_ADDRESS[former[-1]]
        return self._operator(coordinator) if which != "outsider" else ADMIN


def _able(address: int) -> int:
    """The address, where it can call: not nobody, not a contract."""
    return address if address in BY_ADDRESS else POOR


def _part(account: Account, amount: int | str) -> int:
    """An amount that may be told by the account's balance."""
    parts = {"all": account.balance, "over": account.balance + 1}
    parts |= {"half": account.balance // 2, "third": account.balance // 3}
    return amount if isinstance(amount, int) else min(parts[amount], MOST)
