"""What the coordinator needs of a chain; money is micro-USD, addresses are EIP-55 checksummed, hashes 0x-prefixed hex.

Every method but those that sign may raise ChainUnavailable: the node cannot be reached, did not answer in
time or has no answer. What it says of its blocks is checked by chain/watcher.py, and believed as far as that held.
A transaction is signed first, so that its hash can be stored, and then sent; chain/sender.py alone does that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.errors import Conflict
from gristmill_protocol.jobs import Reservation, SignedStatement
from gristmill_protocol.signing import Domain
from gristmill_protocol.wallet import SignedDeposit, SignedOpening, SignedWithdrawal

ZERO_ADDRESS = "0x" + "00" * 20


class TooMuchGas(Conflict):
    """A call needs more gas than a block has."""


@dataclass(frozen=True)
class ChainInfo:
    """Which contracts on which chain, and as whom this coordinator speaks there."""

    chain_id: int
    ledger: str
    registry: str
    disputes: str
    token: str
    coordinator_id: int
    challenger_payee: int  # the payee id as which it opens disputes
    operator: str
    start_block: int = 0  # nothing of ours is in an earlier block
    collectors: Mapping[str, str] = field(default_factory=dict)  # kind of SignedDeposit -> where it is handed in

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
    withdrawing_usd_micros: int = 0  # what the owner would get of what it asked for, as things stand
    unlock_at_s: int = 0  # when it may have it; 0: it has asked for nothing
    requests: int = 0  # to withdraw, so far


@dataclass(frozen=True)
class ProviderState:
    """A payee's standing in the Registry; an unknown id has ZERO_ADDRESS for both addresses and is not active."""

    payout: str
    node_key: str
    bonded_usd_micros: int
    active: bool  # has a node key and bonds at least the Registry's minimum
    unbonding_usd_micros: int = 0
    locked_usd_micros: int = 0  # what open disputes are about

    @property
    def free_usd_micros(self) -> int:
        """The stake that a new dispute can be about."""
        return max(0, self.bonded_usd_micros + self.unbonding_usd_micros - self.locked_usd_micros)


@dataclass(frozen=True)
class RecipeTerms:
    """Who shares in a line that names this recipe; immutable once registered. An unknown id is not active."""

    author: int  # payee id
    royalty_bps: int
    verifier_bps: int
    active: bool


@dataclass(frozen=True)
class BondFunds:
    """What the operator has to pay the bond of a dispute with."""

    needed_usd_micros: int
    tokens_usd_micros: int  # in its wallet
    allowed_usd_micros: int  # what Disputes may take of them
    credited_usd_micros: int  # to the challenger, in the Ledger, to be collected


