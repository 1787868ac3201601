"""What a fault costs, and how a dispute about it stands by its events on chain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from itertools import zip_longest
from typing import Any, Protocol

UNSERVED_AGAIN_S = 30 * 86_400  # whoever withholds a state twice within it has something to hide

# Over less it is not worth the bonds that both sides post, which are at least a tenth of this.
LEAST_AT_STAKE_USD_MICROS = 10_000_000


class Fault(StrEnum):
    """What was found."""

    DIFFERS = "differs"  # two verifiers agree on another outcome
    BROKEN = "broken"  # the records contradict one another, or name other data or fewer steps
    UNSERVED = "unserved"  # a state that was drawn was not served in time


class Tier(StrEnum):
    """What it means."""

    FRAUD = "fraud"
    UNSERVED = "state not served"


def tier(fault: Fault, *, unserved_before: bool) -> Tier:
    """What a fault means.

    Args:
        unserved_before: the provider has failed to serve a state in the last UNSERVED_AGAIN_S.
    """
    return Tier.UNSERVED if fault is Fault.UNSERVED and not unserved_before else Tier.FRAUD


def in_question_usd_micros(tier: Tier, lock_usd_micros: int) -> int:
    """The part of a provider's bond that a fault puts in question; it may have less left.

    A bit that flipped by itself can't be told from a faked one: the machine that runs it again gets what everybody
    gets. So a fraud puts in question what deters it, the lock of the work in which it was found, and not the rest.

    Args:
        lock_usd_micros: what was staked on the attempt.
    """
    at_stake = max(lock_usd_micros, LEAST_AT_STAKE_USD_MICROS)
    return at_stake if tier is Tier.FRAUD else at_stake // 20


class Phase(Enum):
    """DisputeTypes.Phase."""

    NONE = 0
    ANSWERING = 1
    RULING = 2
    ARBITRATING = 3
    CLOSED = 4


class Outcome(Enum):
    """DisputeTypes.Outcome."""

    NONE = 0
    CONCEDED = 1
    UNANSWERED = 2
    FOUND_GUILTY = 3
    FOUND_CLEAR = 4
    UNDECIDED = 5


GUILTY = (Outcome.CONCEDED, Outcome.UNANSWERED, Outcome.FOUND_GUILTY)


class Move(Enum):
    """What anybody may do to bring a dispute on."""

    DRAW = "draw"
    ADVANCE = "advance"


class Happened(Protocol):
    """An event of Disputes."""

    name: str
    args: dict[str, Any]
    block: int
    tx_hash: str


@dataclass(frozen=True)
class Course:
    """Where a dispute stands."""

    dispute: int
    amount_usd_micros: int
    phase: Phase = Phase.NONE
    deadline_s: int = 0
    answered: bool = False
    evidence: str = ""  # of the answer: 0x and the SHA-256 of the provider's step roots
    seats: int = 3  # of referees
    draw_block: int = 0
    referees: tuple[int, ...] = ()
    votes: dict[int, bool] = field(default_factory=dict)  # referee -> guilty
    outcome: Outcome = Outcome.NONE
    slashed_usd_micros: int = 0
    tx_hash: str = ""  # of what happened last


def course(events: Iterable[Happened]) -> Course:
    """The course of one dispute by its events, in the order of the chain."""
    happened = list(events)
    opened = next(event for event in happened if event.name == "Opened")
    found = Course(opened.args["id"], opened.args["amount"])
    for event in happened:
        found = replace(_after(found, event), tx_hash=event.tx_hash)
    return found


def _after(before: Course, event: Happened) -> Course:
    args = event.args
    match event.name:
        case "Entered":
            phase = Phase(args["phase"])
            entered = replace(before, phase=phase, deadline_s=args["deadline"])
            if phase is not Phase.RULING:
                return entered
            seats = 5 if before.phase is Phase.RULING else 3
            return replace(entered, seats=seats, draw_block=event.block + 1, referees=(), votes={})
        case "Answered":
            return replace(before, answered=True, evidence=args["evidence"])
        case "DrawMoved":
            return replace(before, draw_block=args["drawBlock"])
        case "Drawn":
            return replace(before, referees=tuple(args["referees"]))
        case "Ruled":
            return replace(before, votes={**before.votes, args["referee"]: args["guilty"]})
        case "Closed":
            outcome = Outcome(args["outcome"])
            return replace(before, phase=Phase.CLOSED, outcome=outcome, slashed_usd_micros=args["slashed"])
    return before


def first_difference(theirs: Sequence[str], ours: Sequence[str]) -> int | None:
    """Where two lists of state roots after each step part, counted from 0; None where they are one."""
    pairs = enumerate(zip_longest(theirs, ours))
    return next((at for at, (their, our) in pairs if their != our), None)


def due(course: Course, *, now_s: float, block: int) -> Move | None:
    """What to do about a dispute now; None while it is somebody else's turn, or over."""
    if course.phase in (Phase.NONE, Phase.CLOSED):
        return None
    if now_s > course.deadline_s:
        return Move.ADVANCE
    drawable = course.phase is Phase.RULING and not course.referees and block > course.draw_block
    return Move.DRAW if drawable else None
