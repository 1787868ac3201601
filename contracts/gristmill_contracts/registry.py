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


@dataclass(frozen=True)
class NodeEntry:
    """What a provider says of its machines; key is the zero address while it has said nothing."""

    key: str
    metadata: bytes  # SHA-256 of its public description


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

    def node(self, provider: int) -> NodeEntry:
        return NodeEntry(*self.contract.functions.nodes(provider).call())

    def is_active(self, provider: int) -> bool:
        """Whether a provider has a node key and at least the minimum bond."""
        return bool(self.contract.functions.isActive(provider).call())

    def minimum_bond_usd_micros(self) -> int:
        return int(self.contract.functions.minimumBond().call())

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

    # Nodes and anchors

    def set_node(self, provider: int, key: str, metadata: bytes = bytes(32)) -> ContractFunction:
        """Name the key of a provider's machines, sent from its payout address."""
        return self.contract.functions.setNode(provider, Web3.to_checksum_address(key), metadata)

    def anchor(self, coordinator: int, root: bytes) -> ContractFunction:
        """Publish a window's root, sent by the coordinator's operator."""
        return self.contract.functions.anchor(coordinator, root)
