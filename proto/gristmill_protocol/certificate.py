"""The training certificate: an in-toto Statement v1 about a model's files, in a DSSE envelope.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Envelope:  https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

Each signature is EIP-191's personal_sign over the envelope's PAE, 65 bytes r || s || v with s in the lower half and
v 27 or 28, and its keyid the EIP-55 address of the key: what every wallet makes and checks, and what can't be taken for
a transaction or an EIP-712 message. The coordinator's operator signs first, then each machine that the statement names
as signing, in its order. Statement and envelope are canonical JSON: any other spelling of them is refused, so that
there is one file for a certificate, and no byte of it that doesn't count.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Literal

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, Field, ValidationError

from gristmill_protocol.api import WindowEvidence
from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.errors import BadData, BadSignature
from gristmill_protocol.jobs import (
    Address,
    AttemptState,
    Bill,
    Hex,
    Message,
    Sha256Hex,
    SlashView,
    StatementLine,
)
from gristmill_protocol.modes import Mode

PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
FILE = "certificate.json"  # beside the model's files

# Half the order of secp256k1: of the two signatures that hold, the one with the higher s is refused (EIP-2).
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class DataUsed(Message):
    """What was trained on; root is over the digests of its examples, as the recipe.lock says."""

    sha256: Sha256Hex
    size_bytes: int
    root: Sha256Hex | None


class RecipeUsed(Message):
    id: str
    version: str | None  # as the recipe.lock says; None: there is none
    ledger_id: int
    lock_sha256: Sha256Hex | None  # of recipe.lock, which names all that it takes to train the same bits again


class AttemptPart(Message):
    """One machine's turn."""

    attempt_id: str
    number: int
    state: AttemptState
    reason: str
    provider: int
    provider_name: str
    node_id: str
    node_key: Address  # signs the records
    device: str  # as the machine says
    sandbox: str
    numeric_class: Sha256Hex
    step_from: int
    step_to: int


class WindowPart(Message):
    """A window that was judged; records only of one that counts."""

    evidence: WindowEvidence
    records: tuple[SignedRecord, ...]
    reason: str  # why it is void


class Payment(Message):
    """What was paid, and to whom: lines are the renter's statement, the bill divides them."""

    bill: Bill | None  # None: nothing was paid
    nonce: int
    lines: tuple[StatementLine, ...]


class Market(Message):
    """Where it was paid, and who vouches: operator is the coordinator's key."""

    chain_id: int
    ledger: Address
    registry: Address
    coordinator: int
    operator: Address


class Asked(Message):
    """A machine that was asked to sign, and whether it did."""

    node_id: str
    key: Address
    provider: int
    signed: bool
    reason: str  # why it did not


class Certificate(Message):
    """The predicate: how the model came to be."""

    job_id: str
    mode: Mode
    guarantee: str
    data: DataUsed
    recipe: RecipeUsed
    base_model: str | None  # None: from nothing
    seed: int
    settings_sha256: Sha256Hex  # of the canonical JSON of the resolved settings
    steps: int
    initial_state_root: Sha256Hex | None
    final_state_root: Sha256Hex | None
    attempts: tuple[AttemptPart, ...]
    windows: tuple[WindowPart, ...]
    slashes: tuple[SlashView, ...]
    payment: Payment
    market: Market
    asked: tuple[Asked, ...]
    not_verified: tuple[str, ...]  # sentences
    issued_s: int


class Digest(Message):
    sha256: Sha256Hex


class Subject(Message):
    name: str
    digest: Digest


class CertificateStatement(Message):
    """The in-toto Statement."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: Literal["https://in-toto.io/Statement/v1"] = Field(default="https://in-toto.io/Statement/v1", alias="_type")
    subject: tuple[Subject, ...]
    predicate_type: Literal["urn:gristmill:training-certificate:v1"] = Field(
        default="urn:gristmill:training-certificate:v1", alias="predicateType"
    )
    predicate: Certificate

    def payload(self) -> bytes:
        """What is signed, and what the envelope carries."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def signers(self) -> tuple[str, ...]:
        """The keys whose signatures the envelope has to carry, in order."""
        return (self.predicate.market.operator, *(one.key for one in self.predicate.asked if one.signed))

    @staticmethod
    def read(payload: bytes) -> "CertificateStatement":
        """Raises:
        BadData: it is no statement of ours, or not spelt as we spell it.
        """
        try:
            statement = CertificateStatement.model_validate_json(payload)
        except ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the statement"
            raise BadData(f"What is signed is no training certificate: {place}: {first['msg']}.") from err
        if statement.payload() != payload:
            raise BadData("What is signed is not written the one way that a certificate is written.")
        return statement


