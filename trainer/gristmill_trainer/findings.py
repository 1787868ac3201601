"""What is noticed in a data set, said to the person who brought it, and what one click can mend of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

# Repairs that are ways of reading a table; all others leave examples out or rename answers.
ENCODING = "encoding"  # take its letters as what they most likely are
HEADER = "header"  # its first line is an example, not the names of its columns


@dataclass(frozen=True)
class Repair:
    """What a click does to a copy of the data."""

    id: str
    button: str  # "Leave these 3 out"
    leaves_out: frozenset[str] = frozenset()  # places
    renames: Mapping[str, str] = field(default_factory=dict)  # answer -> what it is called from now on


@dataclass(frozen=True)
class Finding:
    """One thing noticed: what it is, what it means, what to do."""

    level: Literal["error", "warning", "note"]
    sentence: str
    place: str = ""  # file, row or answer
    effect: str = ""
    fix: str = ""
    repair: Repair | None = None


def left_out(
    places: Iterable[str], why: str, *, repair: str, fix: str = "Correct them if they matter."
) -> list[Finding]:
    """A warning for what will not be learnt from; none if that is nothing.

    Args:
        why: what each of them has, such as "no answer".
        repair: the id of the click that agrees to it.
    """
    gone = list(places)
    if not gone:
        return []
    sentence = f"{len(gone)} {'examples are' if len(gone) > 1 else 'example is'} left out, first {gone[0]!r}: {why}."
    return [Finding("warning", sentence, place=gone[0], fix=fix, repair=leave_out(repair, gone))]


def leave_out(repair: str, places: Iterable[str]) -> Repair:
    """The repair that leaves these examples out."""
    gone = frozenset(places)
    return Repair(repair, f"Leave {'these ' + str(len(gone)) if len(gone) > 1 else 'it'} out", leaves_out=gone)
