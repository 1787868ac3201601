"""People who sign for the books' tests, rightly and in every wrong way that a hostile caller may try."""

from dataclasses import dataclass

from coincurve import PrivateKey
from eth_utils.crypto import keccak

from fakes.books_wire import HALF_ORDER, address_of, word

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # secp256k1's n
# What can be wrong with a signature; the last four only with one of 65 bytes.
SPOILT = ("other digest", "other half", "flipped", "no r", "large r", "large s", "no s", "short", "long", "v 0", "v 29")
SPOILT_COMPACT = SPOILT[:-4]


@dataclass(frozen=True)
class Signature:
    r: int
    s: int
    odd: int

    def full(self, spoilt: str = "") -> bytes:
        """r || s || v."""
        v = {"v 0": 0, "v 29": 29}.get(spoilt, 27 + self.odd)
        signature = word(self.r) + word(self.s) + bytes([v])
        return signature[:64] if spoilt == "short" else signature + b"\0" * (spoilt == "long")

    def compact(self) -> tuple[int, int]:
        """r and vs of EIP-2098; an s of more than 255 bits runs into the bit for oddness."""
        return self.r, self.s | self.odd << 255


class Signer:
    def __init__(self, number: int) -> None:
        self._secret = PrivateKey(keccak(b"books %d" % number))
        self.address = address_of(self._secret.public_key)

    def sign(self, digest: bytes, spoilt: str = "") -> Signature:
        signed = keccak(digest) if spoilt == "other digest" else digest
        raw = self._secret.sign_recoverable(signed, hasher=None)
        r, s, odd = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
        match spoilt:
            case "other half":
                return Signature(r, ORDER - s, 1 - odd)
            case "flipped":
                return Signature(r, s, 1 - odd)
            case "no r":
                return Signature(0, s, odd)
            case "large r":
                return Signature(ORDER, s, odd)
            case "large s":
                return Signature(r, HALF_ORDER + 1, odd)
            case "no s":
                return Signature(r, 0, odd)
        return Signature(r, s, odd)
