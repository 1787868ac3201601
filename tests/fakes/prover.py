"""Answers a challenge in plain Python, straight from the formulas of gristmill_protocol.challenges, for small sizes.

Shares only the numbers and the key derivation with the real prover and the verifier. Overriding a method makes a cheat.
"""

from hashlib import sha256

from gristmill_protocol.challenges import (
    CHUNK,
    M1,
    M2,
    M3,
    Commitment,
    Draw,
    OpenedLeaf,
    Opening,
    Sizes,
    first_link,
    key,
    opened,
    parents,
)
from gristmill_protocol.merkle import prove

TINY = Sizes(n=16, rounds=3, lanes=8, leaves=4, blocks=40, sweeps=2)

Matrix = list[list[int]]
Leaf = list[int]

_MASK = 2**64 - 1


def mix(x: int) -> int:
    x &= _MASK
    x = (x ^ (x >> 30)) * M2 & _MASK
    x = (x ^ (x >> 27)) * M3 & _MASK
    return x ^ (x >> 31)


def root(leaves: list[bytes]) -> bytes:
    """As in tests/proto/make_vectors.py."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x02" + root(leaves[:split]) + root(leaves[split:])).digest()


def content(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


class Prover:
    def __init__(self, seed: bytes, sizes: Sizes = TINY) -> None:
        self.seed, self.sizes = seed, sizes
        self.folds: list[bytes] = []
        self.fill: list[list[Leaf]] = []
        self.sums: list[list[int]] = []
        self.memory_seed = b""

    def commit(self) -> Commitment:
        links = self.compute()
        self.memory_seed = links[-1]
        for block in range(self.sizes.blocks):
            self.fill.append(self.block(block))
        roots = self.sweep()
        return Commitment(rounds=tuple(h.hex() for h in links), sweeps=tuple(h.hex() for h in roots))

    def open(self, draw: Draw) -> Opening:
        leaves = [leaf for at in draw.leaves for leaf in opened(self.memory_seed, at, self.sizes)]
        return Opening(folds=tuple(self.folds[at] for at in draw.rounds), leaves=tuple(map(self.open_leaf, leaves)))

    def compute(self) -> list[bytes]:
        right = self.matrix(key(self.seed, "right"))
        link, links = first_link(self.seed), []
        for _ in range(self.sizes.rounds):
            product = self.product(self.matrix(key(link, "left")), right)
            number = key(link, "fold")
            folds = [sum(mix(c + j * M1 + number) for j, c in enumerate(row)) & _MASK for row in product]
            self.folds.append(content(folds))
            link = sha256(link + self.folds[-1]).digest()
            links.append(link)
        return links

    def matrix(self, number: int) -> Matrix:
        n, limit = self.sizes.n, self.sizes.limit
        stream = content([mix((w + 1) * M1 + number) for w in range(n * n // 8)])
        entries = [byte % (2 * limit + 1) - limit for byte in stream]
        return [entries[at : at + n] for at in range(0, n * n, n)]

    def product(self, left: Matrix, right: Matrix) -> Matrix:
        columns = list(zip(*right, strict=True))
        return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]

    def block(self, block: int) -> list[Leaf]:
        """The leaves of a block, given the blocks before it."""
        sizes, seed = self.sizes, self.memory_seed
        if block == 0:
            lanes = range(1, 1 + sizes.leaves * sizes.lanes)
            words = [mix(lane * M1 + key(seed, "first")) for lane in lanes]
            return [words[at : at + sizes.lanes] for at in range(0, len(words), sizes.lanes)]
        found, constant = parents(seed, block, sizes), key(seed, "constant", block)

        def rolled(which: int, leaf: int, lane: int) -> int:
            parent, leaves, lanes = found[which]
            return self.fill[parent][(leaf - leaves) % sizes.leaves][(lane - lanes) % sizes.lanes]

        return [
            [
                mix(rolled(0, leaf, lane) + (rolled(1, leaf, lane) ^ rolled(2, leaf, lane)) + constant)
                for lane in range(sizes.lanes)
            ]
            for leaf in range(sizes.leaves)
        ]

    def sweep(self) -> list[bytes]:
        link, roots = self.memory_seed, []
        for _ in range(self.sizes.sweeps):
            number = key(link, "sweep")
            leaves = [leaf for block in self.fill for leaf in block]
            self.sums.append([sum(mix(x + i * M1 + number) for i, x in enumerate(leaf)) & _MASK for leaf in leaves])
            roots.append(root(self.chunk_digests(self.sums[-1])))
            link = sha256(link + roots[-1]).digest()
        return roots

    def open_leaf(self, leaf: int) -> OpenedLeaf:
        block, at = divmod(leaf, self.sizes.leaves)
        start = leaf - leaf % CHUNK
        return OpenedLeaf(
            data=content(self.fill[block][at]),
            chunks=tuple(content(sums[start : start + CHUNK]) for sums in self.sums),
            siblings=tuple(b"".join(prove(self.chunk_digests(sums), leaf // CHUNK).siblings) for sums in self.sums),
        )

    @staticmethod
    def chunk_digests(sums: list[int]) -> list[bytes]:
        return [sha256(b"\x04" + content(sums[at : at + CHUNK])).digest() for at in range(0, len(sums), CHUNK)]
