"""Coming onto the chain: a provider's entry, its bond, its machines' key; each step only where it is missing."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import typer
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import Web3Exception

from gristmill_contracts.anvil import CHAIN_ID
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.onboarding import add_provider, equip_provider, make_test_money
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.api import InfoView
from gristmill_protocol.errors import ChainUnavailable, Unavailable
from gristmill_protocol.money import format_usd
from gristmill_provider.config import NodeConfig
from gristmill_provider.doctor import Registration
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.introduction import Front
from gristmill_provider.keys import open_key
from gristmill_provider.owner import OtherChain
from gristmill_provider.payday import rpc_of
from gristmill_provider.questions import Questions

# Of all five transactions together, with room to spare: tests/provider_node/test_joining.py measures them.
GAS = 500_000

_LOOK_EVERY_S = 5.0


@dataclass(frozen=True)
class Lack:
    """What an address has to hold, and what it holds."""

    address: str
    chain_id: int
    token: str
    bond_usd_micros: int
    held_usd_micros: int
    gas_wei: int
    held_wei: int

    def __bool__(self) -> bool:
        return self.held_usd_micros < self.bond_usd_micros or self.held_wei < self.gas_wei

    def __str__(self) -> str:
        """What to send where, in a few lines."""
        usd = max(0, self.bond_usd_micros - self.held_usd_micros)
        coin = max(0, self.gas_wei - self.held_wei)
        rows = [f"{self.address} on chain {self.chain_id} still needs:"]
        if usd:
            held = format_usd(self.held_usd_micros)
            rows.append(f"  {format_usd(usd)} USD for the bond, as the token {self.token} ({held} are there)")
        if coin:
            rows.append(f"  {_coins(coin)} of the chain's own coin for gas ({_coins(self.held_wei)} are there)")
        return "\n".join(rows)


def chain_at(rpc_url: str, contracts: InfoView) -> Web3:
    """A connection to the chain that a coordinator settles on.

    Raises:
        ChainUnavailable: the node does not answer, or not with these contracts.
        OtherChain: it is on another chain.
    """
    w3 = connect(rpc_url)
    try:
        chain_id = w3.eth.chain_id
        known = bool(w3.eth.get_code(Web3.to_checksum_address(contracts.registry)))
    except Web3Exception as err:
        raise ChainUnavailable(f"The node at {rpc_url} gave an answer that makes no sense: {err}.") from err
    if chain_id != contracts.chain_id:
        raise OtherChain(
            f"The node at {rpc_url} is on chain {chain_id}; the coordinator settles on {contracts.chain_id}.",
            effect="Nothing was sent.",
            todo=f"Name a node of chain {contracts.chain_id} with --rpc.",
        )
    if not known:
        raise ChainUnavailable(
            f"The node at {rpc_url} knows no contract at {contracts.registry}, where providers register.",
            effect="Nothing was sent.",
            todo="Name a node that is up to date with this chain.",
        )
    return w3


def registration_of(rpc_url: str, contracts: InfoView, provider_id: int) -> Registration:
    """What the chain says of a provider.

    Raises:
        ChainUnavailable, OtherChain: as chain_at.
    """
    registry = Registry(chain_at(rpc_url, contracts), contracts.registry)
    return Registration(
        provider_id=provider_id,
        node_key=registry.node(provider_id).key,
        bonded_usd_micros=registry.stake(provider_id).bonded_usd_micros,
        minimum_usd_micros=registry.minimum_bond_usd_micros(),
    )


@dataclass(frozen=True)
class Enrolment:
    """A provider on its way onto the chain.

    Args:
        sender: the node's key; it is paid there until hand_over.
        contracts: of the coordinator; the owner has agreed to them.
        provider_id: None: not added yet.
    """

    sender: Sender
    contracts: InfoView
    provider_id: int | None = None

    @staticmethod
    def begin(rpc_url: str, key: LocalAccount, contracts: InfoView, provider_id: int | None) -> "Enrolment":
        """Raises:
        ChainUnavailable, OtherChain: as chain_at.
        """
        return Enrolment(Sender(chain_at(rpc_url, contracts), key), contracts, provider_id)

    @property
    def bond_usd_micros(self) -> int:
        """The least that a provider has to bond."""
        return Registry(self.sender.w3, self.contracts.registry).minimum_bond_usd_micros()

    def lack(self) -> Lack:
        """What is missing before finish(); falsy: nothing."""
        w3, bond = self.sender.w3, self.bond_usd_micros
        if self.provider_id is not None:
            bond -= Registry(w3, self.contracts.registry).stake(self.provider_id).bonded_usd_micros
        address = self.sender.address
        return Lack(
            address=address,
            chain_id=self.contracts.chain_id,
            token=self.contracts.token,
            bond_usd_micros=max(0, bond),
            held_usd_micros=TestUSD(w3, self.contracts.token).balance_usd_micros(address),
            gas_wei=GAS * w3.eth.gas_price,
            held_wei=w3.eth.get_balance(Web3.to_checksum_address(address)),
        )

    def await_money(self, say: Callable[[str], None], *, wait: bool) -> None:
        """Return once nothing is missing. On a local chain the money is made here.

        Raises:
            Unavailable: something is missing, and it is not to wait.
        """
        lack = self.lack()
        if lack and self.contracts.chain_id == CHAIN_ID:
            make_test_money(self.sender, self.contracts.token, lack.bond_usd_micros)
            say(f"This is a local chain: {format_usd(lack.bond_usd_micros)} test USD were made for the bond.")
            return
        if lack and not wait:
            raise Unavailable(str(lack), effect="Nothing was sent.", todo="Send it there and run this again.")
        told = ""
        while lack:
            if str(lack) != told:
                told = str(lack)
                say(f"{told}\nSend it there: this goes on by itself then. After Ctrl-C, the next call goes on here.")
            time.sleep(_LOOK_EVERY_S)
            lack = self.lack()

    def add(self) -> int:
        """The new provider's id."""
        return add_provider(self.sender, self.contracts)

    def finish(self, payout: str = "") -> None:
        """Bond what is missing, name the node's key, and have the provider paid elsewhere if payout is not empty.

        Raises:
            Conflict: a contract refuses it.
            ChainUnavailable: as Sender.
        """
        if self.provider_id is None:
            raise ValueError("finish() comes after add()")
        equip_provider(
            self.sender,
            self.contracts,
            self.provider_id,
            node_key=self.sender.address,
            bond_usd_micros=self.bond_usd_micros,
        )
        ledger = Ledger(self.sender.w3, self.contracts.ledger)
        if payout and ledger.payee(self.provider_id).payout == self.sender.address != payout:
            self.sender.run(ledger.set_payout(self.provider_id, payout))


def replenish_bond(config: NodeConfig, *, questions: Questions) -> None:
    """Bring a registered provider's bond up to the minimum, from what the node's key holds.

    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    with ends_as(ExitCode.COORDINATOR):
        contracts = Front(config.coordinator_url, config.ca_file).greet().info
    with ends_as(ExitCode.KEY):
        key = open_key(config.keystore, config.password_file)
    with ends_as(ExitCode.CHAIN):
        joining = Enrolment.begin(rpc_of(config), key, contracts, config.provider_id)
        lack = joining.lack()
        if lack.bond_usd_micros:
            questions.confirm(f"Bond another {format_usd(lack.bond_usd_micros)} USD?")
            with ends_as(ExitCode.UNFUNDED):
                joining.await_money(typer.echo, wait=questions.somebody_there)
            joining.finish()
        seen = Registry(joining.sender.w3, contracts.registry).stake(config.provider_id)
    typer.echo(f"Provider {config.provider_id} bonds {format_usd(seen.bonded_usd_micros)} USD.")


def _coins(wei: int) -> str:
    return f"{Web3.from_wei(wei, 'ether'):.6f}"
