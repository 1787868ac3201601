"""What every sorting recipe asks of its data: enough examples of at least two answers, no contradictions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256

from gristmill_trainer.data import Example
from gristmill_trainer.recipe import Finding

MIN_PER_ANSWER = 5
GOOD_PER_ANSWER = 20
MAX_ANSWERS = 1_000


def answer_findings(answers: Mapping[str, int]) -> list[Finding]:
    """Are there at least two answers, with enough examples each?"""
    if not answers:
        return [Finding("error", "There are no examples.", fix="Add some examples of each answer.")]
    if len(answers) == 1:
        only = next(iter(answers))
        sentence = f"All examples have the same answer, {only!r}: there is nothing to tell apart."
        return [Finding("error", sentence, fix="Add examples of at least one other answer.")]
    if len(answers) > MAX_ANSWERS:
        sentence = f"There are {len(answers)} different answers; at most {MAX_ANSWERS} can be learnt."
        return [Finding("error", sentence, fix="Join answers that mean the same.")]
    return [
        *_scarce(answers, "error", 0, MIN_PER_ANSWER),
        *_scarce(answers, "warning", MIN_PER_ANSWER, GOOD_PER_ANSWER),
    ]


def _scarce(answers: Mapping[str, int], level: str, at_least: int, below: int) -> list[Finding]:
    few = {answer: count for answer, count in answers.items() if at_least <= count < below}
    if not few:
        return []
    answer, count = min(few.items(), key=lambda item: item[1])
    others = f" (answers like that: {len(few)})" if len(few) > 1 else ""
    if level == "error":
        sentence = f"{answer!r} has only {count} examples{others}; each answer needs {below} or more."
        return [Finding("error", sentence, place=answer, fix="Add examples, or leave that answer out.")]
    sentence = f"{answer!r} has only {count} examples{others}; from {below} on the result can be trusted more."
    return [Finding("warning", sentence, place=answer, fix="Add examples if you have more.")]


class Repeats:
    """Finds examples that are there twice, and those that are there twice with different answers."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[tuple[str, str]]] = defaultdict(list)

    def add(self, example: Example) -> None:
        self._places[sha256(example.content).digest()].append((example.place, example.answer))

    def findings(self) -> list[Finding]:
        repeated = [places for places in self._places.values() if len(places) > 1]
        torn = [places for places in repeated if len({answer for _, answer in places}) > 1]
        found = []
        if torn:
            (one, first), (other, second) = torn[0][0], next(item for item in torn[0] if item[1] != torn[0][0][1])
            sentence = f"{one!r} ({first}) and {other!r} ({second}) are the same but have different answers"
            count = f" (cases like that: {len(torn)})." if len(torn) > 1 else "."
            found.append(Finding("warning", sentence + count, place=one, fix="Keep the one with the right answer."))
        if repeated:
            extra = sum(len(places) - 1 for places in repeated)
            found.append(Finding("note", f"{extra} examples are copies of another one.", place=repeated[0][1][0]))
        return found


def left_out_findings(places: Iterable[str], reason: str) -> list[Finding]:
    """A warning for what will not be learnt from."""
    places = list(places)
    if not places:
        return []
    sentence = f"{len(places)} {'examples are' if len(places) > 1 else 'example is'} left out: {reason}."
    return [Finding("warning", sentence, place=places[0], fix="Correct them if they matter.")]
