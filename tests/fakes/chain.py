"""A chain in memory: it settles by the Ledger's rules, and its blocks come when a test says mine()."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from eth_account import Account
from eth_account.signers.local import LocalAccount

from gristmill_coordinator.chain.port import (
    ZERO_ADDRESS,
    AccountState,
    Award,
    ChainInfo,
    ProviderState,
    RecipeTerms,
    TxState,
)
from gristmill_protocol.errors import BadSignature, ChainUnavailable, Conflict
from gristmill_protocol.jobs import SignedStatement, Statement
from gristmill_protocol.money import split_line
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    encode_statement,
    recover,
    sign,
    statement_message,
)

_NO_ACCOUNT = AccountState(0, ZERO_ADDRESS, 0)
_NO_PROVIDER = ProviderState(ZERO_ADDRESS, ZERO_ADDRESS, 0, active=False)
_NO_RECIPE = RecipeTerms(0, 0, 0, active=False)
_GAS = 60_000


@dataclass
class _Tx:
    run: Callable[[], bool]  # False: it reverted and changed nothing
    block: int | None = None
    succeeded: bool = False


@dataclass
class FakeChain:
    """Implements coordinator.chain.port.Chain.

    Set it up with open_account, add_provider and add_recipe; then mine() after what the coordinator sends.

    Args:
        operator: the coordinator's key; made from a fixed secret unless given.
        clock: unix seconds, for the statements' deadlines; stands at 0 unless given.
        minimum_bond_usd_micros: below it a provider is not active.
        reachable: set it to False to have every call raise ChainUnavailable.
    """

    operator: LocalAccount = field(default_factory=lambda: Account.from_key("0x" + "c0" * 32))
    clock: Callable[[], float] = lambda: 0.0
    minimum_bond_usd_micros: int = 1
    reachable: bool = True
    credits: dict[int, int] = field(default_factory=dict)  # payee id -> micro-USD
    anchors: list[bytes] = field(default_factory=list)
    slashes: list[tuple[int, tuple[Award, ...], bytes]] = field(default_factory=list)
    block: int = 1

    def __post_init__(self) -> None:
        contracts = [Account.from_key(f"0x{secret:064x}").address for secret in (0x1ED6E4, 0x4E615, 0x70CE4)]
        ledger, registry, token = contracts
        self.info = ChainInfo(31_337, ledger, registry, token, coordinator_id=1, operator=self.operator.address)
        self._accounts: dict[str, AccountState] = {}
        self._providers: dict[int, ProviderState] = {}
        self._recipes: dict[int, RecipeTerms] = {}
        self._payees = 1  # 0 is the treasury
        self._settled: dict[tuple[str, int], int] = {}
        self._txs: dict[str, _Tx] = {}

    # Setting the scene

    def open_account(self, key: str, balance_usd_micros: int, *, owner: str | None = None) -> None:
        """Give a key an account at this coordinator, or a new balance if it has one."""
        self._accounts[key.lower()] = AccountState(balance_usd_micros, owner or key, self.info.coordinator_id)

    def add_payee(self) -> int:
        """A fresh payee id."""
        self._payees += 1
        return self._payees - 1

    def add_provider(self, *, node_key: str, payout: str | None = None, bonded_usd_micros: int = 100_000_000) -> int:
        """Register a provider; gives its payee id."""
        provider = self.add_payee()
        active = bonded_usd_micros >= self.minimum_bond_usd_micros
        self._providers[provider] = ProviderState(payout or node_key, node_key, bonded_usd_micros, active)
        return provider

    def add_recipe(self, *, author: int | None = None, royalty_bps: int = 0, verifier_bps: int = 0) -> int:
        """Register a recipe; gives its id."""
        recipe = len(self._recipes) + 1
        author = self.add_payee() if author is None else author
        self._recipes[recipe] = RecipeTerms(author, royalty_bps, verifier_bps, active=True)
        return recipe

    def mine(self, blocks: int = 1) -> None:
        """Make blocks; what was sent before goes into the first of them, in order."""
        for _ in range(blocks):
            self.block += 1
            for tx in self._txs.values():
                if tx.block is None:
                    tx.block = self.block
                    tx.succeeded = tx.run()

    # The port

    async def account(self, key: str) -> AccountState:
        self._reach()
        return self._accounts.get(key.lower(), _NO_ACCOUNT)

    async def nonce_used(self, key: str, nonce: int) -> bool:
        return await self.settled(key, nonce) is not None

    async def settled(self, key: str, nonce: int) -> int | None:
        self._reach()
        return self._settled.get((key.lower(), nonce))

    async def provider(self, provider_id: int) -> ProviderState:
        self._reach()
        return self._providers.get(provider_id, _NO_PROVIDER)

    async def recipe(self, recipe_id: int) -> RecipeTerms:
        self._reach()
        return self._recipes.get(recipe_id, _NO_RECIPE)

    async def anchor(self, root: bytes) -> str:
        return self._send(lambda: self._anchor(root))

    async def settle(self, batch: Sequence[SignedStatement]) -> str:
        for signed in batch:
            encode_statement(signed.statement, signed.signature)
        return self._send(lambda: self._settle(tuple(batch)))

    async def slash(self, provider_id: int, awards: Sequence[Award], evidence: bytes) -> str:
        self._reach()
        if not self._may_slash(provider_id, awards):
            raise Conflict("The contract refused: StakeTooLow or NotOpen.", effect="Nothing was sent.")
        return self._send(lambda: self._slash(provider_id, tuple(awards), evidence))

    async def tx(self, tx_hash: str) -> TxState | None:
        self._reach()
        tx = self._txs.get(tx_hash)
        if tx is None or tx.block is None:
            return None
        return TxState(tx.block, tx.succeeded, _GAS, self.block - tx.block + 1)

    async def beacon_after(self, block: int) -> bytes | None:
        self._reach()
        return sha256(f"prevrandao {block + 1}".encode()).digest() if block < self.block else None

    def sign_reservation(self, key: str, nonce: int, cap_usd_micros: int) -> str:
        message = {"key": key, "coordinator": self.info.coordinator_id, "nonce": nonce, "cap": cap_usd_micros}
        return sign(self.operator, self.info.ledger_domain, RESERVATION_TYPE, message)

    # What the contracts do

    def _reach(self) -> None:
        if not self.reachable:
            raise ChainUnavailable("The chain's node does not answer.", effect="Nothing was sent.")

    def _send(self, run: Callable[[], bool]) -> str:
        self._reach()
        tx_hash = "0x" + sha256(f"tx {len(self._txs)}".encode()).hexdigest()
        self._txs[tx_hash] = _Tx(run)
        return tx_hash

    def _anchor(self, root: bytes) -> bool:
        self.anchors.append(root)
        return True

    def _settle(self, batch: tuple[SignedStatement, ...]) -> bool:
        for signed in batch:
            try:
                key = recover(
                    self.info.ledger_domain, STATEMENT_TYPE, statement_message(signed.statement), signed.signature
                )
            except BadSignature:
                continue
            self._settle_one(key, signed.statement)
        return True

    def _settle_one(self, key: str, statement: Statement) -> None:
        account = self._accounts.get(key.lower())
        total = statement.total_usd_micros
        payable = (
            account is not None
            and 0 < total <= account.balance_usd_micros
            and self.clock() <= statement.deadline_s
            and (key.lower(), statement.nonce) not in self._settled
            and all(line.recipe in self._recipes for line in statement.lines)
        )
        if account is None or not payable:
            return
        self._settled[key.lower(), statement.nonce] = total
        self._accounts[key.lower()] = replace(account, balance_usd_micros=account.balance_usd_micros - total)
        for line in statement.lines:
            terms = self._recipes[line.recipe]
            split = split_line(line.amount_usd_micros, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps)
            self._credit(line.provider, split.provider)
            self._credit(line.verifier, split.verifier)
            self._credit(terms.author, split.author)
            self._credit(0, split.treasury)

    def _may_slash(self, provider_id: int, awards: Sequence[Award]) -> bool:
        stake = self._providers.get(provider_id, _NO_PROVIDER)
        strangers = [a for a in awards if isinstance(a.to, str) and a.to.lower() not in self._accounts]
        return not strangers and sum(a.amount_usd_micros for a in awards) <= stake.slashable_usd_micros

    def _slash(self, provider_id: int, awards: tuple[Award, ...], evidence: bytes) -> bool:
        if not self._may_slash(provider_id, awards):
            return False
        stake = self._providers.get(provider_id, _NO_PROVIDER)
        total = sum(award.amount_usd_micros for award in awards)
        bonded = max(0, stake.bonded_usd_micros - total)
        unbonding = stake.slashable_usd_micros - total - bonded
        self._providers[provider_id] = replace(
            stake,
            bonded_usd_micros=bonded,
            unbonding_usd_micros=unbonding,
            active=bonded >= self.minimum_bond_usd_micros,
        )
        for award in awards:
            if isinstance(award.to, str):
                account = self._accounts[award.to.lower()]
                balance = account.balance_usd_micros + award.amount_usd_micros
                self._accounts[award.to.lower()] = replace(account, balance_usd_micros=balance)
            else:
                self._credit(award.to, award.amount_usd_micros)
        self.slashes.append((provider_id, awards, evidence))
        return True

    def _credit(self, payee: int, amount_usd_micros: int) -> None:
        payee = payee if payee < self._payees else 0  # as the Ledger: an unknown payee's money goes to the treasury
        self.credits[payee] = self.credits.get(payee, 0) + amount_usd_micros
