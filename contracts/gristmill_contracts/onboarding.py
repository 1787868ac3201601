"""How a renter, a provider and a recipe's author come onto the chain."""

from eth_account.signers.local import LocalAccount
from web3 import Web3

from gristmill_contracts.collectors import Erc3009Collector
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Registry
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


def register_provider(
    provider: Sender, deployment: Deployment, *, node_key: str, bond_usd_micros: int, metadata: bytes = bytes(32)
) -> int:
    """Register the sender as a provider, bond its tokens and name its machines' key; gives the provider's id.

    Args:
        provider: its address is paid and must hold the bond, and gas.
        metadata: SHA-256 of the provider's public description.
    """
    w3 = provider.w3
    ledger, registry = Ledger(w3, deployment.ledger), Registry(w3, deployment.registry)
    provider_id = ledger.added_id(provider.run(ledger.add_payee(provider.address)))
    provider.run(TestUSD(w3, deployment.token).approve(registry.address, bond_usd_micros))
    provider.run(registry.bond(provider_id, bond_usd_micros))
    provider.run(registry.set_node(provider_id, Web3.to_checksum_address(node_key), metadata))
    return provider_id
