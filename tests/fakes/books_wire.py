"""What a statement looks like and what is signed, written out by hand for the model of the books (fakes/books.py)."""

from dataclasses import dataclass

from coincurve import PublicKey
from eth_utils.crypto import keccak

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # secp256k1's n // 2
HEAD_BYTES, LINE_BYTES = 75, 24


class Reverted(Exception):
    """The call changes nothing and ends with a custom error."""

    def __init__(self, error: str, *values: int) -> None:
        super().__init__(error, *values)
        self.error, self.values = error, values


@dataclass(frozen=True)
class Line:
    provider: int
    verifier: int
    recipe: int
    amount: int


@dataclass(frozen=True)
class Statement:
    """One statement as it lies in a batch."""

    offset: int
    r: int
    vs: int
    nonce: int
    deadline: int
    packed_lines: bytes

    @property
    def end(self) -> int:
        return self.offset + HEAD_BYTES + len(self.packed_lines)

    def lines(self) -> list[Line]:
        starts = range(0, len(self.packed_lines), LINE_BYTES)
        return [_line(self.packed_lines[start : start + LINE_BYTES]) for start in starts]


def read_batch(batch: bytes) -> list[Statement]:
    """All its statements; it must end with the last one."""
    statements: list[Statement] = []
    while (offset := statements[-1].end if statements else 0) < len(batch):
        statements.append(read_statement(batch, offset))
    return statements


def read_statement(batch: bytes, offset: int) -> Statement:
    head = batch[offset : offset + HEAD_BYTES]
    parts = (head[:32], head[32:64], head[64:68], head[68:73], head[73:])
    r, vs, nonce, deadline, count = (int.from_bytes(part, "big") for part in parts)
    start = offset + HEAD_BYTES
    end = start + count * LINE_BYTES
    if start > len(batch) or end > len(batch):
        raise Reverted("TruncatedStatement", offset)
    return Statement(offset, r, vs, nonce, deadline, batch[start:end])


def _line(packed: bytes) -> Line:
    parts = (packed[:4], packed[4:8], packed[8:12], packed[12:])
    return Line(*(int.from_bytes(part, "big") for part in parts))


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def domain_separator(chain_id: int, address: int) -> bytes:
    kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    return keccak(kind + keccak(b"Gristmill Ledger") + keccak(b"1") + word(chain_id) + word(address))


def opening_hash(key: int, owner: int, coordinator: int) -> bytes:
    kind = keccak(b"Opening(address key,address owner,uint32 coordinator)")
    return keccak(kind + word(key) + word(owner) + word(coordinator))


def withdrawal_hash(key: int, amount: int, request: int) -> bytes:
    kind = keccak(b"Withdrawal(address key,uint96 amount,uint32 request)")
    return keccak(kind + word(key) + word(amount) + word(request))


def statement_hash(nonce: int, deadline: int, packed_lines: bytes) -> bytes:
    kind = keccak(b"Statement(uint32 nonce,uint40 deadline,bytes lines)")
    return keccak(kind + word(nonce) + word(deadline) + keccak(packed_lines))


def reservation_hash(key: int, coordinator: int, nonce: int, terms: list[int]) -> bytes:
    """terms: provider, cap, accepted, forced_from."""
    provider, cap, accepted, forced_from = terms
    kind = keccak(
        b"Reservation(address key,uint32 coordinator,uint32 provider,uint32 nonce,"
        b"uint96 cap,uint96 accepted,uint40 forcedFrom)"
    )
    values = (key, coordinator, provider, nonce, cap, accepted, forced_from)
    return keccak(kind + b"".join(map(word, values)))


def unpack_compact(r: int, vs: int) -> bytes:
    """r || s || v of a signature in EIP-2098's form."""
    return word(r) + word(vs % 2**255) + bytes([27 + (vs >> 255)])


def recover(digest: bytes, signature: bytes) -> int:
    """The address that signed: 65 bytes r || s || v, with s in the lower half so that there is one signature only."""
    if len(signature) != 65:
        raise Reverted("ECDSAInvalidSignatureLength", len(signature))
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    if s > HALF_ORDER:
        raise Reverted("ECDSAInvalidSignatureS", s)
    if v not in (27, 28):
        raise Reverted("ECDSAInvalidSignature")
    try:
        public = PublicKey.from_signature_and_message(signature[:64] + bytes([v - 27]), digest, hasher=None)
    except Exception as err:  # coincurve raises bare Exception when no key fits
        raise Reverted("ECDSAInvalidSignature") from err
    return address_of(public)


def signer_or_nobody(digest: bytes, signature: bytes) -> int:
    try:
        return recover(digest, signature)
    except Reverted:
        return 0


def address_of(public: PublicKey) -> int:
    return int.from_bytes(keccak(public.format(compressed=False)[1:])[12:], "big")
