"""How a renter, a provider and a recipe's author come onto the chain."""

import secrets
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3

from gristmill_contracts.collectors import Authorization, Erc3009Collector, Permit2Transfer, PermittedDeposit
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Registry
from gristmill_contracts.test_usd import TestUSD
from gristmill_protocol.signing import (
    OPENING_TYPE,
    RECEIVE_AUTHORIZATION_TYPE,
    WITHDRAWAL_TYPE,
    Domain,
    TypedMessage,
    sign,
)

# https://eips.ethereum.org/EIPS/eip-2612
PERMIT_TYPE = TypedMessage(
    "Permit",
    (("address", "owner"), ("address", "spender"), ("uint256", "value"), ("uint256", "nonce"), ("uint256", "deadline")),
)
# contracts/src/collectors/PermitCollector.sol
DEPOSIT_TYPE = TypedMessage(
    "Deposit",
    (("address", "from"), ("address", "key"), ("uint256", "value"), ("uint256", "nonce"), ("uint256", "deadline")),
)
# https://docs.uniswap.org/contracts/permit2/reference/signature-transfer, with the witness of Permit2Collector.sol
_PERMIT2_TYPES = {
    "PermitWitnessTransferFrom": [
        {"name": "permitted", "type": "TokenPermissions"},
        {"name": "spender", "type": "address"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
        {"name": "witness", "type": "Deposit"},
    ],
    "TokenPermissions": [{"name": "token", "type": "address"}, {"name": "amount", "type": "uint256"}],
    "Deposit": [{"name": "key", "type": "address"}],
}


@dataclass(frozen=True)
class Payment:
    """What a payer signs, whichever way."""

    key: str  # whose account it is for
    amount_usd_micros: int
    deadline_s: int  # unix time until which it can be handed in


def sign_opening(key: LocalAccount, ledger: Domain, *, owner: str, coordinator: int) -> str:
    """The key's consent to its account: only owner can withdraw, only coordinator can settle."""
    return sign(key, ledger, OPENING_TYPE, {"key": key.address, "owner": owner, "coordinator": coordinator})


def sign_withdrawal(owner: LocalAccount, ledger: Domain, *, key: str, amount_usd_micros: int, request: int) -> str:
    """The owner's wish to withdraw, for anybody to hand in; request is Account.requests as it stands."""
    return sign(owner, ledger, WITHDRAWAL_TYPE, {"key": key, "amount": amount_usd_micros, "request": request})


def authorize_deposit(
    payer: LocalAccount, token: Domain, collector: str, *, key: str, amount_usd_micros: int, valid_before_s: int
) -> Authorization:
    """The payer's EIP-3009 signature over a payment into key's account, for anybody to hand in at the collector."""
    salt = secrets.token_bytes(32)
    message = {
        "from": payer.address,
        "to": collector,
        "value": amount_usd_micros,
        "validAfter": 0,
        "validBefore": valid_before_s,
        "nonce": keccak(encode(["address", "bytes32"], [key, salt])),
    }
    signature = sign(payer, token, RECEIVE_AUTHORIZATION_TYPE, message)
    return Authorization(str(payer.address), amount_usd_micros, 0, valid_before_s, salt, signature)


def permit_deposit(
    payer: LocalAccount, payment: Payment, *, token: Domain, permit_nonce: int, collector: Domain, deposit_nonce: int
) -> PermittedDeposit:
    """The payer's two signatures over a payment, for anybody to hand in at a PermitCollector.

    Args:
        token: its domain; the permit is signed in it.
        permit_nonce: the token's count of the payer's permits.
        collector: its domain; which account is meant is signed in it.
        deposit_nonce: the collector's count of the payer's deposits.
    """
    value, deadline_s = payment.amount_usd_micros, payment.deadline_s
    permit = {"owner": payer.address, "spender": collector.contract, "nonce": permit_nonce}
    deposit = {"from": payer.address, "key": payment.key, "nonce": deposit_nonce}
    terms = {"value": value, "deadline": deadline_s}
    return PermittedDeposit(
        str(payer.address),
        value,
        deadline_s,
        sign(payer, token, PERMIT_TYPE, permit | terms),
        sign(payer, collector, DEPOSIT_TYPE, deposit | terms),
    )


def permit2_deposit(
    payer: LocalAccount, payment: Payment, *, token: str, collector: str, permit2: str, chain_id: int
) -> Permit2Transfer:
    """The payer's Permit2 signature over a payment, for anybody to hand in at a Permit2Collector."""
    nonce = secrets.randbits(256)
    message = {
        "permitted": {"token": token, "amount": payment.amount_usd_micros},
        "spender": collector,
        "nonce": nonce,
        "deadline": payment.deadline_s,
        "witness": {"key": payment.key},
    }
    # Permit2's domain has no version, unlike all of gristmill_protocol.signing's.
    domain = {"name": "Permit2", "chainId": chain_id, "verifyingContract": permit2}
    signed = payer.sign_message(encode_typed_data(domain, _PERMIT2_TYPES, message))
    signature = "0x" + bytes(signed.signature).hex()
    return Permit2Transfer(str(payer.address), payment.amount_usd_micros, nonce, payment.deadline_s, signature)


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
