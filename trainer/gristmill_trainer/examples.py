"""A data set in memory, ready to train on: what each example holds, which are learnt from and which are held out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

import torch

from gristmill_protocol.errors import BadData
from gristmill_protocol.merkle import merkle_root
from gristmill_trainer.checks import answer_findings
from gristmill_trainer.data import DataView, Example
from gristmill_trainer.sampling import example_digest, split
from gristmill_trainer.scoring import Guess, Scorecard, score

T = TypeVar("T")


@dataclass(frozen=True)
class Examples(Generic[T]):
    """Columns over all examples, in the data's order."""

    answers: tuple[str, ...]  # sorted; an answer's number is its place here
    values: list[T]
    numbers: list[int]  # of each example's answer
    places: list[str]
    digests: list[bytes]
    learnt: list[int]  # rows
    held: list[int]  # rows

    @staticmethod
    def read(data: DataView, convert: Callable[[Example], T | None]) -> "Examples[T]":
        """Read all examples; those that convert to None are left out.

        Raises:
            BadData: too few of them, or convert raised it.
        """
        kept: list[tuple[Example, T]] = []
        contents = []
        for example in data:
            if (value := convert(example)) is not None:
                kept.append((Example(example.place, example.answer, b""), value))
                contents.append((sha256(example.content).digest(), example_digest(example)))
        counts = Counter(example.answer for example, _ in kept)
        for finding in answer_findings(counts):
            if finding.level == "error":
                raise BadData(finding.sentence, effect="The job stops here.", todo=finding.fix)
        answers = tuple(sorted(counts))
        number = {answer: index for index, answer in enumerate(answers)}
        numbers = [number[example.answer] for example, _ in kept]
        learnt, held = split([content for content, _ in contents], numbers)
        return Examples(
            answers=answers,
            values=[value for _, value in kept],
            numbers=numbers,
            places=[example.place for example, _ in kept],
            digests=[digest for _, digest in contents],
            learnt=learnt,
            held=held,
        )

    @property
    def learnt_digests(self) -> list[bytes]:
        return [self.digests[row] for row in self.learnt]

    def learnt_numbers(self) -> torch.Tensor:  # (learnt,) int64
        return torch.tensor([self.numbers[row] for row in self.learnt])

    def score(self, scores: torch.Tensor) -> Scorecard:
        """The scorecard of a model.

        Args:
            scores: (held, answers) f32, before softmax, one row for each held-out example.
        """
        guesses = [
            Guess(place=self.places[row], answer=self.answers[self.numbers[row]], said=said, confidence=confidence)
            for row, (said, confidence) in zip(self.held, most_likely(scores, self.answers), strict=True)
        ]
        counts = Counter(self.numbers[row] for row in self.learnt)
        commonest = min(counts, key=lambda number: (-counts[number], number))
        return score(guesses, self.answers[commonest])

    def root(self) -> bytes:
        """Merkle root over the digests of all examples."""
        return merkle_root(self.digests)


def most_likely(scores: torch.Tensor, answers: Sequence[str]) -> list[tuple[str, float]]:
    """For each row of scores the best answer and its share after softmax."""
    if not len(scores):
        return []
    confidence, best = scores.softmax(1).max(1)
    return [(answers[index], value) for index, value in zip(best.tolist(), confidence.tolist(), strict=True)]
