"""What each way of checking asks for, and how the answers of those that judge a job as a whole are counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from gristmill_coordinator.domain.windows import Finding
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.jobs import JobSpec, Plan
from gristmill_protocol.modes import Mode
from gristmill_protocol.progress import Evaluated, Replayed

MEASURERS = 2  # a third one decides where they differ
REPLICA, MEASUREMENT = "replica", "measurement"  # why an audit is made, numbered from 1: "replica 1"

_NOTHING = "Nothing was started or charged."


class Checkers(Enum):
    """Whose machines check, besides that they are other owners'."""

    SAME_CLASS = auto()  # they come to the same bits
    OTHER_CLASSES = auto()
    ANY = auto()


@dataclass(frozen=True)
class Way:
    """What a mode asks of the stages."""

    samples: int  # how many times the usual number of segments is drawn; 0: the finished job is judged as a whole
    verifiers: int  # for each drawn segment, from the start
    checkers: Checkers
    keep_state: bool  # verifiers hand over the state they came to


WAYS = {
    Mode.BITWISE: Way(1, 1, Checkers.SAME_CLASS, keep_state=False),
    Mode.TOLERANCE: Way(2, 2, Checkers.OTHER_CLASSES, keep_state=True),
    Mode.REPLICATE: Way(0, 0, Checkers.ANY, keep_state=False),
    Mode.OUTCOME: Way(0, 0, Checkers.ANY, keep_state=False),
}


def choices(spec: JobSpec, *, whole: bool) -> tuple[Mode, ...]:
    """The modes a job may have, the strongest first: only the one asked for, if one was.

    Args:
        whole: the recipe's jobs can't be cut into steps.
    Raises:
        BadRequest: it can't be checked in that way, or lacks what that takes.
    """
    strongest = (Mode.REPLICATE,) if whole else (Mode.BITWISE, Mode.TOLERANCE)
    mode = spec.mode or strongest[0]
    if mode not in WAYS:
        raise _refuse(f"This coordinator does not offer the mode {mode.value!r}.", whole)
    if whole and mode is not Mode.REPLICATE:
        raise _refuse(
            f"A job of the recipe {spec.recipe!r} is not made of steps: {mode.value!r} can't check it.", whole
        )
    if not whole and mode is Mode.REPLICATE:
        raise _refuse("Only jobs that are not made of steps are replicated as a whole.", whole)
    asked = spec.held_out is not None, spec.threshold is not None
    if mode is Mode.OUTCOME and not all(asked):
        raise BadRequest(
            "To be paid by outcome, a job needs examples to measure on and what share of them must be right.",
            effect=_NOTHING,
            todo="Give held_out and threshold.",
        )
    if mode is not Mode.OUTCOME and any(asked):
        raise BadRequest(
            f"Examples to measure on and a threshold mean nothing in the mode {mode.value!r}.",
            effect=_NOTHING,
            todo='Leave them out, or ask for the mode "outcome".',
        )
    if spec.held_out == spec.data:
        raise BadRequest(
            "The examples to measure on are those that are learnt from.", effect=_NOTHING, todo="Keep some apart."
        )
    return strongest if spec.mode is None else (mode,)


def checks(mode: Mode, spec: JobSpec) -> tuple[str, ...]:
    """Why each audit of a job that is judged as a whole is made; names it."""
    what, count = (MEASUREMENT, MEASURERS) if mode is Mode.OUTCOME else (REPLICA, spec.replicas - 1)
    return tuple(f"{what} {number}" for number in range(1, count + 1))


def is_whole(why: str) -> bool:
    """Whether an audit made for this is of the whole job."""
    return why.startswith((REPLICA, MEASUREMENT))


def why_drawn(why: str) -> str:
    """AuditView.why_drawn: the reason of an audit without its number."""
    return why.rstrip(" 0123456789")


def slot(why: str) -> int:
    """Which of its kind such an audit is, from 0."""
    return int(why.rpartition(" ")[2]) - 1


def how(mode: Mode, spec: JobSpec, plan: Plan) -> str:
    """One sentence: what will be checked of a job that is judged as a whole, and what is paid."""
    if mode is Mode.OUTCOME:
        asked = _percent(spec.threshold or 0)
        return (
            f"{MEASURERS} other owners' machines measure the finished model on your hidden examples; "
            f"it is paid if {asked} of them are right, else nothing is."
        )
    return (
        f"It runs on {spec.replicas} owners' machines; those of the majority are paid, each for its whole time limit "
        f"of {plan.limit_s // 60} minutes however soon it ends, and nobody is if there is no majority."
    )


@dataclass(frozen=True)
class Ruling:
    """What follows from the answers.

    Args:
        finding: why the work is void; None: it passes.
        right: for each answer whether it counts, in the order given.
        ends_job: another machine would not do better.
    """

    finding: Finding | None
    reason: str
    right: tuple[bool, ...]
    ends_job: bool = False


def vote(record: SegmentRecord, answers: Sequence[Replayed], *, owners: int) -> Ruling:
    """The ruling on a replicated job: more than half of the owners must have come to the same.

    Args:
        answers: of all others that could run it; fewer than owners - 1 where some could not.
    """
    mine, theirs = _digests(record), [_digests(one) for one in answers]
    commonest, count = Counter([mine, *theirs]).most_common(1)[0]
    if 2 * count > owners:
        right = tuple(one == commonest for one in theirs)
        if mine == commonest:
            return Ruling(None, "", right)
        reason = f"{count} of the {owners} machines that ran it agree on another result."
        return Ruling(Finding.OUTVOTED, reason, right)
    none_right = (False,) * len(theirs)
    if 1 + len(theirs) < owners:
        return Ruling(Finding.NOT_RUN, "Too few other machines could run it.", none_right)
    reason = (
        f"It is not reproducible: no {owners // 2 + 1} of the {owners} machines that ran it came to the same result. "
        "`gristmill lint` names what differs from run to run."
    )
    return Ruling(Finding.NOT_REPRODUCIBLE, reason, none_right, ends_job=True)


def third_needed(answers: Sequence[Evaluated], threshold: int) -> bool:
    """Whether the measurements contradict one another and nobody has decided yet."""
    return len(answers) == MEASURERS and len({one.millionths >= threshold for one in answers}) == 2


def measure(answers: Sequence[Evaluated], threshold: int, *, missed_before: bool) -> Ruling:
    """The ruling on a job that is paid by its outcome: most of the measurements decide.

    Args:
        answers: an odd number of them, or all saying the same.
        missed_before: another owner's model was not good enough either.
    """
    enough = [one.millionths >= threshold for one in answers]
    passes = 2 * sum(enough) > len(enough)
    right = tuple(one is passes for one in enough)
    if passes:
        return Ruling(None, "", right)
    best = max(one.millionths for one, good in zip(answers, enough, strict=True) if not good)
    reason = f"It gets {_percent(best)} of the hidden examples right; {_percent(threshold)} was asked for."
    return Ruling(Finding.MISSED, reason, right, ends_job=missed_before)


def _digests(said: SegmentRecord | Replayed) -> tuple[str, str, str, str]:
    return said.state_root_prev, said.state_root, said.data_root, said.metrics_root


def _percent(millionths: int) -> str:
    return f"{millionths / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


def _refuse(what: str, whole: bool) -> BadRequest:
    can = [mode.value for mode in WAYS if whole == (mode is Mode.REPLICATE)]
    return BadRequest(what, effect=_NOTHING, todo=f"Choose {' or '.join(can)}.")
