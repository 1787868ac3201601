"""A chain in memory: it settles by the Ledger's rules, and its blocks come when a test says mine()."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from fakes import courts, relays
from gristmill_coordinator.chain.port import (
    CALL,
    ZERO_ADDRESS,
    AccountState,
    AnchorCall,
    Block,
    BondFunds,
    Call,
    ChainInfo,
    DisputeCall,
    Fees,
    Log,
    ProviderState,
    Receipt,
    RecipeTerms,
    RelayCall,
    SettleCall,
    Signed,
    TooMuchGas,
)
from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol import certificate
from gristmill_protocol.errors import BadSignature, ChainUnavailable, Conflict
from gristmill_protocol.jobs import Reservation, SignedStatement, Statement
from gristmill_protocol.money import split_line
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    Domain,
    encode_statement,
    recover,
    reservation_message,
    sign,
    statement_message,
)

_NO_ACCOUNT = AccountState(0, ZERO_ADDRESS, 0)
_NO_PROVIDER = ProviderState(ZERO_ADDRESS, ZERO_ADDRESS, 0, active=False)
_NO_RECIPE = RecipeTerms(0, 0, 0, active=False)
_TRANSACTION_GAS = 21_000
_CALL_GAS = 25_000
_STATEMENT_GAS = 17_000


@dataclass(frozen=True)
class _Sent:
    call: Call
    nonce: int
    bid: Bid
    hash: str


@dataclass
class _State:
    """What a reorganisation takes back."""

    accounts: dict[str, AccountState] = field(default_factory=dict)
    providers: dict[int, ProviderState] = field(default_factory=dict)
    recipes: dict[int, RecipeTerms] = field(default_factory=dict)
    payees: int = 1  # 0 is the treasury, 1 the challenger
    settled: dict[tuple[str, int], int] = field(default_factory=dict)
    credits: dict[int, int] = field(default_factory=dict)
    anchors: list[bytes] = field(default_factory=list)
    disputes: dict[int, courts.Dispute] = field(default_factory=dict)
    seats: list[int] = field(default_factory=list)  # referees
    allowed: int = 0  # what Disputes may take of the operator's tokens
    slashes: list[tuple[int, int]] = field(default_factory=list)  # provider, amount
    held: int = 0
    tokens: dict[str, int] = field(default_factory=dict)  # what addresses hold outside
    withdrawals: dict[str, tuple[int, int]] = field(default_factory=dict)  # amount, and when it may be had
    requests: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # salts of deposits
    count: int = 0  # of the operator's transactions
    receipts: dict[str, Receipt] = field(default_factory=dict)

    def copy(self) -> "_State":
        return replace(self, **{one.name: copy(getattr(self, one.name)) for one in fields(self)})


@dataclass
class _Mined:
    """A block, and the state after it."""

    header: Block
    logs: list[Log]
    state: _State


@dataclass
class FakeChain:
    """Implements coordinator.chain.port.Chain.

    Set it up with open_account, add_provider and add_recipe, each of which makes a block; then mine() after what the
    coordinator sends.

    Args:
        operator: the coordinator's key; made from a fixed secret unless given.
        clock: unix seconds, for the statements' deadlines; stands at 0 unless given.
        minimum_bond_usd_micros: below it a provider is not active.
        reachable: set it to False to have every call raise ChainUnavailable.
        breaks_off: before or after it has taken a transaction, the connection does.
        base_fee_wei: what bids for less than are not mined.
        pool: what waits for a block.
        tell_head, tell_log: what the node says instead of the truth.
    """

    operator: LocalAccount = field(default_factory=lambda: Account.from_key("0x" + "c0" * 32))
    clock: Callable[[], float] = lambda: 0.0
    minimum_bond_usd_micros: int = 1
    reachable: bool = True
    breaks_off: Literal["", "before", "after"] = ""
    base_fee_wei: int = 10**9
    tip_wei: int = 10**9
    gas_limit: int = 30_000_000
    pool: dict[str, _Sent] = field(default_factory=dict)
    id: int = 31_337
    tell_head: Callable[[Block], Block] = lambda head: head
    tell_log: Callable[[Log], Log] = lambda log: log

    def __post_init__(self) -> None:
        contracts = [Account.from_key(f"0x{secret:064x}").address for secret in (0x1ED6E4, 0x4E615, 0xD15, 0x70CE4)]
        collectors = {"erc3009": Account.from_key(f"0x{0xC011EC7:064x}").address}
        self.info = ChainInfo(
            31_337,
            *contracts,
            coordinator_id=1,
            challenger_payee=1,
            operator=self.operator.address,
            start_block=1,
            collectors=collectors,
        )
        self.state = _State(payees=2, tokens={self.operator.address.lower(): 1_000_000_000})
        self._logs: list[Log] = []
        self._forks = 0
        self.blocks: list[_Mined] = []
        self.seal()

    # Setting the scene

    @property
    def token(self) -> Domain:
        """What the stablecoin's holders sign in."""
        return Domain("Test USD", self.id, self.info.token)

    def give(self, holder: str, usd_micros: int) -> None:
        """Let an address hold so much more, outside all accounts."""
        self.state.tokens[holder.lower()] = self.state.tokens.get(holder.lower(), 0) + usd_micros
        self.seal()

    @property
    def credits(self) -> dict[int, int]:
        """Payee id -> micro-USD."""
        return self.state.credits

    @property
    def anchors(self) -> list[bytes]:
        return self.state.anchors

    @property
    def slashes(self) -> list[tuple[int, int]]:
        return self.state.slashes

    def settled(self, key: str, nonce: int) -> int | None:
        """The total that was settled under a nonce."""
        return self.state.settled.get((key.lower(), nonce))

    def open_account(self, key: str, balance_usd_micros: int, *, owner: str | None = None) -> None:
        """Give a key an account at this coordinator, or a new balance if it has one."""
        known = self.state.accounts.get(key.lower())
        if known is None:
            self.emit("ledger", "AccountOpened", key=key, owner=owner or key, coordinator=self.info.coordinator_id)
        more = balance_usd_micros - (known.balance_usd_micros if known else 0)
        if more >= 0:
            self.emit("ledger", "Deposited", **{"key": key, "from": owner or key, "amount": more})
        else:
            self.emit("ledger", "Withdrawn", key=key, owner=owner or key, amount=-more)
        self.state.accounts[key.lower()] = AccountState(balance_usd_micros, owner or key, self.info.coordinator_id)
        self.state.held += more
        self.seal()

    def add_payee(self) -> int:
        """A fresh payee id."""
        payee = self.state.payees
        self.state.payees += 1
        self.emit("ledger", "PayeeAdded", id=payee, payout=self.operator.address)
        self.seal()
        return payee

    def add_provider(
        self, *, node_key: str, payout: str | None = None, bonded_usd_micros: int = 100_000_000, funder: str = ""
    ) -> int:
        """Register a provider, whose bond is paid by funder, else by itself; gives its payee id."""
        provider = self.add_payee()
        active = bonded_usd_micros >= self.minimum_bond_usd_micros
        self.state.providers[provider] = ProviderState(payout or node_key, node_key, bonded_usd_micros, active)
        bonded = {"provider": provider, "from": funder or payout or node_key, "amount": bonded_usd_micros}
        self.emit("registry", "Bonded", **bonded)
        self.emit("registry", "NodeSet", provider=provider, key=node_key, metadata=bytes(32))
        self.seal()
        return provider

    def add_recipe(self, *, author: int | None = None, royalty_bps: int = 0, verifier_bps: int = 0) -> int:
        """Register a recipe; gives its id."""
        recipe = len(self.state.recipes) + 1
        author = self.add_payee() if author is None else author
        self.state.recipes[recipe] = RecipeTerms(author, royalty_bps, verifier_bps, active=True)
        self.emit("ledger", "RecipeAdded", id=recipe, author=author, royaltyBps=royalty_bps, verifierBps=verifier_bps)
        self.seal()
        return recipe

    def mine(self, blocks: int = 1) -> None:
        """Make blocks; what waits and bids enough goes into the first of them, in the order of its nonces."""
        for _ in range(blocks):
            while bids := [one for one in self.pool.values() if one.nonce == self.state.count and self._pays(one)]:
                best = max(bids, key=lambda one: one.bid.tip_wei)
                self.state.count += 1
                self._include(best)
            self.pool = {tx_hash: one for tx_hash, one in self.pool.items() if one.nonce >= self.state.count}
            self.seal()

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by as many empty ones; what was in them is forgotten."""
        del self.blocks[-depth:]
        self._forks += 1
        self.state = self.blocks[-1].state.copy()
        for _ in range(depth):
            self.seal()

    def use_nonce(self) -> None:
        """Have somebody else with the operator's key send a transaction, and make a block."""
        self.state.count += 1
        self.seal()

    # What the contracts hold

    async def account(self, key: str) -> AccountState:
        self._reach()
        account = self.state.accounts.get(key.lower(), _NO_ACCOUNT)
        amount, unlock_at_s = self.state.withdrawals.get(key.lower(), (0, 0))
        leaving = min(amount, account.balance_usd_micros)
        return replace(
            account,
            balance_usd_micros=account.balance_usd_micros - leaving,
            withdrawing_usd_micros=leaving,
            unlock_at_s=unlock_at_s,
            requests=self.state.requests.get(key.lower(), 0),
        )

    async def tokens(self, holder: str) -> int:
        self._reach()
        return self.state.tokens.get(holder.lower(), 0)

    async def token_domain(self) -> Domain:
        self._reach()
        return self.token

    async def nonce_used(self, key: str, nonce: int) -> bool:
        self._reach()
        return self.settled(key, nonce) is not None

    async def provider(self, provider_id: int) -> ProviderState:
        self._reach()
        return self.state.providers.get(provider_id, _NO_PROVIDER)

    async def recipe(self, recipe_id: int) -> RecipeTerms:
        self._reach()
        return self.state.recipes.get(recipe_id, _NO_RECIPE)

    async def bond_funds(self, amount_usd_micros: int) -> BondFunds:
        self._reach()
        return courts.funds(self, amount_usd_micros)

    async def balances(self, keys: Sequence[str], block: int) -> list[int]:
        accounts = self._at(block).state.accounts
        return [accounts.get(key.lower(), _NO_ACCOUNT).balance_usd_micros for key in keys]

    async def held(self, block: int) -> int:
        return self._at(block).state.held

    # Blocks

    async def chain_id(self) -> int:
        self._reach()
        return self.id

    async def head(self) -> Block:
        self._reach()
        return self.tell_head(self.blocks[-1].header)

    async def block(self, number: int) -> Block | None:
        self._reach()
        return self._at(number).header if 1 <= number <= len(self.blocks) else None

    async def logs(self, first: int, last: int) -> list[Log]:
        self._reach()
        return [self.tell_log(log) for block in self.blocks[first - 1 : last] for log in block.logs]

    async def beacon_after(self, block: int) -> bytes | None:
        self._reach()
        return sha256(f"prevrandao {block + 1}".encode()).digest() if block < len(self.blocks) else None

    # The operator's transactions

    async def transaction_count(self, block: int | None = None) -> int:
        self._reach()
        return self.state.count if block is None else self._at(block).state.count

    async def fees(self) -> Fees:
        self._reach()
        return Fees(self.base_fee_wei, self.tip_wei)

    async def estimate(self, call: Call) -> int:
        self._reach()
        gas = _TRANSACTION_GAS + (_CALL_GAS if call.kind != "empty" else 0)
        if isinstance(call, SettleCall):
            for signed in call.batch:
                encode_statement(signed.statement, signed.signature)
            gas += _STATEMENT_GAS * len(call.batch)
        if isinstance(call, RelayCall) and (why := relays.refusal(self, call)):
            raise Conflict(f"The contract refused: {why}.", effect="Nothing was sent.")
        if isinstance(call, DisputeCall) and (why := courts.refusal(self, call)):
            raise Conflict(f"The contract refused: {why}.", effect="Nothing was sent.")
        if gas > self.gas_limit:
            raise TooMuchGas("It needs more gas than a block has.")
        return gas

    def sign(self, call: Call, *, nonce: int, gas: int, bid: Bid) -> Signed:
        raw = CALL.dump_json(call) + f"|{nonce}|{gas}|{bid.max_fee_wei}|{bid.tip_wei}".encode()
        return Signed("0x" + sha256(raw).hexdigest(), raw)

    async def send(self, raw: bytes) -> str:
        self._reach()
        if self.breaks_off == "before":
            raise ChainUnavailable("The connection broke off.")
        payload, nonce, _, max_fee, tip = raw.rsplit(b"|", 4)
        sent = _Sent(
            CALL.validate_json(payload), int(nonce), Bid(int(max_fee), int(tip)), "0x" + sha256(raw).hexdigest()
        )
        if sent.nonce < self.state.count:
            return "nonce too low"
        for other in [one for one in self.pool.values() if one.nonce == sent.nonce and one.hash != sent.hash]:
            if other.bid.max_fee_wei * 11 > sent.bid.max_fee_wei * 10 or other.bid.tip_wei * 11 > sent.bid.tip_wei * 10:
                return "replacement transaction underpriced"
            del self.pool[other.hash]
        self.pool[sent.hash] = sent
        if self.breaks_off == "after":
            raise ChainUnavailable("The connection broke off.")
        return ""

    async def knows(self, tx_hash: str) -> bool:
        self._reach()
        return tx_hash in self.pool or tx_hash in self.state.receipts

    async def receipt(self, tx_hash: str) -> Receipt | None:
        self._reach()
        return self.state.receipts.get(tx_hash)

    def sign_reservation(self, reservation: Reservation) -> str:
        return sign(self.operator, self.info.ledger_domain, RESERVATION_TYPE, reservation_message(reservation))

    def sign_certificate(self, payload: bytes) -> str:
        return certificate.sign(self.operator, payload)

    # What the chain does

    def _reach(self) -> None:
        if not self.reachable:
            raise ChainUnavailable("The chain's node does not answer.", effect="Nothing was sent.")

    def _at(self, block: int) -> _Mined:
        self._reach()
        return self.blocks[block - 1]

    def _hash(self, number: int) -> str:
        return "0x" + sha256(f"block {number} of fork {self._forks}".encode()).hexdigest()

    def seal(self) -> None:
        """Make a block of what has happened."""
        number = len(self.blocks) + 1
        parent = self.blocks[-1].header.hash if self.blocks else "0x" + "00" * 32
        header = Block(number, self._hash(number), parent, int(self.clock()), self.gas_limit)
        self.blocks.append(_Mined(header, self._logs, self.state.copy()))
        self._logs = []

    def emit(self, contract: str, name: str, tx_hash: str = "0x" + "00" * 32, **args: Any) -> None:
        number = len(self.blocks) + 1
        self._logs.append(Log(number, self._hash(number), len(self._logs), tx_hash, contract, name, args))

    def _pays(self, sent: _Sent) -> bool:
        return sent.bid.max_fee_wei >= self.base_fee_wei

    def _include(self, sent: _Sent) -> None:
        number, before = len(self.blocks) + 1, len(self._logs)
        succeeded, call = True, sent.call
        if isinstance(call, AnchorCall):
            self.state.anchors.append(bytes.fromhex(call.root))
            self.emit("registry", "Anchored", coordinator=self.info.coordinator_id, root=bytes.fromhex(call.root))
        elif isinstance(call, SettleCall):
            self._settle(call.batch)
        elif isinstance(call, DisputeCall):
            succeeded = not courts.refusal(self, call)
            if succeeded:
                courts.carry_out(self, call)
        elif isinstance(call, RelayCall):
            succeeded = not relays.refusal(self, call)
            if succeeded:
                relays.carry_out(self, call)
        self._logs[before:] = [replace(log, tx_hash=sent.hash) for log in self._logs[before:]]
        self.state.receipts[sent.hash] = Receipt(number, self._hash(number), succeeded, _TRANSACTION_GAS + _CALL_GAS)

    # What the contracts do

    def _settle(self, batch: tuple[SignedStatement, ...]) -> None:
        for signed in batch:
            try:
                key = recover(
                    self.info.ledger_domain, STATEMENT_TYPE, statement_message(signed.statement), signed.signature
                )
            except BadSignature:
                key = ZERO_ADDRESS
            why = self._check(key, signed.statement)
            if why:
                self.emit("ledger", "StatementSkipped", key=key, nonce=signed.statement.nonce, why=why)
            else:
                self._pay(key, signed.statement)

    def _check(self, key: str, statement: Statement) -> int:
        """LedgerTypes.Skip."""
        account = self.state.accounts.get(key.lower())
        checks = (
            account is not None,
            self.clock() <= statement.deadline_s,
            (key.lower(), statement.nonce) not in self.state.settled,
            all(line.recipe in self.state.recipes for line in statement.lines),
            statement.total_usd_micros > 0,
            account is not None and statement.total_usd_micros <= account.balance_usd_micros,
        )
        return next((why for why, passed in enumerate(checks, start=1) if not passed), 0)

    def _pay(self, key: str, statement: Statement) -> None:
        account, total = self.state.accounts[key.lower()], statement.total_usd_micros
        self.state.settled[key.lower(), statement.nonce] = total
        self.state.accounts[key.lower()] = replace(account, balance_usd_micros=account.balance_usd_micros - total)
        for line in statement.lines:
            terms = self.state.recipes[line.recipe]
            split = split_line(line.amount_usd_micros, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps)
            self._credit(line.provider, split.provider)
            self._credit(line.verifier, split.verifier)
            self._credit(terms.author, split.author)
            self._credit(0, split.treasury)
        self.emit("ledger", "StatementSettled", key=key, nonce=statement.nonce, total=total)

    def award(self, to: str | int, amount_usd_micros: int) -> None:
        """Hand out a part of a slashed stake or a bond: to an account (its key) or to a payee."""
        registry = self.info.registry
        if not amount_usd_micros:
            return
        self.state.held += amount_usd_micros
        if isinstance(to, str):
            account = self.state.accounts[to.lower()]
            balance = account.balance_usd_micros + amount_usd_micros
            self.state.accounts[to.lower()] = replace(account, balance_usd_micros=balance)
            key = to_checksum_address(to)
            self.emit("ledger", "Deposited", **{"key": key, "from": registry, "amount": amount_usd_micros})
        else:
            self._credit(to, amount_usd_micros)
            self.emit("ledger", "PayeeCredited", **{"id": to, "from": registry, "amount": amount_usd_micros})

    def _credit(self, payee: int, amount_usd_micros: int) -> None:
        if not amount_usd_micros:
            return
        payee = payee if payee < self.state.payees else 0  # as the Ledger: an unknown payee's goes to the treasury
        self.state.credits[payee] = self.state.credits.get(payee, 0) + amount_usd_micros
