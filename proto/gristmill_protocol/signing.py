"""EIP-712 messages: who signs what, over which fields, and how a signature is checked.

Renters sign orders and statements in the Ledger's domain; nodes sign records, receipts, greetings and what
they commit to as verifiers in the Registry's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import BadSignature
from gristmill_protocol.jobs import Order, Reservation, Statement

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TypedMessage:
    """An EIP-712 struct type: its name and (type, name) of each field in order."""

    name: str
    fields: Fields


STATEMENT_TYPE = TypedMessage("Statement", (("uint32", "nonce"), ("uint40", "deadline"), ("bytes", "lines")))
RESERVATION_TYPE = TypedMessage(
    "Reservation",
    (
        ("address", "key"),
        ("uint32", "coordinator"),
        ("uint32", "provider"),
        ("uint32", "nonce"),
        ("uint96", "cap"),
        ("uint96", "accepted"),
        ("uint40", "forcedFrom"),
    ),
)
# Signed by a fresh account's key, so that nobody else opens it in their own name.
OPENING_TYPE = TypedMessage("Opening", (("address", "key"), ("address", "owner"), ("uint32", "coordinator")))
# Signed by the account's owner; request is the number of the owner's requests so far.
WITHDRAWAL_TYPE = TypedMessage("Withdrawal", (("address", "key"), ("uint96", "amount"), ("uint32", "request")))
# Signed by who holds the tokens: https://eips.ethereum.org/EIPS/eip-3009
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
ORDER_TYPE = TypedMessage(
    "Order",
    (
        ("address", "key"),
        ("uint32", "coordinator"),
        ("bytes32", "specDigest"),
        ("uint96", "cap"),
        ("uint32", "nonce"),
        ("uint40", "deadline"),
    ),
)
SEGMENT_RECORD_TYPE = TypedMessage(
    "SegmentRecord",
    (
        ("bytes32", "job"),
        ("uint32", "index"),
        ("uint64", "stepFrom"),
        ("uint64", "stepTo"),
        ("bytes32", "stateRootPrev"),
        ("bytes32", "stateRoot"),
        ("bytes32", "dataRoot"),
        ("bytes32", "metricsRoot"),
        ("bytes32", "microRoot"),
        ("uint64", "startedMs"),
        ("uint64", "endedMs"),
        ("bytes32", "numericClass"),
    ),
)
RECEIPT_TYPE = TypedMessage(
    "Receipt", (("bytes32", "attempt"), ("uint32", "number"), ("uint64", "steps"), ("uint64", "gpuMs"))
)
# A verifier's, before it says what came out; digest is commitments.answer_digest.
AUDIT_COMMITMENT_TYPE = TypedMessage("AuditCommitment", (("bytes32", "audit"), ("bytes32", "digest")))
# A node's, of what happened to its machine during an attempt; digest is SHA-256 of their JSON.
INCIDENTS_TYPE = TypedMessage("Incidents", (("bytes32", "attempt"), ("bytes32", "digest")))
GREETING_TYPE = TypedMessage("Greeting", (("bytes32", "challenge"), ("uint32", "provider")))


@dataclass(frozen=True)
class Domain:
    """An EIP-712 domain: one contract on one chain, so that nothing can be replayed on another."""

    name: str
    chain_id: int
    contract: str  # address
    version: str = "1"

    @staticmethod
    def ledger(chain_id: int, contract: str) -> "Domain":
        return Domain("Gristmill Ledger", chain_id, contract)

    @staticmethod
    def registry(chain_id: int, contract: str) -> "Domain":
        return Domain("Gristmill Registry", chain_id, contract)

    @staticmethod
    def anywhere() -> "Domain":
        """For what no contract ever reads and ids make unique."""
        return Domain("Gristmill", 0, "0x" + "00" * 20)


def sign(account: LocalAccount, domain: Domain, kind: TypedMessage, message: Mapping[str, object]) -> str:
    """0x-prefixed hex of the 65-byte signature r || s || v."""
    signed = account.sign_message(_signable(domain, kind, message))
    return "0x" + bytes(signed.signature).hex()


def recover(domain: Domain, kind: TypedMessage, message: Mapping[str, object], signature: str) -> str:
    """Checksummed address that signed.

    Raises:
        BadSignature: not a signature at all.
    """
    try:
        signer: str = Account.recover_message(_signable(domain, kind, message), signature=signature)
    except Exception as err:  # eth-account raises many unrelated types for malformed signatures
        raise BadSignature(f"The signature of the {kind.name.lower()} cannot be read.") from err
    return signer


def require_signer(
    domain: Domain, kind: TypedMessage, message: Mapping[str, object], signature: str, expected: str
) -> None:
    """Raises:
    BadSignature: somebody other than expected signed.
    """
    signer = recover(domain, kind, message, signature)
    if signer.lower() != expected.lower():
        raise BadSignature(f"The {kind.name.lower()} was signed by {signer}, not by {expected}.")


def struct_hash(kind: TypedMessage, message: Mapping[str, object]) -> bytes:
    """EIP-712 hashStruct: keccak(typeHash || encoded fields)."""
    return bytes(_signable(Domain("", 0, "0x" + "00" * 20), kind, message).body)


def statement_message(statement: Statement) -> dict[str, object]:
    return {"nonce": statement.nonce, "deadline": statement.deadline_s, "lines": encode_lines(statement)}


def encode_lines(statement: Statement) -> bytes:
    """24 bytes a line: provider u32, verifier u32, recipe u32, amount u96, big-endian."""
    return b"".join(
        line.provider.to_bytes(4, "big")
        + line.verifier.to_bytes(4, "big")
        + line.recipe.to_bytes(4, "big")
        + line.amount_usd_micros.to_bytes(12, "big")
        for line in statement.lines
    )


def encode_statement(statement: Statement, signature: str) -> bytes:
    """Wire form for Ledger.settle: r, vs (EIP-2098), nonce u32, deadline u40, line count u16, lines.

    Raises:
        BadSignature: not 65 bytes r || s || v.
    """
    head = b"".join(compact_signature(signature)) + statement.nonce.to_bytes(4, "big")
    head += statement.deadline_s.to_bytes(5, "big") + len(statement.lines).to_bytes(2, "big")
    return head + encode_lines(statement)


def compact_signature(signature: str) -> tuple[bytes, bytes]:
    """A signature as r and vs, 32 bytes each (EIP-2098).

    Raises:
        BadSignature: not 65 bytes r || s || v.
    """
    raw = bytes.fromhex(signature.removeprefix("0x"))
    if len(raw) != 65 or raw[64] not in (27, 28):
        raise BadSignature("A signature that goes on chain must be 65 bytes ending in 27 or 28.")
    vs = int.from_bytes(raw[32:64], "big") | ((raw[64] - 27) << 255)
    return raw[:32], vs.to_bytes(32, "big")


def order_message(order: Order) -> dict[str, object]:
    return {
        "key": order.key,
        "coordinator": order.coordinator,
        "specDigest": bytes.fromhex(order.spec_digest),
        "cap": order.cap_usd_micros,
        "nonce": order.nonce,
        "deadline": order.deadline_s,
    }


def reservation_message(reservation: Reservation) -> dict[str, object]:
    return {
        "key": reservation.key,
        "coordinator": reservation.coordinator,
        "provider": reservation.provider,
        "nonce": reservation.nonce,
        "cap": reservation.cap_usd_micros,
        "accepted": reservation.accepted_usd_micros,
        "forcedFrom": reservation.forced_from_s,
    }


def _signable(domain: Domain, kind: TypedMessage, message: Mapping[str, object]) -> SignableMessage:
    return encode_typed_data(
        domain_data={
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        message_types={kind.name: [{"type": type_, "name": name} for type_, name in kind.fields]},
        message_data=dict(message),
    )
