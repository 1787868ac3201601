"""Golden vectors of the digests, computed by plain recursion straight from the formulas, not by our own code.

python tests/proto/make_vectors.py > tests/vectors/digests.json
"""

import json
import sys
from hashlib import sha256
from typing import Any

CHUNK = 4 * 1024 * 1024


def root(leaves: list[bytes]) -> bytes:
    """A tree of n leaves splits at the largest power of two below n: the same tree as pairing with promotion."""
    if not leaves:
        return sha256(b"\x03").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x02" + root(leaves[:split]) + root(leaves[split:])).digest()


def leaf(name: str, code: int, shape: list[int], data: bytes) -> bytes:
    chunks = [sha256(b"\x00" + data[i : i + CHUNK]).digest() for i in range(0, len(data), CHUNK)]
    numbers = b"".join(n.to_bytes(8, "little") for n in shape)
    size = len(name.encode()).to_bytes(8, "little")
    head = b"\x01" + size + name.encode() + bytes([code, len(shape)]) + numbers
    return sha256(head + len(data).to_bytes(8, "little") + root(chunks)).digest()


def trees() -> list[dict[str, Any]]:
    made = []
    for count in (0, 1, 2, 3, 5, 8, 13):
        leaves = [sha256(bytes([count, i])).digest() for i in range(count)]
        made.append({"leaves": [x.hex() for x in leaves], "root": root(leaves).hex()})
    return made


def states() -> list[dict[str, Any]]:
    def tensor(name: str, dtype: str, code: int, shape: list[int], data: bytes) -> dict[str, Any]:
        return {"name": name, "dtype": dtype, "code": code, "shape": shape, "data": data.hex()}

    small = [
        tensor("meta/step", "I64", 7, [], (7).to_bytes(8, "little")),
        tensor("param/head.bias", "F32", 11, [2], bytes.fromhex("0000803f000000c0")),
        tensor("param/head.weight", "F32", 11, [2, 1], bytes.fromhex("0000000000000080")),
        tensor("opt/head.weight/exp_avg", "BF16", 10, [2, 1], bytes.fromhex("803f00c0")),
        tensor("rng/cpu", "U8", 1, [3], b"\x01\x02\x03"),
        tensor("param/é", "U8", 1, [0], b""),
    ]
    order = ["meta/step", "param/head.bias", "param/head.weight", "param/é", "opt/head.weight/exp_avg", "rng/cpu"]
    by_name = {item["name"]: item for item in small}
    ordered = [by_name[name] for name in order]
    leaves = [leaf(t["name"], t["code"], t["shape"], bytes.fromhex(t["data"])) for t in ordered]
    return [
        {"tensors": ordered, "leaves": [x.hex() for x in leaves], "root": root(leaves).hex()},
        {"tensors": [], "leaves": [], "root": root([]).hex()},
    ]


if __name__ == "__main__":
    json.dump({"merkle": trees(), "state": states()}, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
