"""contracts/src/RecipeRegistry.sol and RoyaltyPool.sol in Python: published recipes, and how royalties are divided."""

from dataclasses import dataclass

from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from gristmill_contracts.artifacts import artifact
from gristmill_contracts.ledger import Award, Ledger


@dataclass(frozen=True)
class Share:
    payee: int
    bps: int  # of the royalty that the version keeps


@dataclass(frozen=True)
class NewVersion:
    """What an author publishes."""

    content: bytes  # SHA-256 of the recipe's wheel
    royalty_bps: int  # of each job that uses it
    verifier_bps: int
    authors: tuple[Share, ...]  # bps sum to 10,000
    parent: int = 0  # recipe id of the version it was forked from
    fork_bps: int = 0  # of a fork's royalty, for this version

    def encoded(self) -> tuple[bytes, int, int, int, int, list[tuple[int, int]]]:
        """RecipeRegistry.NewVersion."""
        authors = [(share.payee, share.bps) for share in self.authors]
        return (self.content, self.parent, self.royalty_bps, self.verifier_bps, self.fork_bps, authors)


@dataclass(frozen=True)
class Version:
    """A published version; its content is zero where there is none."""

    content: bytes
    publisher: str
    parent: int
    fork_bps: int
    payee: int  # what its royalty is credited to
    authors: tuple[Share, ...]


class RecipeRegistry:
    """One deployed RecipeRegistry. A version's id is its recipe id in the Ledger."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("RecipeRegistry").abi)

    def ledger(self) -> Ledger:
        return Ledger(self.w3, self.contract.functions.ledger().call())

    def version(self, recipe: int) -> Version:
        found = self.contract.functions.versionOf(recipe).call()
        content, publisher, parent, fork_bps, payee, authors = found
        return Version(content, publisher, parent, fork_bps, payee, tuple(Share(*share) for share in authors))

    def divide(self, recipe: int, amount_usd_micros: int) -> list[Award]:
        """How so much royalty of a version is divided."""
        awards = self.contract.functions.divide(recipe, amount_usd_micros).call()
        return [Award.decoded(award) for award in awards]

    def pool(self, recipe: int) -> "RoyaltyPool":
        """Where a version's royalty is divided."""
        return RoyaltyPool(self.w3, self.ledger().payee(self.version(recipe).payee).payout)

    def publish(self, version: NewVersion) -> ContractFunction:
        """Publish a version for ever, sent by anybody."""
        return self.contract.functions.publish(version.encoded())

    def published_id(self, receipt: TxReceipt) -> int:
        """The recipe id that publish gave."""
        for log in self.contract.events.VersionPublished().process_receipt(receipt, errors=DISCARD):
            return int(log["args"]["recipe"])
        raise ValueError("this transaction published no recipe")


class RoyaltyPool:
    """The pool of one version (RecipeRegistry.pool)."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.address = Web3.to_checksum_address(address)
        self.contract = w3.eth.contract(address=self.address, abi=artifact("RoyaltyPool").abi)

    def distribute(self) -> ContractFunction:
        """Credit the royalty so far to the version's authors and its parent, sent by anybody."""
        return self.contract.functions.distribute()
