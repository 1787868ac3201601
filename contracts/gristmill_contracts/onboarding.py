"""How a renter, a provider and a recipe's author come onto the chain."""

from typing import Protocol

from eth_account.signers.local import LocalAccount
from web3 import Web3

from gristmill_contracts.anvil import give_gas
from gristmill_contracts.collectors import Erc3009Collector
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import NodeEntry, Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.consents import authorize_deposit, sign_opening


def open_and_fund(
    relayer: Sender, deployment: Deployment, key: LocalAccount, amount_usd_micros: int, *, owner: str | None = None
) -> None:
    """Open a renter's account and pay in fresh test money; the renter signs twice and needs no gas.

    Args:
        relayer: pays for gas.
        owner: who may withdraw; the key itself unless given.
    """
    ledger = Ledger(relayer.w3, deployment.ledger)
    owner = owner or key.address
    opening = sign_opening(key, ledger.domain(), owner=owner, coordinator=deployment.coordinator_id)
    relayer.run(ledger.open(key.address, opening, coordinator=deployment.coordinator_id))
    fund(relayer, deployment, key, amount_usd_micros)


def fund(relayer: Sender, deployment: Deployment, key: LocalAccount, amount_usd_micros: int) -> None:
    """Pay fresh test money into an open account; the renter signs and needs no gas."""
    w3, token = relayer.w3, TestUSD(relayer.w3, deployment.token)
    collector = Erc3009Collector(w3, deployment.collectors.erc3009)
    relayer.run(token.mint(key.address, amount_usd_micros))
    authorization = authorize_deposit(
        key,
        token.domain(),
        collector.address,
        key=key.address,
        amount_usd_micros=amount_usd_micros,
        valid_before_s=w3.eth.get_block("latest")["timestamp"] + 3600,
    )
    relayer.run(collector.deposit(key.address, authorization))


class Contracts(Protocol):
    """Where a provider has to be known: a Deployment, or what a coordinator says of itself."""

    @property
    def ledger(self) -> str: ...
    @property
    def registry(self) -> str: ...
    @property
    def token(self) -> str: ...


def register_provider(
    provider: Sender, contracts: Contracts, *, node_key: str, bond_usd_micros: int, metadata: bytes = bytes(32)
) -> int:
    """Register the sender as a provider, bond its tokens and name its machines' key; gives the provider's id.

    Args:
        provider: its address is paid and must hold the bond, and gas.
        metadata: SHA-256 of the provider's public description.
    """
    provider_id = add_provider(provider, contracts)
    equip_provider(
        provider, contracts, provider_id, node_key=node_key, bond_usd_micros=bond_usd_micros, metadata=metadata
    )
    return provider_id


def add_provider(provider: Sender, contracts: Contracts) -> int:
    """A new provider's id; it is paid at the sender's address."""
    ledger = Ledger(provider.w3, contracts.ledger)
    return ledger.added_id(provider.run(ledger.add_payee(provider.address)))


def equip_provider(
    provider: Sender,
    contracts: Contracts,
    provider_id: int,
    *,
    node_key: str,
    bond_usd_micros: int,
    metadata: bytes = bytes(32),
) -> None:
    """Give the sender's provider its bond and its machines' key, as far as it has not got them."""
    w3, registry = provider.w3, Registry(provider.w3, contracts.registry)
    missing_usd_micros = bond_usd_micros - registry.stake(provider_id).bonded_usd_micros
    if missing_usd_micros > 0:
        provider.run(TestUSD(w3, contracts.token).approve(registry.address, missing_usd_micros))
        provider.run(registry.bond(provider_id, missing_usd_micros))
    if registry.node(provider_id) != NodeEntry(Web3.to_checksum_address(node_key), metadata):
        provider.run(registry.set_node(provider_id, node_key, metadata))


def make_test_money(sender: Sender, token: str, amount_usd_micros: int) -> None:
    """On a local chain: give the sender gas, and fresh test money."""
    give_gas(sender.w3, sender.address)
    sender.run(TestUSD(sender.w3, token).mint(sender.address, amount_usd_micros))