class _Call(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnchorCall(_Call):
    """Publish a window's root."""

    kind: Literal["anchor"] = "anchor"
    root: str  # 32 bytes, hex


class SettleCall(_Call):
    """Settle statements in one transaction. The contract skips what it cannot pay and pays the others."""

    kind: Literal["settle"] = "settle"
    batch: tuple[SignedStatement, ...]


class OpenDisputeCall(_Call):
    """Challenge a provider's work, with a bond of the operator's tokens."""

    kind: Literal["open_dispute"] = "open_dispute"
    provider: int
    renter: str  # the account that gets its part of the stake
    amount_usd_micros: int  # of stake that the fault should cost
    evidence: str  # 32 bytes, hex: the digest of all that shows the fault
    work: SignedRecord  # what is in question, as the provider's machine signed it


class DrawCall(_Call):
    """Draw a dispute's referees."""

    kind: Literal["draw"] = "draw"
    dispute: int


class AdvanceCall(_Call):
    """Move a dispute on in which somebody's time is over."""

    kind: Literal["advance"] = "advance"
    dispute: int


class AllowBondsCall(_Call):
    """Let Disputes take the bonds of what we open from the operator's tokens."""

    kind: Literal["allow_bonds"] = "allow_bonds"


class CollectCall(_Call):
    """Have what is credited to us as challenger paid to the operator."""

    kind: Literal["collect"] = "collect"


class OpenCall(_Call):
    """Open a key's account, by the key's signature."""

    kind: Literal["open"] = "open"
    key: str
    opening: SignedOpening


class DepositCall(_Call):
    """Move a holder's tokens into a key's account, by the holder's signature."""

    kind: Literal["deposit"] = "deposit"
    key: str
    by: SignedDeposit


class RequestWithdrawalCall(_Call):
    """Ask to withdraw, by the owner's signature."""

    kind: Literal["request_withdrawal"] = "request_withdrawal"
    signed: SignedWithdrawal


class WithdrawCall(_Call):
    """Pay a withdrawal whose delay is over to the account's owner."""

    kind: Literal["withdraw"] = "withdraw"
    key: str


class EmptyCall(_Call):
    """Nothing: it only uses up a nonce."""

    kind: Literal["empty"] = "empty"


# What others signed and the operator only pays the gas for; and what ends a withdrawal.
RelayCall = OpenCall | DepositCall | RequestWithdrawalCall | WithdrawCall
DisputeCall = OpenDisputeCall | DrawCall | AdvanceCall | AllowBondsCall | CollectCall
Call = Annotated[AnchorCall | SettleCall | DisputeCall | RelayCall | EmptyCall, Field(discriminator="kind")]
CALL: TypeAdapter[Call] = TypeAdapter(Call)


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent: str
    at_s: int
    gas_limit: int


@dataclass(frozen=True)
class Log:
    """An event of the Ledger, the Registry or Disputes."""

    block: int
    block_hash: str
    index: int  # in its block
    tx_hash: str
    contract: str  # ledger, registry or disputes
    name: str
    args: dict[str, Any]  # by the ABI's names: int, bool, text and bytes


@dataclass(frozen=True)
class Fees:
    """What the next block asks for, wei per gas."""

    base_fee_wei: int
    tip_wei: int  # what others lately gave besides


@dataclass(frozen=True)
class Signed:
    """A transaction ready to be sent. The same call, nonce, gas and bid give the same hash."""

    hash: str
    raw: bytes


@dataclass(frozen=True)
class Receipt:
    """A transaction that is in a block."""

    block: int
    block_hash: str
    succeeded: bool
    gas_used: int


class Chain(Protocol):
    """The settlement chain."""

    @property
    def info(self) -> ChainInfo: ...

    # What the contracts hold

    async def account(self, key: str) -> AccountState:
        """The account of a renter's hot key."""

    async def tokens(self, holder: str) -> int:
        """The stablecoin that an address holds, outside all accounts."""

    async def token_domain(self) -> Domain:
        """The EIP-712 domain that the stablecoin's holders sign in."""

    async def nonce_used(self, key: str, nonce: int) -> bool:
        """Whether a statement under this nonce has been settled."""

    async def provider(self, provider_id: int) -> ProviderState: ...

    async def recipe(self, recipe_id: int) -> RecipeTerms: ...

    async def bond_funds(self, amount_usd_micros: int) -> BondFunds:
        """What a dispute about so much stake takes, and what there is."""

    async def balances(self, keys: Sequence[str], block: int) -> list[int]:
        """The whole balances of accounts as of a block."""

    async def held(self, block: int) -> int:
        """The stablecoin that the Ledger held as of a block."""

    # Blocks

    async def chain_id(self) -> int: ...

    async def head(self) -> Block:
        """The newest block."""

    async def block(self, number: int) -> Block | None:
        """A block by its number; None if the node has none."""

    async def logs(self, first: int, last: int) -> list[Log]:
        """The contracts' events in these blocks, in their order."""

    async def beacon_after(self, block: int) -> bytes | None:
        """The prevrandao (32 bytes) of the block after this one; None until that block exists."""

    # The operator's transactions

    async def transaction_count(self, block: int | None = None) -> int:
        """How many of its transactions are in blocks, up to this one: the next nonce to be used."""

    async def fees(self) -> Fees: ...

    async def estimate(self, call: Call) -> int:
        """Gas that a call takes as things stand.

        Raises:
            TooMuchGas: more than fits into a block.
            Conflict: the contract would refuse it, with the contract's own reason.
            BadSignature: a statement's signature is not 65 bytes r || s || v.
        """

    def sign(self, call: Call, *, nonce: int, gas: int, bid: Bid) -> Signed: ...

    async def send(self, raw: bytes) -> str:
        """Hand a signed transaction to the node; why it would not take it, "" if it holds it now."""

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node holds a transaction, be it in a block or waiting."""

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Where a transaction is; None while it is in no block."""

    def sign_reservation(self, reservation: Reservation) -> str:
        """The operator's signature of a promise to a provider."""

    def sign_certificate(self, payload: bytes) -> str:
        """The operator's signature of a training certificate; see gristmill_protocol.certificate."""
