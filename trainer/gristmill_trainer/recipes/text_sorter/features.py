"""Texts as numbers: pieces of 3 to 5 bytes of each word, words, and pairs of words, each one a 32-bit hash.

Exact integers on every machine; the few logarithms are Python's own, so no vector unit has a say in them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gristmill_trainer.recipes.text_sorter import MAX_CHARS

PIECES = (3, 4, 5)
_WORD = re.compile(r"\w+|[^\w\s]")
_FNV_START, _FNV_PRIME, _MASK = 2_166_136_261, np.uint64(16_777_619), np.uint64(0xFFFF_FFFF)

Hashes = NDArray[np.uint64]
Counted = tuple[Hashes, NDArray[np.int64]]  # distinct features, ascending, and how often each one occurs


def features(text: str) -> Counted:
    """The distinct features of a text."""
    words = _WORD.findall(text[:MAX_CHARS].lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    whole = np.array([crc32(term.encode()) for term in words + pairs], dtype=np.uint64)
    return np.unique(np.concatenate([whole, *_pieces(words)]), return_counts=True)


def _pieces(words: Sequence[str]) -> list[Hashes]:
    """FNV-1a hashes of each run of 3 to 5 bytes inside a word and the spaces around it."""
    line = np.frombuffer("\0".join(f" {word} " for word in words).encode(), dtype=np.uint8).astype(np.uint64)
    found = []
    for length in PIECES:
        count = max(0, len(line) - length + 1)
        hashes = np.full(count, _FNV_START + length, dtype=np.uint64)
        inside = np.ones(count, dtype=bool)
        for offset in range(length):
            byte = line[offset : offset + count]
            hashes = ((hashes ^ byte) * _FNV_PRIME) & _MASK
            inside &= byte != 0
        found.append(hashes[inside])
    return found


@dataclass(frozen=True)
class Vocabulary:
    """The features a model knows, ascending, and how telling each one is."""

    hashes: Hashes
    weights: NDArray[np.float64]  # ln((1 + texts) / (1 + texts that have it)) + 1

    @staticmethod
    def of(texts: Sequence[Counted], *, at_most: int) -> "Vocabulary":
        """The commonest features that two or more of the texts have."""
        hashes, texts_with = np.unique(np.concatenate([counted[0] for counted in texts]), return_counts=True)
        shared = texts_with >= 2
        hashes, texts_with = hashes[shared], texts_with[shared]
        chosen = np.sort(np.argsort(-texts_with, kind="stable")[:at_most])
        weights = [math.log((1 + len(texts)) / (1 + count)) + 1 for count in texts_with[chosen].tolist()]
        return Vocabulary(hashes[chosen], np.array(weights, dtype=np.float64))

    def encode(self, counted: Counted) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The known features of a text: their numbers here, and their weights, of which the squares sum to 1."""
        hashes, counts = counted
        if not len(self.hashes):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        known = self.hashes[at] == hashes
        numbers = at[known].astype(np.int64)
        often = [1 + math.log(count) for count in counts[known].tolist()]
        raw = [factor * weight for factor, weight in zip(often, self.weights[numbers].tolist(), strict=True)]
        norm = math.sqrt(math.fsum(value * value for value in raw)) or 1.0
        return numbers, np.array([value / norm for value in raw], dtype=np.float32)