class Signature(Message):
    keyid: str
    sig: str  # base64


class Envelope(Message):
    """The DSSE envelope; certificate.json holds its canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    payload: str  # base64
    payload_type: Literal["application/vnd.in-toto+json"] = Field(default=PAYLOAD_TYPE, alias="payloadType")
    signatures: tuple[Signature, ...]

    @staticmethod
    def of(payload: bytes, signatures: Sequence[tuple[str, str]]) -> "Envelope":
        """An envelope of (address, 0x-hex signature) pairs."""
        made = [Signature(keyid=key, sig=_base64(bytes.fromhex(sig.removeprefix("0x")))) for key, sig in signatures]
        return Envelope(payload=_base64(payload), signatures=tuple(made))

    def file(self) -> bytes:
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def content(self) -> bytes:
        """Raises:
        BadData: the payload is no base64.
        """
        return _from_base64(self.payload, "The payload")

    @staticmethod
    def read(file: bytes) -> "Envelope":
        """Raises:
        BadData: it is no envelope, or not spelt as we spell it.
        """
        try:
            envelope = Envelope.model_validate_json(file)
        except ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise BadData(f"{FILE} is no signed envelope: {place}: {first['msg']}.") from err
        if envelope.file() != file:
            raise BadData(f"{FILE} is not written the one way that a certificate is written: a byte was changed.")
        return envelope


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed, type and all."""
    kind = payload_type.encode()
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


def sign(account: LocalAccount, payload: bytes) -> Hex:
    """0x-prefixed hex of the 65-byte signature of a statement."""
    signed = account.sign_message(encode_defunct(pae(PAYLOAD_TYPE, payload)))
    return "0x" + bytes(signed.signature).hex()


def signer(payload: bytes, signature: str) -> str:
    """The EIP-55 address that signed a statement; of other bytes or a changed signature, some address or none.

    Args:
        signature: 0x-prefixed hex.
    Raises:
        BadSignature: it is no signature.
    """
    raw = bytes.fromhex(signature.removeprefix("0x"))
    if len(raw) != 65 or raw[64] not in (27, 28) or int.from_bytes(raw[32:64], "big") > _HALF_ORDER:
        raise BadSignature("A certificate's signature must be 65 bytes r, s, v with a low s.")
    try:
        found: str = Account.recover_message(encode_defunct(pae(PAYLOAD_TYPE, payload)), signature=raw)
    except Exception as err:  # eth-account raises many unrelated types for malformed signatures
        raise BadSignature("The signature of the certificate cannot be read.") from err
    return found


def require_signed(envelope: Envelope, payload: bytes, expected: Sequence[str]) -> None:
    """That exactly these keys signed, in this order.

    Raises:
        BadSignature: naming the first that does not fit.
    """
    found = [one.keyid for one in envelope.signatures]
    for key in expected:
        if key not in found:
            others = f"; it is signed by {', '.join(found)}" if found else ""
            raise BadSignature(f"The signature of {key} is missing, which the statement names as signing{others}.")
    if found != list(expected):
        raise BadSignature(f"It is signed by {', '.join(found)}, but the statement names {', '.join(expected)}.")
    for one in envelope.signatures:
        who = signer(payload, "0x" + _from_base64(one.sig, f"The signature of {one.keyid}").hex())
        if who != one.keyid:
            what = "the statement or the signature was changed"
            raise BadSignature(f"The signature of {one.keyid} does not match what is signed: {what}.")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _from_base64(text: str, what: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadData(f"{what} is no base64: {err}.") from err
    if _base64(content) != text:
        raise BadData(f"{what} is not written the one way that base64 is written: a byte was changed.")
    return content
