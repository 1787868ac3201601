"""What every sorting recipe asks of its data: enough examples of at least two answers, no contradictions."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping
from hashlib import sha256

from gristmill_trainer.data import Example
from gristmill_trainer.findings import Finding, Repair, leave_out

MIN_PER_ANSWER = 5
GOOD_PER_ANSWER = 20
MAX_ANSWERS = 1_000


def answer_findings(answers: Mapping[str, int], places: Mapping[str, Collection[str]] | None = None) -> list[Finding]:
    """Are there at least two answers, with enough examples each?

    Args:
        places: where the examples of each answer are, so that answers with too few can be left out with a click.
    """
    if not answers:
        return [Finding("error", "There are no examples.", fix="Add some examples of each answer.")]
    if len(answers) == 1:
        only = next(iter(answers))
        sentence = f"All examples have the same answer, {only!r}: there is nothing to tell apart."
        return [Finding("error", sentence, fix="Add examples of at least one other answer.")]
    if len(answers) > MAX_ANSWERS:
        sentence = f"There are {len(answers)} different answers; at most {MAX_ANSWERS} can be learnt."
        return [Finding("error", sentence, fix="Join answers that mean the same.")]
    return [*_scarce(answers, places or {}), *_few(answers), *_spellings(answers)]


def _scarce(answers: Mapping[str, int], places: Mapping[str, Collection[str]]) -> list[Finding]:
    few = {answer: count for answer, count in answers.items() if count < MIN_PER_ANSWER}
    if not few:
        return []
    answer, others = _scarcest(few)
    sentence = f"{answer!r} has only {_examples(few[answer])}{others}; each answer needs {MIN_PER_ANSWER} or more."
    repair = None
    if len(answers) - len(few) >= 2 and few.keys() <= places.keys():
        gone = [place for answer in few for place in places[answer]]
        button = f"Leave {f'these {len(few)} answers' if len(few) > 1 else repr(answer)} out"
        repair = Repair("scarce", button, leaves_out=frozenset(gone))
    return [Finding("error", sentence, place=answer, fix="Add examples, or leave that answer out.", repair=repair)]


def _few(answers: Mapping[str, int]) -> list[Finding]:
    few = {answer: count for answer, count in answers.items() if MIN_PER_ANSWER <= count < GOOD_PER_ANSWER}
    if not few:
        return []
    answer, others = _scarcest(few)
    sentence = (
        f"{answer!r} has only {few[answer]} examples{others}; from {GOOD_PER_ANSWER} on the result can be trusted more."
    )
    return [Finding("warning", sentence, place=answer, fix="Add examples if you have more.")]


def _scarcest(few: Mapping[str, int]) -> tuple[str, str]:
    answer = min(few, key=lambda answer: few[answer])
    return answer, f" (answers like that: {len(few)})" if len(few) > 1 else ""


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"


def _spellings(answers: Mapping[str, int]) -> list[Finding]:
    """Answers that differ only in capitals and spaces are most likely one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        alike[" ".join(unicodedata.normalize("NFC", answer).casefold().split())].append(answer)
    renames: dict[str, str] = {}
    for spellings in alike.values():
        commonest = max(spellings, key=lambda answer: answers[answer])
        renames |= {answer: commonest for answer in spellings if answer != commonest}
    if not renames:
        return []
    other, kept = next(iter(renames.items()))
    more = f" (answers like that: {len(renames)})" if len(renames) > 1 else ""
    sentence = f"{other!r} and {kept!r} differ only in capitals or spaces{more}."
    button = "Join those that are alike" if len(renames) > 1 else f"Join {other!r} with {kept!r}"
    return [
        Finding(
            "warning",
            sentence,
            place=other,
            effect="They are learnt as different answers.",
            fix="Join them if they mean the same.",
            repair=Repair("spelling", button, renames=renames),
        )
    ]


class Repeats:
    """Finds examples that are there twice, and those that are there twice with different answers."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[tuple[str, str]]] = defaultdict(list)

    def add(self, example: Example) -> None:
        self._places[sha256(example.content).digest()].append((example.place, example.answer))

    def findings(self) -> list[Finding]:
        repeated = [places for places in self._places.values() if len(places) > 1]
        torn = [places for places in repeated if len({answer for _, answer in places}) > 1]
        return [*self._torn(torn), *self._copies(repeated)]

    @staticmethod
    def _torn(torn: list[list[tuple[str, str]]]) -> list[Finding]:
        if not torn:
            return []
        (one, first), (other, second) = torn[0][0], next(item for item in torn[0] if item[1] != torn[0][0][1])
        count = f" (cases like that: {len(torn)})." if len(torn) > 1 else "."
        return [
            Finding(
                "warning",
                f"{one!r} ({first}) and {other!r} ({second}) are the same but have different answers{count}",
                place=one,
                effect="Nobody can learn which of them is right.",
                fix="Keep the one with the right answer.",
                repair=leave_out("contradictions", (place for places in torn for place, _ in places)),
            )
        ]

    @staticmethod
    def _copies(repeated: list[list[tuple[str, str]]]) -> list[Finding]:
        extra = []
        for places in repeated:
            seen = set()
            for place, answer in places:
                if answer in seen:
                    extra.append(place)
                seen.add(answer)
        if not extra:
            return []
        sentence = (
            "1 example is a copy of another one."
            if len(extra) == 1
            else f"{len(extra)} examples are copies of another one."
        )
        repair = Repair("copies", "Keep one of each", leaves_out=frozenset(extra))
        return [Finding("note", sentence, place=extra[0], effect="A copy counts twice.", repair=repair)]
