"""Which examples a step learns from: a pure function of seed and step, so a provider has nothing to choose."""

from collections.abc import Sequence
from hashlib import sha256

import torch

from gristmill_trainer.data import Example
from gristmill_trainer.determinism import generator
from gristmill_trainer.recipe import held_out


class Sampler:
    """An endless row of permutations of all examples, cut into equal batches; a batch may reach into the next one."""

    def __init__(self, *, seed: int, examples: int, batch: int) -> None:
        self._seed = seed
        self._examples = examples
        self._batch = batch
        self._orders: dict[int, torch.Tensor] = {}

    def rows(self, step: int) -> torch.Tensor:  # (batch,) int64
        """The examples of a step, in order."""
        first, last = step * self._batch, (step + 1) * self._batch
        parts = []
        while first < last:
            epoch, at = divmod(first, self._examples)
            parts.append(self._order(epoch)[at : at + last - first])
            first += len(parts[-1])
        return torch.cat(parts)

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            # Steps only move on, so one order at a time is enough.
            self._orders = {epoch: torch.randperm(self._examples, generator=generator(self._seed, "epoch", epoch))}
        return self._orders[epoch]


def example_digest(example: Example) -> bytes:
    """Identity of an example, answer included: SHA256(len(answer) u64le || answer || content)."""
    answer = example.answer.encode()
    return sha256(len(answer).to_bytes(8, "little") + answer + example.content).digest()


def split(contents: Sequence[bytes], answers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows to measure on, both ascending.

    Of each answer, the fifth whose content digests are smallest is held out: no choice, no seed, and copies of an
    example always stay on the same side.

    Args:
        contents: SHA-256 of each example's content.
        answers: number of each example's answer.
    """
    by_answer: dict[int, dict[bytes, list[int]]] = {}
    for row, (content, answer) in enumerate(zip(contents, answers, strict=True)):
        by_answer.setdefault(answer, {}).setdefault(content, []).append(row)
    held: set[int] = set()
    for copies in by_answer.values():
        wanted = held_out(sum(map(len, copies.values())))
        taken: list[int] = []
        for content in sorted(copies)[:-1]:  # one content always stays to learn from
            if len(taken) >= wanted:
                break
            taken += copies[content]
        held.update(taken)
    rows = range(len(contents))
    return [row for row in rows if row not in held], sorted(held)
