"""contracts/src/Disputes.sol in Python: reads give dataclasses, writes give calls for a Sender to send."""

from dataclasses import dataclass
from enum import IntEnum

from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from gristmill_contracts.artifacts import artifact


class Phase(IntEnum):
    NONE = 0
    ANSWERING = 1
    RULING = 2
    ARBITRATING = 3
    CLOSED = 4


class Outcome(IntEnum):
    NONE = 0
    CONCEDED = 1
    UNANSWERED = 2
    FOUND_GUILTY = 3
    FOUND_CLEAR = 4
    UNDECIDED = 5


@dataclass(frozen=True)
class Dispute:
    """One dispute; its phase is NONE where there is none."""

    provider: int
    challenger: int  # payee id
    phase: Phase
    outcome: Outcome
    answered: bool  # the provider has posted a bond, too
    seats: int  # referees to draw
    deadline_s: int  # of the phase
    draw_block: int  # its hash draws the referees
    candidates: int  # seats to draw from
    amount_usd_micros: int  # of stake that the fault should cost
    bond_usd_micros: int  # of each party
    renter: str  # account
    evidence: bytes
    referees: tuple[int, ...]
    guilty: tuple[int, ...]  # who ruled so
    clear: tuple[int, ...]


class Disputes:
    """One deployed Disputes."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("Disputes").abi)

    # Reads

    def dispute(self, dispute: int) -> Dispute:
        found = list(self.contract.functions.disputeOf(dispute).call())
        found[2], found[3] = Phase(found[2]), Outcome(found[3])
        found[13:] = map(tuple, found[13:])
        return Dispute(*found)

    def count(self) -> int:
        """How many disputes there were so far; their ids go from 1 to this."""
        return int(self.contract.functions.count().call())

    def least_bond_usd_micros(self) -> int:
        return int(self.contract.functions.leastBond().call())

    def bond_usd_micros(self, amount_usd_micros: int) -> int:
        """What each party must post where so much stake is in question."""
        share = amount_usd_micros * int(self.contract.functions.BOND_BPS().call()) // 10_000
        return max(share, self.least_bond_usd_micros())

    def paused(self) -> bool:
        """Whether new disputes are stopped."""
        return bool(self.contract.functions.paused().call())

    # The parties

    def open(
        self,
        *,
        challenger: int,
        provider: int,
        renter: str,
        amount_usd_micros: int,
        evidence: bytes,
        record: bytes,
        signature: str,
    ) -> ContractFunction:
        """Challenge a provider, sent from the challenger's payout address, which must have approved its bond.

        Args:
            renter: the open account that gets its part of the stake.
            amount_usd_micros: of stake that the fault should cost.
            evidence: 32-byte digest of all that shows the fault.
            record: 32-byte struct hash of the record in question (gristmill_protocol.commitments).
            signature: the provider's node's, over that record.
        """
        renter = Web3.to_checksum_address(renter)
        work = (record, bytes.fromhex(signature[2:]))
        return self.contract.functions.open(challenger, provider, renter, amount_usd_micros, evidence, work)

    def opened_id(self, receipt: TxReceipt) -> int:
        """The id that open gave."""
        for log in self.contract.events.Opened().process_receipt(receipt, errors=DISCARD):
            return int(log["args"]["id"])
        raise ValueError("this transaction opened no dispute")

    def concede(self, dispute: int) -> ContractFunction:
        """Admit the fault, sent from the provider's payout address or its node key."""
        return self.contract.functions.concede(dispute)

    def answer(self, dispute: int, evidence: bytes) -> ContractFunction:
        """Deny the fault, sent as concede() is, by an address that has approved its bond."""
        return self.contract.functions.answer(dispute, evidence)

    # The judges, and what silence does

    def draw(self, dispute: int) -> ContractFunction:
        """Draw the referees, sent by anybody in the 256 blocks after the one whose hash draws them."""
        return self.contract.functions.draw(dispute)

    def rule(self, dispute: int, *, referee: int, guilty: bool) -> ContractFunction:
        """Rule once, sent from a drawn referee's payout address."""
        return self.contract.functions.rule(dispute, referee, guilty)

    def arbitrate(self, dispute: int, *, guilty: bool) -> ContractFunction:
        """Rule where the referees could not, sent by a holder of the arbiter role."""
        return self.contract.functions.arbitrate(dispute, guilty)

    def advance(self, dispute: int) -> ContractFunction:
        """Go on where somebody's time is over, sent by anybody."""
        return self.contract.functions.advance(dispute)

    # Guard

    def set_paused(self, paused: bool) -> ContractFunction:
        """Stop or resume new disputes, sent by a holder of the guardian role."""
        return self.contract.functions.setPaused(paused)
