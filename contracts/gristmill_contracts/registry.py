"""contracts/src/Registry.sol in Python: reads give dataclasses, writes give calls for a Sender to send."""

from collections.abc import Sequence
from dataclasses import dataclass

from web3 import Web3
from web3.contract.contract import ContractFunction

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.ledger import Award
from gristmill_protocol.signing import Domain


@dataclass(frozen=True)
class Stake:
    bonded_usd_micros: int
    unbonding_usd_micros: int
    unlock_at_s: int  # of what is unbonding
    locked_usd_micros: int  # what open disputes are about


@dataclass(frozen=True)
class NodeEntry:
    """What a provider says of its machines; key is the zero address while it has said nothing."""

    key: str
    metadata: bytes  # SHA-256 of its public description


@dataclass(frozen=True)
class Seat:
    """A referee's place; only disputes whose draw comes later may draw it."""

    provider: int
    since_block: int


class Registry:
    """One deployed Registry. A provider's id is its payee id in the Ledger."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Registry").abi)

    def domain(self) -> Domain:
        """The EIP-712 domain that nodes sign in."""
        return Domain.registry(self.w3.eth.chain_id, self.address)

    # Reads

    def stake(self, provider: int) -> Stake:
        return Stake(*self.contract.functions.stakes(provider).call())

    def stake_of(self, provider: int) -> int:
        """What can be slashed from a provider, in micro-USD."""
        return int(self.contract.functions.stakeOf(provider).call())

    def node(self, provider: int) -> NodeEntry:
        return NodeEntry(*self.contract.functions.nodes(provider).call())

    def is_active(self, provider: int) -> bool:
        """Whether a provider has a node key and at least the minimum bond."""
        return bool(self.contract.functions.isActive(provider).call())

    def minimum_bond_usd_micros(self) -> int:
        return int(self.contract.functions.minimumBond().call())

    def seats(self) -> list[Seat]:
        """Who may be drawn to judge disputes, by position; a free seat's provider is 0."""
        count = self.contract.functions.seatCount().call()
        return [Seat(*self.contract.functions.seats(position).call()) for position in range(count)]

    def paused(self) -> bool:
        """Whether new bonds are stopped."""
        return bool(self.contract.functions.paused().call())

    # Stake

    def bond(self, provider: int, amount_usd_micros: int) -> ContractFunction:
        """Add the sender's tokens to a provider's bond; it must have approved them."""
        return self.contract.functions.bond(provider, amount_usd_micros)

    def request_unbonding(self, provider: int, amount_usd_micros: int) -> ContractFunction:
        """Start to take bond out, sent from the provider's payout address."""
        return self.contract.functions.requestUnbonding(provider, amount_usd_micros)

    def withdraw(self, provider: int) -> ContractFunction:
        """Pay out what has been unbonding for 14 days."""
        return self.contract.functions.withdraw(provider)

    def slash(self, provider: int, awards: Sequence[Award], evidence: bytes) -> ContractFunction:
        """Take the awards' sum from a provider's stake, sent by a holder of the slasher role."""
        return self.contract.functions.slash(provider, [award.encoded() for award in awards], evidence)

    def lock(self, provider: int, amount_usd_micros: int) -> ContractFunction:
        """Keep so much of a provider's stake until it is unlocked, sent by a holder of the locker role."""
        return self.contract.functions.lock(provider, amount_usd_micros)

    def unlock(self, provider: int, amount_usd_micros: int) -> ContractFunction:
        return self.contract.functions.unlock(provider, amount_usd_micros)

    # Nodes, referees, anchors

    def set_node(self, provider: int, key: str, metadata: bytes = bytes(32)) -> ContractFunction:
        """Name the key of a provider's machines, sent from its payout address."""
        return self.contract.functions.setNode(provider, Web3.to_checksum_address(key), metadata)

    def enlist(self, provider: int) -> ContractFunction:
        """Offer to judge disputes, sent from an active provider's payout address."""
        return self.contract.functions.enlist(provider)

    def resign(self, provider: int) -> ContractFunction:
        """Judge no more disputes, sent from the provider's payout address."""
        return self.contract.functions.resign(provider)

    def anchor(self, coordinator: int, root: bytes) -> ContractFunction:
        """Publish a window's root, sent by the coordinator's operator."""
        return self.contract.functions.anchor(coordinator, root)

    # Guard

    def set_minimum_bond(self, amount_usd_micros: int) -> ContractFunction:
        """Change what a provider needs to be active, sent by the admin."""
        return self.contract.functions.setMinimumBond(amount_usd_micros)

    def set_paused(self, paused: bool) -> ContractFunction:
        """Stop or resume new bonds, sent by a holder of the guardian role."""
        return self.contract.functions.setPaused(paused)
