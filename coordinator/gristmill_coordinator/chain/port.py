"""What the coordinator needs of a chain; money is micro-USD, addresses are EIP-55 checksummed, hashes 0x-prefixed hex.

Every method but sign_reservation may raise ChainUnavailable: the node cannot be reached or did not answer in time.
The methods that send return as soon as the node holds the transaction; follow it with tx(). Where the contract would
refuse it as things stand, they raise Conflict with the contract's reason and send nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gristmill_protocol.jobs import SignedStatement
from gristmill_protocol.signing import Domain

ZERO_ADDRESS = "0x" + "00" * 20


@dataclass(frozen=True)
class ChainInfo:
    """Which contracts on which chain, and as whom this coordinator speaks there."""

    chain_id: int
    ledger: str
    registry: str
    token: str
    coordinator_id: int
    operator: str

    @property
    def ledger_domain(self) -> Domain:
        """The EIP-712 domain of orders, statements and reservations."""
        return Domain.ledger(self.chain_id, self.ledger)

    @property
    def registry_domain(self) -> Domain:
        """The EIP-712 domain of records, receipts and greetings."""
        return Domain.registry(self.chain_id, self.registry)


@dataclass(frozen=True)
class AccountState:
    """A renter's account; a key without one has balance 0, owner ZERO_ADDRESS and coordinator 0."""

    balance_usd_micros: int  # less what the owner has asked to withdraw
    owner: str
    coordinator: int  # the only coordinator that can settle against it


@dataclass(frozen=True)
class ProviderState:
    """A payee's standing in the Registry; an unknown id has ZERO_ADDRESS for both addresses and is not active."""

    payout: str
    node_key: str
    bonded_usd_micros: int
    active: bool  # has a node key and bonds at least the Registry's minimum
    unbonding_usd_micros: int = 0

    @property
    def slashable_usd_micros(self) -> int:
        return self.bonded_usd_micros + self.unbonding_usd_micros


@dataclass(frozen=True)
class RecipeTerms:
    """Who shares in a line that names this recipe; immutable once registered. An unknown id is not active."""

    author: int  # payee id
    royalty_bps: int
    verifier_bps: int
    active: bool


@dataclass(frozen=True)
class Award:
    """A part of a slashed stake: to a renter's account (its key) or to a payee (its id; 0 is the treasury)."""

    to: str | int
    amount_usd_micros: int


@dataclass(frozen=True)
class TxState:
    """A transaction that is in a block."""

    block: int
    succeeded: bool
    gas_used: int
    confirmations: int  # 1 when its block is the newest


class Chain(Protocol):
    """The settlement chain."""

    @property
    def info(self) -> ChainInfo: ...

    async def account(self, key: str) -> AccountState:
        """The account of a renter's hot key."""

    async def nonce_used(self, key: str, nonce: int) -> bool:
        """Whether a statement under this nonce has been settled."""

    async def settled(self, key: str, nonce: int) -> int | None:
        """The total that was settled under a nonce, None while none was."""

    async def provider(self, provider_id: int) -> ProviderState: ...

    async def recipe(self, recipe_id: int) -> RecipeTerms: ...

    async def anchor(self, root: bytes) -> str:
        """Publish a window's 32-byte root; gives the transaction's hash."""

    async def settle(self, batch: Sequence[SignedStatement]) -> str:
        """Settle statements in one transaction; gives its hash.

        The contract skips a statement it cannot pay and pays the others, so success of the transaction is not yet
        payment: ask settled(). Ask nonce_used() first: a nonce pays once, a repeated statement only costs gas.

        Raises:
            BadSignature: a signature is not 65 bytes r || s || v.
        """

    async def slash(self, provider_id: int, awards: Sequence[Award], evidence: bytes) -> str:
        """Take the sum of the awards from a provider's stake and hand them out; gives the transaction's hash.

        Args:
            evidence: 32-byte digest of what proves the fraud, for the record.
        """

    async def tx(self, tx_hash: str) -> TxState | None:
        """Where a transaction stands; None while it is in no block."""

    async def beacon_after(self, block: int) -> bytes | None:
        """The prevrandao (32 bytes) of the block after this one; None until that block exists."""

    def sign_reservation(self, key: str, nonce: int, cap_usd_micros: int) -> str:
        """The operator's signature that this nonce of this account is reserved for a lease, up to the cap."""
