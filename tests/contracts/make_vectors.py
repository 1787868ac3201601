"""Golden vectors of signed statements and reservations, written out from EIP-712 and EIP-2098 by hand.

python tests/contracts/make_vectors.py > tests/vectors/statements.json
"""

import json
import sys
from typing import Any

from eth_keys import keys
from eth_utils import keccak

SECRET = keys.PrivateKey(bytes.fromhex("11" * 32))
CHAIN_ID = 8453
LEDGER = "0x00000000000000000000000000000000001ed6e4"


def word(value: int | str) -> bytes:
    return (int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")


def digest(struct_hash: bytes) -> bytes:
    domain_type = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    name, version = keccak(b"Gristmill Ledger"), keccak(b"1")
    separator = keccak(domain_type + name + version + word(CHAIN_ID) + word(LEDGER))
    return keccak(b"\x19\x01" + separator + struct_hash)


def statement(nonce: int, deadline_s: int, lines: list[tuple[int, int, int, int]]) -> dict[str, Any]:
    packed = b"".join(
        b"".join(id_.to_bytes(4, "big") for id_ in ids) + amount.to_bytes(12, "big") for *ids, amount in lines
    )
    type_hash = keccak(b"Statement(uint32 nonce,uint40 deadline,bytes lines)")
    signed = digest(keccak(type_hash + word(nonce) + word(deadline_s) + keccak(packed)))
    r, s, odd = signature(signed)
    head = nonce.to_bytes(4, "big") + deadline_s.to_bytes(5, "big") + len(lines).to_bytes(2, "big")
    return {
        "nonce": nonce,
        "deadline_s": deadline_s,
        "lines": lines,
        "total": sum(line[3] for line in lines),
        "digest": "0x" + signed.hex(),
        "signature": "0x" + (word(r) + word(s) + bytes([27 + odd])).hex(),
        "wire": "0x" + (word(r) + word(s | odd << 255) + head + packed).hex(),
    }


def reservation(**terms: int) -> dict[str, Any]:
    """terms: coordinator, provider, nonce, cap, accepted, forcedFrom, in this order."""
    key = SECRET.public_key.to_address()
    fields = "uint32 coordinator,uint32 provider,uint32 nonce,uint96 cap,uint96 accepted,uint40 forcedFrom"
    type_hash = keccak(f"Reservation(address key,{fields})".encode())
    signed = digest(keccak(type_hash + word(key) + b"".join(map(word, terms.values()))))
    r, s, odd = signature(signed)
    return {
        "key": key,
        **terms,
        "digest": "0x" + signed.hex(),
        "signature": "0x" + (word(r) + word(s) + bytes([27 + odd])).hex(),
    }


def signature(signed: bytes) -> tuple[int, int, int]:
    made = SECRET.sign_msg_hash(signed)
    return made.r, made.s, made.v


def main() -> None:
    vectors = {
        "chain_id": CHAIN_ID,
        "ledger": LEDGER,
        "key": SECRET.public_key.to_address(),
        "statements": [
            statement(0, 1_800_000_000, [(1, 2, 1, 1_000_000)]),
            statement(7, 2**40 - 1, [(1, 2, 1, 1), (3, 0, 2, 2**96 - 1), (2**32 - 1, 2**32 - 1, 2**32 - 1, 0)]),
            statement(2**32 - 1, 0, [(i, i + 1, 1 + i % 2, 1_000 * i) for i in range(40)]),
        ],
        "reservations": [
            reservation(
                coordinator=1, provider=3, nonce=7, cap=5_000_000, accepted=1_234_567, forcedFrom=1_799_000_000
            ),
            reservation(
                coordinator=2**32 - 1,
                provider=2**32 - 2,
                nonce=2**32 - 3,
                cap=2**96 - 1,
                accepted=2**96 - 2,
                forcedFrom=2**40 - 1,
            ),
            reservation(coordinator=0, provider=0, nonce=0, cap=0, accepted=0, forcedFrom=0),
        ],
    }
    json.dump(vectors, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
