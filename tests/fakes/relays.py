"""What the Ledger and its collector do with what others signed, for the chain in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from gristmill_coordinator.chain.port import (
    AccountState,
    DepositCall,
    OpenCall,
    RelayCall,
    RequestWithdrawalCall,
    WithdrawCall,
)
from gristmill_protocol.errors import BadSignature
from gristmill_protocol.signing import (
    OPENING_TYPE,
    RECEIVE_AUTHORIZATION_TYPE,
    WITHDRAWAL_TYPE,
    Domain,
    TypedMessage,
    recover,
)
from gristmill_protocol.wallet import WITHDRAWAL_DELAY_S, Authorization

if TYPE_CHECKING:
    from fakes.chain import FakeChain


def refusal(chain: FakeChain, call: RelayCall) -> str:
    """The error with which the contract would refuse; "" if it would not."""
    match call:
        case OpenCall():
            return _open_refusal(chain, call)
        case DepositCall():
            return _deposit_refusal(chain, call)
        case RequestWithdrawalCall(signed=by):
            requests = chain.state.requests.get(by.key.lower(), 0)
            message = {"key": by.key, "amount": by.amount_usd_micros, "request": requests}
            owner = chain.state.accounts[by.key.lower()].owner
            signed = _signed(chain.info.ledger_domain, WITHDRAWAL_TYPE, message, by.signature, owner)
            return "" if signed else f"NotSignedBy(expected={owner})"
        case WithdrawCall(key=key):
            _, unlock_at_s = chain.state.withdrawals.get(key.lower(), (0, 0))
            if not unlock_at_s:
                return f"NothingPending(key={key})"
            return "" if chain.clock() >= unlock_at_s else f"StillLocked(key={key}, unlockAt={unlock_at_s})"


def carry_out(chain: FakeChain, call: RelayCall) -> None:
    """What the call does that would not be refused."""
    state = chain.state
    match call:
        case OpenCall(key=key, opening=by):
            coordinator = chain.info.coordinator_id
            state.accounts[key.lower()] = AccountState(0, to_checksum_address(by.owner), coordinator)
            chain.emit("ledger", "AccountOpened", key=key, owner=by.owner, coordinator=coordinator)
        case DepositCall(key=key, by=by):
            assert isinstance(by, Authorization)
            state.tokens[by.payer.lower()] -= by.amount_usd_micros
            state.used.add(by.salt)
            _add(chain, key, by.amount_usd_micros)
            collector = chain.info.collectors["erc3009"]
            chain.emit("ledger", "Deposited", **{"key": key, "from": collector, "amount": by.amount_usd_micros})
        case RequestWithdrawalCall(signed=by):
            amount, key = by.amount_usd_micros, by.key.lower()
            unlock_at_s = int(chain.clock()) + WITHDRAWAL_DELAY_S if amount else 0
            state.withdrawals[key] = (amount, unlock_at_s)
            state.requests[key] = state.requests.get(key, 0) + 1
            chain.emit("ledger", "WithdrawalRequested", key=by.key, amount=amount, unlockAt=unlock_at_s)
        case WithdrawCall(key=key):
            account = state.accounts[key.lower()]
            amount = min(state.withdrawals.pop(key.lower())[0], account.balance_usd_micros)
            _add(chain, key, -amount)
            state.tokens[account.owner.lower()] = state.tokens.get(account.owner.lower(), 0) + amount
            chain.emit("ledger", "Withdrawn", key=key, owner=account.owner, amount=amount)


def _open_refusal(chain: FakeChain, call: OpenCall) -> str:
    if call.key.lower() in chain.state.accounts:
        return f"AlreadyOpen(key={call.key})"
    message = {"key": call.key, "owner": call.opening.owner, "coordinator": chain.info.coordinator_id}
    signed = _signed(chain.info.ledger_domain, OPENING_TYPE, message, call.opening.signature, call.key)
    return "" if signed else f"NotSignedBy(expected={call.key})"


def _deposit_refusal(chain: FakeChain, call: DepositCall) -> str:
    by = call.by
    assert isinstance(by, Authorization)
    message = {
        "from": by.payer,
        "to": chain.info.collectors["erc3009"],
        "value": by.amount_usd_micros,
        "validAfter": by.valid_after_s,
        "validBefore": by.valid_before_s,
        "nonce": keccak(encode(["address", "bytes32"], [call.key, bytes.fromhex(by.salt[2:])])),
    }
    if not by.valid_after_s < chain.clock() < by.valid_before_s:
        return "ERC3009InvalidAuthorizationTime()"
    if by.salt in chain.state.used:
        return f"ERC3009UsedAuthorization(payer={by.payer})"
    if not _signed(chain.token, RECEIVE_AUTHORIZATION_TYPE, message, by.signature, by.payer):
        return "ERC3009InvalidSignature()"
    if chain.state.tokens.get(by.payer.lower(), 0) < by.amount_usd_micros:
        return f"ERC20InsufficientBalance(sender={by.payer})"
    return "" if call.key.lower() in chain.state.accounts else f"NotOpen(key={call.key})"


def _signed(domain: Domain, kind: TypedMessage, message: dict[str, object], signature: str, expected: str) -> bool:
    try:
        return recover(domain, kind, message, signature).lower() == expected.lower()
    except BadSignature:
        return False


def _add(chain: FakeChain, key: str, usd_micros: int) -> None:
    account = chain.state.accounts[key.lower()]
    chain.state.accounts[key.lower()] = replace(account, balance_usd_micros=account.balance_usd_micros + usd_micros)
    chain.state.held += usd_micros
