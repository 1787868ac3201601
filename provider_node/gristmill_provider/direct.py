"""Being paid without the coordinator: what the journal holds is settled on chain by whoever has it.

Only this module and what imports it speak to a chain. The daemon does not: it needs no web3.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from web3 import Web3
from web3.exceptions import Web3Exception

from gristmill_contracts.ledger import Ledger, Recipe
from gristmill_contracts.node import Sender, connect
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.money import split_line
from gristmill_provider.owner import Market, OtherChain
from gristmill_provider.payables import Payable


class Standing(Enum):
    """What the chain says of a statement right now."""

    READY = auto()  # anybody may settle it
    EARLY = auto()  # the coordinator still has time to
    UNFUNDED = auto()  # the renter's balance does not cover it
    EXPIRED = auto()  # its deadline has passed
    PAID = auto()  # the nonce is used, and as much was settled
    UNDERPAID = auto()  # the nonce is used for less


@dataclass(frozen=True)
class Claim:
    """Something owed, as the chain sees it.

    Args:
        net_usd_micros: what we are left with after fee, verifier's and author's share.
        balance_usd_micros: what the renter's account holds for it, claims before this one taken off.
        settled_usd_micros: what was paid under the nonce, to all payees.
    """

    payable: Payable
    standing: Standing
    net_usd_micros: int
    balance_usd_micros: int
    settled_usd_micros: int = 0

    @property
    def from_s(self) -> int:
        """Unix time from which others than the coordinator may settle it."""
        return self.payable.promise.reservation.forced_from_s

    @property
    def deadline_s(self) -> int:
        """The last second, unix time, at which it can be settled."""
        return self.payable.paying.statement.deadline_s


@contextmanager
def chain_of(markets: Sequence[Market], rpc_url: str) -> Iterator[Web3]:
    """A connection to the chain that these coordinators use, or some of them.

    Raises:
        ChainUnavailable: nobody answers, or not as a node with our contracts would; also from the block.
        OtherChain: it is another chain.
    """
    w3 = connect(rpc_url)
    try:
        _require_contracts(w3, markets, rpc_url)
        yield w3
    except Web3Exception as err:
        raise ChainUnavailable(
            f"The node at {rpc_url} gave an answer that makes no sense: {err}.",
            effect="What was settled before it stays settled.",
            todo="Name another node of this chain.",
        ) from err


def survey(w3: Web3, owed: Iterable[Payable]) -> list[Claim]:
    """Where everything owed on this chain stands, in the order in which it is to be settled."""
    now_s = w3.eth.get_block("latest")["timestamp"]
    books: dict[str, _Books] = {}
    claims = []
    for payable in owed:
        address = payable.ledger.contract
        if address not in books:
            books[address] = _Books(Ledger(w3, address))
        claims.append(books[address].claim(payable, now_s))
    return claims


def settle(sender: Sender, claim: Claim) -> None:
    """Have a claim paid; the provider's part is its credit then.

    Raises:
        Conflict: the contract refuses it, with its reason.
        ChainUnavailable: the sender cannot pay for gas, or the node does not answer.
    """
    ledger = Ledger(sender.w3, claim.payable.ledger.contract)
    sender.run(ledger.settle_reserved(claim.payable.paying, claim.payable.promise))


def collect(sender: Sender, ledger: Ledger, provider: int) -> int:
    """Have a payee's credit paid to its payout address; how much that was."""
    credit = ledger.payee(provider).credit_usd_micros
    if credit:
        sender.run(ledger.collect(provider))
    return credit


class _Books:
    """One Ledger, as claims are held against it one after the other; what never changes is asked once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._recipes: dict[int, Recipe] = {}
        self._spent: dict[str, int] = {}  # account -> what the claims so far take of it

    def claim(self, payable: Payable, now_s: int) -> Claim:
        key, statement = payable.promise.reservation.key, payable.paying.statement
        spent = self._spent.get(key, 0)
        balance = max(0, self._ledger.account(key).balance_usd_micros - spent)
        settled = 0
        if self._ledger.nonce_used(key, statement.nonce):
            settled = self._ledger.settled_total(key, statement.nonce) or 0
            standing = Standing.PAID if settled >= statement.total_usd_micros else Standing.UNDERPAID
        elif now_s > statement.deadline_s:
            standing = Standing.EXPIRED
        elif balance < statement.total_usd_micros:
            standing = Standing.UNFUNDED
        else:
            standing = Standing.READY if now_s >= payable.promise.reservation.forced_from_s else Standing.EARLY
            self._spent[key] = spent + statement.total_usd_micros
        return Claim(payable, standing, self._net(payable), balance, settled)

    def _net(self, payable: Payable) -> int:
        """Our part of a statement: as provider of a line, and as verifier of one."""
        us, net = payable.promise.reservation.provider, 0
        for line in payable.paying.statement.lines:
            terms = self._recipe(line.recipe)
            split = split_line(line.amount_usd_micros, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps)
            net += split.provider * (line.provider == us) + split.verifier * (line.verifier == us)
        return net

    def _recipe(self, recipe: int) -> Recipe:
        if recipe not in self._recipes:
            self._recipes[recipe] = self._ledger.recipe(recipe)
        return self._recipes[recipe]


def _require_contracts(w3: Web3, markets: Sequence[Market], rpc_url: str) -> None:
    chain_id = w3.eth.chain_id
    here = {market.ledger.contract for market in markets if market.ledger.chain_id == chain_id}
    if not here:
        known = " or ".join(sorted({str(market.ledger.chain_id) for market in markets}))
        raise OtherChain(
            f"The node at {rpc_url} is on chain {chain_id}, and this machine worked on chain {known}.",
            effect="Nothing was sent.",
            todo=f"Name a node of chain {known} with --rpc.",
        )
    for ledger in here:
        if not w3.eth.get_code(Web3.to_checksum_address(ledger)):
            raise ChainUnavailable(
                f"The node at {rpc_url} knows no contract at {ledger}, where payments are made.",
                effect="Nothing was sent.",
                todo="Name a node that is up to date with this chain.",
            )
