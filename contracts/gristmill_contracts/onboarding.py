"""How a renter, a provider and a recipe's author come onto the chain."""

import secrets

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3

from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Authorization, Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.signing import OPENING_TYPE, WITHDRAWAL_TYPE, Domain, TypedMessage, sign

# https://eips.ethereum.org/EIPS/eip-3009
RECEIVE_AUTHORIZATION_TYPE = TypedMessage(
    "ReceiveWithAuthorization",
    (
        ("address", "from"),
        ("address", "to"),
        ("uint256", "value"),
        ("uint256", "validAfter"),
        ("uint256", "validBefore"),
        ("bytes32", "nonce"),
    ),
)


def sign_opening(key: LocalAccount, ledger: Domain, *, owner: str, coordinator: int) -> str:
    """The key's consent to its account: only owner can withdraw, only coordinator can settle."""
    return sign(key, ledger, OPENING_TYPE, {"key": key.address, "owner": owner, "coordinator": coordinator})


def sign_withdrawal(owner: LocalAccount, ledger: Domain, *, key: str, amount_usd_micros: int, request: int) -> str:
    """The owner's wish to withdraw, for anybody to hand in; request is Account.requests as it stands."""
    return sign(owner, ledger, WITHDRAWAL_TYPE, {"key": key, "amount": amount_usd_micros, "request": request})


def authorize_deposit(
    payer: LocalAccount, token: Domain, ledger: str, *, key: str, amount_usd_micros: int, valid_before_s: int
) -> Authorization:
    """The payer's EIP-3009 signature over a payment into key's account, for anybody to hand in."""
    salt = secrets.token_bytes(32)
    message = {
        "from": payer.address,
        "to": ledger,
        "value": amount_usd_micros,
        "validAfter": 0,
        "validBefore": valid_before_s,
        "nonce": keccak(encode(["address", "bytes32"], [key, salt])),
    }
    signature = sign(payer, token, RECEIVE_AUTHORIZATION_TYPE, message)
    return Authorization(str(payer.address), amount_usd_micros, 0, valid_before_s, salt, signature)


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
    relayer.run(ledger.open(key.address, owner=owner, coordinator=deployment.coordinator_id, signature=opening))
    fund(relayer, deployment, key, amount_usd_micros)


def fund(relayer: Sender, deployment: Deployment, key: LocalAccount, amount_usd_micros: int) -> None:
    """Pay fresh test money into an open account; the renter signs and needs no gas."""
    w3 = relayer.w3
    ledger, token = Ledger(w3, deployment.ledger), TestUSD(w3, deployment.token)
    relayer.run(token.mint(key.address, amount_usd_micros))
    authorization = authorize_deposit(
        key,
        token.domain(),
        ledger.address,
        key=key.address,
        amount_usd_micros=amount_usd_micros,
        valid_before_s=w3.eth.get_block("latest")["timestamp"] + 3600,
    )
    relayer.run(ledger.deposit_with_authorization(key.address, authorization))


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
