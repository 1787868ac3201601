"""Money in and out of an account: what is signed for it, for anybody to hand in, and what is told of it.

Whoever hands these in pays the gas and can change nothing: each names its account, its amount and its contract.
"""

from typing import Annotated, Literal

from pydantic import Field

from gristmill_protocol.jobs import Address, Hex, Message, UsdMicros

Bytes32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^0x[0-9a-f]{130}$")]  # r || s || v
Seconds = Annotated[int, Field(ge=0, lt=2**48)]  # unix time
Amount = Annotated[int, Field(gt=0, lt=2**96)]  # micro-USD

WITHDRAWAL_DELAY_S = 86_400  # contracts/src/Ledger.sol


class SignedOpening(Message):
    """The key's consent to its account: only owner can withdraw."""

    owner: Address
    signature: Signature


class Authorization(Message):
    """EIP-3009: the holder's signature over a payment to the collector; its nonce names the account."""

    kind: Literal["erc3009"] = "erc3009"
    payer: Address
    amount_usd_micros: Amount
    valid_after_s: Seconds
    valid_before_s: Seconds
    salt: Bytes32
    signature: Signature


class Permit(Message):
    """EIP-2612: the holder's permit for the collector, and its second signature that names the account."""

    kind: Literal["permit"] = "permit"
    payer: Address
    amount_usd_micros: Amount
    deadline_s: Seconds
    permit_signature: Signature
    deposit_signature: Signature


class Permit2(Message):
    """Permit2: the holder's signature, whose witness names the account."""

    kind: Literal["permit2"] = "permit2"
    payer: Address
    amount_usd_micros: Amount
    nonce: Bytes32
    deadline_s: Seconds
    signature: Signature


SignedDeposit = Annotated[Authorization | Permit | Permit2, Field(discriminator="kind")]


class SignedWithdrawal(Message):
    """The owner's wish to withdraw from a key's account; 0 takes an earlier one back."""

    key: Address
    amount_usd_micros: UsdMicros
    request: int = Field(ge=0, lt=2**32)  # AccountView.withdrawal_requests as it stood
    signature: Hex = Field(max_length=10_000)  # as long as the owner's contract likes


class DepositTerms(Message):
    """What is needed to sign deposits, and whether the coordinator hands them in."""

    sponsored: bool  # the coordinator pays the gas
    least_usd_micros: UsdMicros  # of a sponsored deposit
    token_name: str  # of the token's EIP-712 domain, and its version
    token_version: str
    erc3009: Address | None  # collectors; None: there is none
    permit: Address | None
    permit2: Address | None


class DepositTarget(Message):
    """Where a deposit goes, as a person is shown it before it signs."""

    ledger: Address
    token: Address
    least_usd_micros: UsdMicros
    gas: str  # who pays it


class RelayView(Message):
    """What became of something that was handed in."""

    relay_id: str
    kind: Literal["open", "deposit", "request_withdrawal", "withdraw"]
    state: Literal["pending", "done", "failed"]
    reason: str  # why it failed
    tx: str | None  # its newest transaction's hash


class Movement(Message):
    """One thing that happened to an account on chain."""

    kind: Literal["opened", "deposit", "award", "payment", "withdrawal_asked", "withdrawal_cancelled", "withdrawal"]
    amount_usd_micros: UsdMicros
    at_s: int  # unix time of its block
    tx: str
    job_id: str | None = None  # what a payment paid for
    job_name: str = ""


class HistoryView(Message):
    """Newest first."""

    movements: tuple[Movement, ...]
    before: str | None  # where the next page begins; None: that was all
