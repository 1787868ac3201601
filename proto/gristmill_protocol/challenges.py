"""Challenges: what a card has to compute to show its speed, memory and bandwidth, and how its answer is checked.

Numbers are unsigned 64-bit integers that wrap, little-endian as bytes. mix is splitmix64's finalizer, M1 its increment
(https://prng.di.unimi.it/splitmix64.c). key() names a number; the seed is new for each challenge and each card.

Compute: h = SHA256(DOMAIN || seed). In each round A = matrix(key(h, "left")) is multiplied by B = matrix(key(seed,
"right")); entries are so small that float32 sums are exact. A row c of the product is folded to sum_j mix(c_j + j M1 +
key(h, "fold")): no linear shortcut gives it. Then h = SHA256(h || the n folds). The commitment holds every h.
matrix(k): word w of it is mix((w + 1) M1 + k); each of its 8 bytes is an entry, byte % (2 limit + 1) - limit.

Memory: m is the last h. Block 0 is mix((lane + 1) M1 + key(m, "first")). Block k mixes three earlier ones, each rolled
by leaves and by lanes: mix(roll(block k-1) + (roll(block a) xor roll(block b)) + key(m, "constant", k)); see parents().

Bandwidth: d = m. Each sweep sums every leaf: sum_l mix(x_l + l M1 + key(d, "sweep")), then d = SHA256(d || the Merkle
root over the sums in chunks of 64). The commitment holds every root. A sweep's key depends on all sums before it, so
who doesn't hold the fill computes it once more for each sweep. Sixteen keyed sums also bind what is in a leaf: no other
hash of the fill is needed.
"""

from hashlib import sha256
from math import isqrt

from pydantic import ConfigDict, Field

from gristmill_protocol.jobs import Message, Sha256Hex

DOMAIN = b"gristmill/challenge/1"
M1, M2, M3 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
CHUNK = 64  # sums under one leaf of a sweep's Merkle tree

_EXACT = 2**24  # up to here float32 holds every integer
_LARGEST_ENTRY = 63  # bfloat16 holds it exactly


class Sizes(Message):
    """How much a challenge asks for."""

    n: int = Field(ge=8, le=16_384, multiple_of=8)  # rows of the matrices
    rounds: int = Field(ge=1, le=4096)
    lanes: int = Field(ge=1, le=2**16)  # words of a leaf
    leaves: int = Field(ge=1, le=2**16)  # of a block
    blocks: int = Field(ge=2, le=2**20)
    sweeps: int = Field(ge=1, le=64)

    @property
    def limit(self) -> int:
        """Largest magnitude of a matrix entry."""
        return min(_LARGEST_ENTRY, isqrt((_EXACT - 1) // self.n))

    @property
    def fill_bytes(self) -> int:
        return 8 * self.lanes * self.leaves * self.blocks

    @property
    def all_leaves(self) -> int:
        return self.leaves * self.blocks


class Commitment(Message):
    """What a card says before it knows what will be opened. The clock stops when it arrives."""

    rounds: tuple[Sha256Hex, ...]  # h after each round
    sweeps: tuple[Sha256Hex, ...]  # the root of each sweep


class Draw(Message):
    """What is to be opened, drawn once the commitment is there."""

    rounds: tuple[int, ...]
    rows: tuple[int, ...]  # recomputed in each of these rounds
    leaves: tuple[int, ...]  # block * leaves of a block + leaf


class _Bytes(Message):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class OpenedLeaf(_Bytes):
    data: bytes
    chunks: tuple[bytes, ...]  # of each sweep: the chunk of sums that this leaf's is in
    siblings: tuple[bytes, ...]  # of each sweep: the chunk's Merkle proof, its digests one after another


class Opening(_Bytes):
    folds: tuple[bytes, ...]  # of each drawn round: its n folds
    leaves: tuple[OpenedLeaf, ...]  # opened(leaf) of each drawn leaf, in that order


def key(seed: bytes, purpose: str, number: int = 0) -> int:
    """A 64-bit number that nobody knows before the seed."""
    return int.from_bytes(sha256(seed + purpose.encode() + b"\0" + number.to_bytes(8, "little")).digest()[:8], "little")


def first_link(seed: bytes) -> bytes:
    """The chain's h before the first round."""
    return sha256(DOMAIN + seed).digest()


def chunk_digest(sums: bytes) -> bytes:
    """Merkle leaf over a chunk of a sweep's sums."""
    return sha256(b"\x04" + sums).digest()


def parents(memory_seed: bytes, block: int, sizes: Sizes) -> tuple[tuple[int, int, int], ...]:
    """The three blocks that a block is mixed from, each with how far it is rolled: (block, by leaves, by lanes)."""
    chosen = (block - 1, key(memory_seed, "second", block) % block, key(memory_seed, "third", block) % block)
    return tuple(
        (
            parent,
            key(memory_seed, f"leaves {at}", block) % sizes.leaves,
            key(memory_seed, f"lanes {at}", block) % sizes.lanes,
        )
        for at, parent in enumerate(chosen)
    )


def opened(memory_seed: bytes, leaf: int, sizes: Sizes) -> tuple[int, ...]:
    """The leaves that are opened with a leaf: itself, and the three that it is mixed from."""
    block, at = divmod(leaf, sizes.leaves)
    if block == 0:
        return (leaf,)
    found = parents(memory_seed, block, sizes)
    return leaf, *(parent * sizes.leaves + (at - by) % sizes.leaves for parent, by, _ in found)
