"""Merkle trees over SHA-256, the same in Python and Solidity (contracts/src/libraries/Merkle.sol).

A node is SHA256(0x02 || left || right); an odd node is promoted unchanged; the empty tree is SHA256(0x03).
Leaves are 32-byte digests, already domain-separated by whoever made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

EMPTY_ROOT = sha256(b"\x03").digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree over 32-byte leaves."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


@dataclass(frozen=True)
class InclusionProof:
    """Siblings from leaf to root; a level where the node was promoted has none."""

    index: int
    count: int
    siblings: tuple[bytes, ...]

    def root(self, leaf: bytes) -> bytes:
        """The root this proof gives for a leaf. Compare it with the committed one."""
        node, index, count = leaf, self.index, self.count
        siblings = iter(self.siblings)
        while count > 1:
            if index % 2:
                node = _node(next(siblings), node)
            elif index + 1 < count:
                node = _node(node, next(siblings))
            index, count = index // 2, (count + 1) // 2
        return node


def prove(leaves: Sequence[bytes], index: int) -> InclusionProof:
    """Proof that leaves[index] is in the tree.

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    siblings = []
    level, at = list(leaves), index
    while len(level) > 1:
        if at ^ 1 < len(level):
            siblings.append(level[at ^ 1])
        level, at = _parents(level), at // 2
    return InclusionProof(index, len(leaves), tuple(siblings))


def proof_length(index: int, count: int) -> int:
    """How many siblings a proof for this leaf has; one with another number proves nothing."""
    length = 0
    while count > 1:
        length += index % 2 == 1 or index + 1 < count
        index, count = index // 2, (count + 1) // 2
    return length


def _parents(level: list[bytes]) -> list[bytes]:
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(level) - len(level) % 2 :]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x02" + left + right).digest()
