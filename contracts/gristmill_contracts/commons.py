"""contracts/src/CommonsFund.sol and FeeSplitter.sol in Python: where the protocol's fees go."""

from collections.abc import Sequence
from dataclasses import dataclass

from web3 import Web3
from web3.contract.contract import ContractFunction

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.ledger import Award


class CommonsFund:
    """One deployed CommonsFund. A donation is a plain transfer of the token to its address."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("CommonsFund").abi)

    def payee(self) -> int:
        """Its id in the Ledger."""
        return int(self.contract.functions.payee().call())

    def grant(self, awards: Sequence[Award], purpose: bytes) -> ContractFunction:
        """Give money away, sent by a holder of the granter role after its delay (roles.Authority.schedule).

        Args:
            purpose: 32-byte digest of the published reason.
        """
        return self.contract.functions.grant([award.encoded() for award in awards], purpose)


@dataclass(frozen=True)
class Terms:
    """How a FeeSplitter splits."""

    maintainers: str
    commons_bps: int


class FeeSplitter:
    """One deployed FeeSplitter: the payout address of the Ledger's treasury."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("FeeSplitter").abi)

    def terms(self) -> Terms:
        return Terms(
            str(self.contract.functions.maintainers().call()), int(self.contract.functions.commonsBps().call())
        )

    def split(self) -> ContractFunction:
        """Collect the treasury's credit and divide it, sent by anybody."""
        return self.contract.functions.split()

    def set_terms(self, terms: Terms) -> ContractFunction:
        """Change how it splits, sent by the admin."""
        return self.contract.functions.setTerms(Web3.to_checksum_address(terms.maintainers), terms.commons_bps)
