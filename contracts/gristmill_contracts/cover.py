"""contracts/src/Cover.sol in Python: what a coordinator's bond is good for. Its proofs are built in history.py."""

from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.ledger import encoded_reservation, encoded_statement
from gristmill_protocol.jobs import SignedReservation, SignedStatement


@dataclass(frozen=True)
class Bond:
    """What a coordinator can lose."""

    bonded_usd_micros: int
    unbonding_usd_micros: int
    unlock_at_s: int  # of what is unbonding


@dataclass(frozen=True)
class Settled:
    """Where a statement was settled, and how the Ledger's history went on from there to a recorded digest."""

    batch: bytes
    offset: int  # of the statement in the batch
    skips: tuple[int, ...]  # offsets of the statements that were not paid, in order
    before: int  # history before the batch
    later: tuple[bytes, ...]  # entries of the batches after it

    def encoded(self) -> tuple[bytes, int, list[int], int, list[bytes]]:
        """Cover.Settled."""
        return (self.batch, self.offset, list(self.skips), self.before, list(self.later))


class Cover:
    """One deployed Cover."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Cover").abi)

    def bond_of(self, coordinator: int) -> Bond:
        return Bond(*self.contract.functions.bonds(coordinator).call())

    def paid_for(self, by: SignedReservation) -> int:
        """What the reservation's provider was paid so far for its nonce, in micro-USD."""
        made = by.reservation
        parts = [made.coordinator, Web3.to_checksum_address(made.key), made.nonce, made.provider]
        claim = keccak(encode(["uint32", "address", "uint32", "uint32"], parts))
        return int(self.contract.functions.paidFor(claim).call())

    def is_recorded(self, history: int) -> bool:
        """Whether proofs can end in a digest of the Ledger's history."""
        return bool(self.contract.functions.recorded(history).call())

    def bond(self, coordinator: int, amount_usd_micros: int) -> ContractFunction:
        """Add the sender's tokens to a coordinator's bond; it must have approved them."""
        return self.contract.functions.bond(coordinator, amount_usd_micros)

    def request_unbonding(self, coordinator: int, amount_usd_micros: int) -> ContractFunction:
        """Start to take bond out, sent by the coordinator's operator."""
        return self.contract.functions.requestUnbonding(coordinator, amount_usd_micros)

    def withdraw(self, coordinator: int) -> ContractFunction:
        """Pay out what has been unbonding for 14 days."""
        return self.contract.functions.withdraw(coordinator)

    def record(self) -> ContractFunction:
        """Keep the Ledger's present history digest, sent by anybody."""
        return self.contract.functions.record()

    def recorded_digest(self, receipt: TxReceipt) -> int:
        """The digest that record kept."""
        for log in self.contract.events.Recorded().process_receipt(receipt, errors=DISCARD):
            return int(log["args"]["history"])
        raise ValueError("this transaction recorded nothing")

    def claim_unfunded(self, signed: SignedStatement, by: SignedReservation) -> ContractFunction:
        """Pay the reservation's provider for accepted work that the renter's balance does not cover."""
        return self.contract.functions.claimUnfunded(encoded_statement(signed), encoded_reservation(by))

    def claim_underpaid(self, settled: Settled, by: SignedReservation) -> ContractFunction:
        """Pay the reservation's provider what was accepted and then not settled."""
        return self.contract.functions.claimUnderpaid(settled.encoded(), encoded_reservation(by))
