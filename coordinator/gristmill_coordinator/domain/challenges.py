"""How large a challenge is, what of its answer is opened, and whether that holds (gristmill_protocol.challenges).

Nothing is believed that isn't recomputed: drawn rows of drawn rounds, and drawn leaves of the fill from the leaves that
they are mixed from, each in every sweep. Who fakes a share f of the rows passes with (1 - f)^48, of the fill with
(1 - f)^12. That needs about a hundredth of what the answer cost (benchmarks/challenges.py).
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from gristmill_protocol import challenges as rules
from gristmill_protocol.challenges import CHUNK, M1, M2, M3, Commitment, Draw, OpenedLeaf, Opening, Sizes
from gristmill_protocol.merkle import InclusionProof, proof_length

Words = NDArray[np.uint64]

_ROUNDS, _ROWS, _LEAVES = 3, 16, 12  # that are opened
_RESERVE_BYTES = 3 * 2**30  # of a card: its driver, and what the matrices take
_CPU = Sizes(n=1024, rounds=16, lanes=512, leaves=128, blocks=96, sweeps=16)
_GPU_BLOCK = {"lanes": 2048, "leaves": 2048}  # 32 MiB
_STRIP = 512  # rows of the right matrix that are made at once


def sizes(is_cpu: bool, memory_bytes: int) -> Sizes:
    """What a machine is asked: about a second on a processor, and all but a little of a card's memory."""
    if is_cpu:
        return _CPU
    block_bytes = 8 * _GPU_BLOCK["lanes"] * _GPU_BLOCK["leaves"]
    blocks = max(2, (memory_bytes - _RESERVE_BYTES) // block_bytes)
    return Sizes(n=8192, rounds=256, blocks=blocks, sweeps=16, **_GPU_BLOCK)


def draw(entropy: bytes, asked: Sizes) -> Draw:
    """What is opened. The entropy must be fresh: drawn once the commitment is there, unknown before."""

    def distinct(purpose: str, count: int, below: int) -> tuple[int, ...]:
        found: dict[int, None] = {}
        tries = 0
        while len(found) < min(count, below):
            found[rules.key(entropy, purpose, tries) % below] = None
            tries += 1
        return tuple(found)

    return Draw(
        rounds=distinct("rounds", _ROUNDS, asked.rounds),
        rows=distinct("rows", _ROWS, asked.n),
        leaves=distinct("leaves", _LEAVES, asked.all_leaves),
    )


def wrong(seed: bytes, asked: Sizes, commitment: Commitment, drawn: Draw, opening: Opening) -> str:
    """What is wrong with an answer, as the end of a sentence; "" when everything that was drawn holds."""
    if (len(commitment.rounds), len(commitment.sweeps)) != (asked.rounds, asked.sweeps):
        return "it committed to another number of rounds or sweeps"
    links = [rules.first_link(seed), *(bytes.fromhex(h) for h in commitment.rounds)]
    if len(opening.folds) != len(drawn.rounds):
        return "it opened other rounds than the ones drawn"
    if why := _wrong_rounds(seed, asked, links, drawn, opening.folds):
        return why
    families = [rules.opened(links[-1], at, asked) for at in drawn.leaves]
    if len(opening.leaves) != sum(map(len, families)):
        return "it opened other leaves than the ones drawn"
    keys = _sweep_keys(links[-1], commitment)
    leaves = iter(opening.leaves)
    for family in families:
        if why := _wrong_family(links[-1], asked, family, [next(leaves) for _ in family], commitment, keys):
            return why
    return ""


def _wrong_rounds(seed: bytes, asked: Sizes, links: Sequence[bytes], drawn: Draw, folds: Sequence[bytes]) -> str:
    for at, fold in zip(drawn.rounds, folds, strict=True):
        if len(fold) != 8 * asked.n or sha256(links[at] + fold).digest() != links[at + 1]:
            return f"the folds of round {at} are not the ones it committed to"
    rows = np.array(drawn.rows)
    lefts = [_rows(rules.key(links[at], "left"), asked, rows) for at in drawn.rounds]
    products = _times_right(np.concatenate(lefts), rules.key(seed, "right"), asked)
    counter = np.arange(asked.n, dtype=np.uint64) * np.uint64(M1)
    for at, fold, product in zip(drawn.rounds, folds, np.split(products, len(lefts)), strict=True):
        expected = _sums(product.astype(np.int64).view(np.uint64) + (counter + _word(rules.key(links[at], "fold"))))
        if not np.array_equal(expected, _read(fold)[rows]):
            return f"the product of round {at} is wrong"
    return ""


def _wrong_family(
    memory_seed: bytes,
    asked: Sizes,
    indices: Sequence[int],
    leaves: Sequence[OpenedLeaf],
    commitment: Commitment,
    keys: Words,
) -> str:
    """What is wrong with a leaf and the three that it is mixed from."""
    for index, leaf in zip(indices, leaves, strict=True):
        if len(leaf.data) != 8 * asked.lanes:
            return f"leaf {index} has not the size of a leaf"
        if not _in_sweeps(index, leaf, asked, commitment, keys):
            return f"leaf {index} is not what the sweeps went over"
    data = [_read(one.data) for one in leaves]
    if not np.array_equal(_expected(memory_seed, asked, indices[0], data), data[0]):
        return f"leaf {indices[0]} of the memory is not what it has to hold"
    return ""


def _expected(memory_seed: bytes, asked: Sizes, index: int, data: Sequence[Words]) -> Words:
    """What a leaf has to hold, given the leaves that it is mixed from (after itself)."""
    block, at = divmod(index, asked.leaves)
    if block == 0:
        lanes = np.arange(1 + at * asked.lanes, 1 + (at + 1) * asked.lanes, dtype=np.uint64)
        return _mix(lanes * np.uint64(M1) + _word(rules.key(memory_seed, "first")))
    found = rules.parents(memory_seed, block, asked)
    before, second, third = (np.roll(x, by) for x, (_, _, by) in zip(data[1:], found, strict=True))
    return _mix(before + (second ^ third) + _word(rules.key(memory_seed, "constant", block)))


def _in_sweeps(index: int, leaf: OpenedLeaf, asked: Sizes, commitment: Commitment, keys: Words) -> bool:
    """Whether every sweep's committed sum of this leaf is that of its data."""
    if (len(leaf.chunks), len(leaf.siblings)) != (asked.sweeps, asked.sweeps):
        return False
    counter = np.arange(asked.lanes, dtype=np.uint64) * np.uint64(M1)
    sums = _sums(_read(leaf.data) + counter + keys[:, None]).astype("<u8").tobytes()
    chunk_index, at = divmod(index, CHUNK)
    chunks = -(-asked.all_leaves // CHUNK)
    depth = 32 * proof_length(chunk_index, chunks)
    for sweep, (root, chunk, siblings) in enumerate(zip(commitment.sweeps, leaf.chunks, leaf.siblings, strict=True)):
        if chunk[8 * at : 8 * at + 8] != sums[8 * sweep : 8 * sweep + 8] or len(siblings) != depth:
            return False
        digests = tuple(siblings[i : i + 32] for i in range(0, depth, 32))
        if InclusionProof(chunk_index, chunks, digests).root(rules.chunk_digest(chunk)).hex() != root:
            return False
    return True


def _sweep_keys(memory_seed: bytes, commitment: Commitment) -> Words:
    keys, link = [], memory_seed
    for root in commitment.sweeps:
        keys.append(rules.key(link, "sweep"))
        link = sha256(link + bytes.fromhex(root)).digest()
    return np.array(keys, np.uint64)


def _rows(number: int, asked: Sizes, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of a matrix, entries as float32."""
    words = asked.n // 8
    counter = (rows[:, None] * words + np.arange(1, 1 + words)).astype(np.uint64)
    entries = _mix(counter * np.uint64(M1) + _word(number)).view(np.uint8) % np.uint8(2 * asked.limit + 1)
    return entries.astype(np.float32) - np.float32(asked.limit)


def _times_right(left: NDArray[np.float32], number: int, asked: Sizes) -> NDArray[np.float32]:
    """left @ the right matrix, exactly, made strip by strip."""
    total = np.zeros((len(left), asked.n), np.float32)
    for start in range(0, asked.n, _STRIP):
        strip = np.arange(start, min(start + _STRIP, asked.n))
        total += left[:, strip] @ _rows(number, asked, strip)
    return total


def _mix(words: Words) -> Words:
    """splitmix64's finalizer, in place."""
    for shift, factor in ((30, M2), (27, M3)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    return words


def _sums(words: Words) -> Words:
    """Of each row, mixed."""
    total: Words = _mix(words).sum(axis=-1, dtype=np.uint64)
    return total


def _word(number: int) -> np.uint64:
    return np.uint64(number)


def _read(content: bytes) -> Words:
    return np.frombuffer(content, "<u8").astype(np.uint64, copy=False)
