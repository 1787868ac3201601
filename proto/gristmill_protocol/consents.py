"""What a key signs to move money of its own, made ready to be handed in by anybody (wallet.py says what each is)."""

import secrets

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from gristmill_protocol.signing import (
    OPENING_TYPE,
    RECEIVE_AUTHORIZATION_TYPE,
    WITHDRAWAL_TYPE,
    Domain,
    TypedMessage,
    sign,
)
from gristmill_protocol.wallet import Authorization, Permit, SignedOpening, SignedWithdrawal

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


def sign_opening(key: LocalAccount, ledger: Domain, *, owner: str, coordinator: int) -> SignedOpening:
    """The key's consent to its account: only owner can withdraw, only coordinator can settle."""
    message = {"key": key.address, "owner": owner, "coordinator": coordinator}
    return SignedOpening(owner=owner, signature=sign(key, ledger, OPENING_TYPE, message))


def sign_withdrawal(
    owner: LocalAccount, ledger: Domain, *, key: str, amount_usd_micros: int, request: int
) -> SignedWithdrawal:
    """The owner's wish to withdraw from key's account; request is the number of its requests so far."""
    message = {"key": key, "amount": amount_usd_micros, "request": request}
    signature = sign(owner, ledger, WITHDRAWAL_TYPE, message)
    return SignedWithdrawal(key=key, amount_usd_micros=amount_usd_micros, request=request, signature=signature)


def authorize_deposit(
    payer: LocalAccount, token: Domain, collector: str, *, key: str, amount_usd_micros: int, valid_before_s: int
) -> Authorization:
    """The payer's EIP-3009 signature over a payment into key's account, through this collector and no other."""
    salt = secrets.token_bytes(32)
    message = {
        "from": payer.address,
        "to": collector,
        "value": amount_usd_micros,
        "validAfter": 0,
        "validBefore": valid_before_s,
        "nonce": keccak(bytes.fromhex(key[2:]).rjust(32, b"\0") + salt),  # abi.encode(address, bytes32)
    }
    return Authorization(
        payer=payer.address,
        amount_usd_micros=amount_usd_micros,
        valid_after_s=0,
        valid_before_s=valid_before_s,
        salt="0x" + salt.hex(),
        signature=sign(payer, token, RECEIVE_AUTHORIZATION_TYPE, message),
    )


def permit_deposit(
    payer: LocalAccount,
    token: Domain,
    collector: Domain,
    *,
    key: str,
    amount_usd_micros: int,
    deadline_s: int,
    permit_nonce: int,
    deposit_nonce: int,
) -> Permit:
    """The payer's EIP-2612 permit, and its signature over which account the payment is for.

    Args:
        permit_nonce: the token's count of the payer's permits.
        deposit_nonce: the collector's count of the payer's deposits.
    """
    terms = {"value": amount_usd_micros, "deadline": deadline_s}
    permit = {"owner": payer.address, "spender": collector.contract, "nonce": permit_nonce, **terms}
    deposit = {"from": payer.address, "key": key, "nonce": deposit_nonce, **terms}
    return Permit(
        payer=payer.address,
        amount_usd_micros=amount_usd_micros,
        deadline_s=deadline_s,
        permit_signature=sign(payer, token, PERMIT_TYPE, permit),
        deposit_signature=sign(payer, collector, DEPOSIT_TYPE, deposit),
    )
