"""How good a sorting model became, on examples that it never learnt from: numbers, and the same in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from gristmill_protocol.jobs import Message

WORST = 8
CONFUSIONS = 10


class Confusion(Message):
    """How often one answer was taken for another."""

    answer: str  # the right one
    taken_for: str
    count: int


class Mistake(Message):
    """One example that was sorted wrongly."""

    place: str
    answer: str
    taken_for: str
    confidence: float


class Scorecard(Message):
    """The result of a training; a pure function of the task."""

    accuracy: float = Field(ge=0, le=1)  # share of the held-out examples that were sorted rightly
    baseline: float = Field(ge=0, le=1)  # the same for always giving the commonest answer
    held_out: int = Field(ge=0)
    correct: int = Field(ge=0)
    sentence: str
    confusions: tuple[Confusion, ...]  # commonest first
    worst: tuple[Mistake, ...]  # surest first


@dataclass(frozen=True)
class Guess:
    """What the model said of one held-out example."""

    place: str
    answer: str
    said: str
    confidence: float


def score(guesses: Sequence[Guess], commonest: str) -> Scorecard:
    """The scorecard of these guesses.

    Args:
        commonest: the answer that most of the learnt examples have.
    """
    wrong = [guess for guess in guesses if guess.said != guess.answer]
    counts = Counter((guess.answer, guess.said) for guess in wrong)
    confusions = tuple(
        Confusion(answer=answer, taken_for=said, count=count)
        for (answer, said), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
    )
    worst = sorted(wrong, key=lambda guess: (-guess.confidence, guess.place))[:WORST]
    correct, total = len(guesses) - len(wrong), len(guesses)
    by_rote = sum(guess.answer == commonest for guess in guesses)
    return Scorecard(
        accuracy=round(correct / total, 6) if total else 0.0,
        baseline=round(by_rote / total, 6) if total else 0.0,
        held_out=total,
        correct=correct,
        sentence=_sentence(correct, total, by_rote, confusions),
        confusions=confusions,
        worst=tuple(
            Mistake(place=guess.place, answer=guess.answer, taken_for=guess.said, confidence=round(guess.confidence, 3))
            for guess in worst
        ),
    )


def compared(card: Scorecard) -> str:
    """What the result has to be held against, in words; empty if nothing was measured."""
    if not card.held_out:
        return ""
    by_rote = round(card.baseline * card.held_out)
    return f"Always giving the most common answer, without looking, would get {_right(by_rote, card.held_out)} right."


def _sentence(correct: int, total: int, by_rote: int, confusions: Sequence[Confusion]) -> str:
    if not total:
        return "There were no examples left to measure it on."
    if correct == total:
        return f"It gets all {total} examples right that it had never seen."
    right = _right(correct, total)
    if correct <= by_rote:
        return (
            f"It gets {right} right, which always giving the commonest answer would reach as well: it learnt nothing."
        )
    first = confusions[0]
    mostly = "mostly " if len(confusions) > 1 else ""
    return f"It gets {right} right. When it is wrong, it is {mostly}{first.answer} taken for {first.taken_for}."


def _right(correct: int, total: int) -> str:
    # Never round a mistake away.
    return f"{min(99, round(100 * correct / total))} of 100" if total >= 100 else f"{correct} of {total}"
