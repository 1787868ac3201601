"""What is committed, how much of it is sampled, and what follows from the verifiers' answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gristmill_protocol.commitments import SegmentRecord, chain_break
from gristmill_protocol.jobs import AttemptState, Plan, WindowState
from gristmill_protocol.progress import Replayed

_RANK = {
    WindowState.OPEN: 0,
    WindowState.COMMITTED: 1,
    WindowState.SAMPLED: 2,
    WindowState.DISPUTED: 3,
    WindowState.PASSED: 4,
    WindowState.VOID: 4,
    WindowState.PAID: 5,
}


def window_advances(before: WindowState, after: WindowState) -> bool:
    """Whether a window moves on. VOID and PAID are final; only what passed is paid."""
    if after is WindowState.PAID:
        return before is WindowState.PASSED
    return before is not WindowState.VOID and _RANK[after] > _RANK[before]


UNJUDGED = tuple(state for state in WindowState if window_advances(state, WindowState.VOID))
PAYABLE = tuple(state for state in WindowState if window_advances(state, WindowState.PAID))


class Finding(StrEnum):
    """Why a window is void."""

    FRAUD = "fraud"
    NOT_REPRODUCIBLE = "not reproducible"  # nobody agrees with anybody: not the provider's fault alone
    UNCONFIRMED = "unconfirmed"  # one verifier contradicts it and there is no other to ask
    WRONG_RESULT = "wrong result"  # the work is right, what was handed over is not what it gives
    UNSERVED = "unserved"  # a sampled state, or the window's last, could not be had
    NOT_RUN = "not run"  # verifiers could not re-run it
    TOO_FAR = "too far"  # other kinds of machines came out farther away than rounding explains
    NOT_COMPARABLE = "not comparable"  # on this job other kinds of machines differ too much to judge
    DROPPED = "dropped"  # it builds on work that is not there any more
    OUTVOTED = "outvoted"  # most machines that ran the whole job came to something else
    MISSED = "missed"  # the result is not as good as was asked for


MAX_REFUSALS = 5  # of one audit: then it is the work that cannot be run again

# After these a job does not go to the same machine again.
EXCLUDING = tuple(finding for finding in Finding if finding is not Finding.DROPPED)


@dataclass(frozen=True)
class Start:
    """Where a window has to begin: at the attempt's start or the previous window's end."""

    index: int
    step: int
    state_root: str | None  # None: the initial state, which the verifier derives


def kept(uploaded: Sequence[bool], ended: AttemptState | None) -> int:
    """How many of a window's segments count.

    While a node is there, its states can be fetched: everything counts. From a node that left with notice, up to the
    last state we hold, which is where the job goes on. From a lost node only what can be audited without it.

    Args:
        uploaded: for each segment in order, whether we hold the state after it.
        ended: how the attempt ended, None while it runs.
    """
    if ended in (None, AttemptState.FINISHED):
        return len(uploaded)
    if ended is AttemptState.LOST:
        return next((at for at, held in enumerate(uploaded) if not held), len(uploaded))
    return max((at + 1 for at, held in enumerate(uploaded) if held), default=0)


def broken(start: Start, records: Sequence[SegmentRecord], plan: Plan) -> str | None:
    """Why these records are no honest continuation of start, None if they may be.

    Segments end on the plan's grid, only a run that is cut off ends between: a draw among segments is one among steps
    only if a provider cannot put the steps that it skips into a segment of its own making.
    """
    first = records[0]
    if (first.index, first.step_from) != (start.index, start.step):
        return f"segment {first.index} does not begin where the work stood"
    if start.state_root is not None and first.state_root_prev != start.state_root:
        return f"segment {first.index} does not start from the accepted state"
    if records[-1].step_to > plan.steps:
        return f"segment {records[-1].index} goes past the job's last step"
    for record in records:
        end = plan.grid.end_after(record.step_from)
        if record.step_to > end or (record.step_to < end and record is not records[-1]):
            return f"segment {record.index} ends at step {record.step_to}, not at {end} as agreed"
    return chain_break(records)


class Opinion(StrEnum):
    """One verifier's answer, compared with the record."""

    AGREES = "agrees"
    DIFFERS = "differs"
    OTHER_RESULT = "other result"  # the work is the same, what follows from it is not what was handed over


class Verdict(StrEnum):
    """What a window's audits say so far."""

    PENDING = "pending"
    PASSED = "passed"
    SECOND_OPINION = "second opinion"  # a mismatch that another verifier has to confirm
    FRAUD = "fraud"
    WRONG_RESULT = "wrong result"  # the work is right, what was handed over is not what it gives
    NOT_REPRODUCIBLE = "not reproducible"  # nobody agrees with anybody: not the provider's fault alone
    UNCONFIRMED = "unconfirmed"  # one verifier's word against the provider's: too little to take a bond
    TOO_FAR = "too far"  # for rounding; in tolerance mode only
    NOT_COMPARABLE = "not comparable"  # other kinds of machines can't judge this job; in tolerance mode only


@dataclass(frozen=True)
class Result:
    """What a provider handed over at the job's end: digests of its files, by name, and of its scorecard."""

    files: Mapping[str, str]
    scorecard_sha256: str


def compare(record: SegmentRecord, replayed: Replayed, result: Result | None = None) -> Opinion:
    """Bit for bit: the state it started from, the state it ended in, the examples used and the numbers logged.

    Args:
        result: where the segment ends the job; it has to be the one that the end state gives.
    """
    if _roots(replayed) != _roots(record):
        return Opinion.DIFFERS
    if result is not None and Result(replayed.files, replayed.scorecard_sha256 or "") != result:
        return Opinion.OTHER_RESULT
    return Opinion.AGREES


def judge_segment(
    record: SegmentRecord,
    answers: Sequence[Replayed | None],
    *,
    others: bool,
    doubled: bool = False,
    result: Result | None = None,
) -> Verdict:
    """The verdict on one sampled segment.

    Two verifiers who got the same other outcome are needed for a fraud or a wrong result. What one of them contradicts
    passes on the word of as many others as were asked from the start.

    Args:
        answers: of the verifiers asked so far, in order; None while one has not answered.
        others: whether somebody else could be asked.
        doubled: two were asked from the start.
        result: as compare takes it.
    """
    first_asked = 2 if doubled else 1
    given = [one for one in answers if one is not None]
    if len(given) < len(answers):
        may_come = others or len(answers) <= first_asked
        return Verdict.PENDING if may_come else Verdict.UNCONFIRMED
    opinions = [(compare(record, one, result), one) for one in given]
    differing = [_outcome(opinion, one) for opinion, one in opinions if opinion is not Opinion.AGREES]
    if not differing:
        return Verdict.PASSED
    confirmed = {opinion for (opinion, *_), count in Counter(differing).items() if count > 1}
    if confirmed:
        return Verdict.FRAUD if Opinion.DIFFERS in confirmed else Verdict.WRONG_RESULT
    if len(given) - len(differing) >= first_asked:
        return Verdict.PASSED
    if len(given) > first_asked:
        return Verdict.NOT_REPRODUCIBLE
    return Verdict.SECOND_OPINION if others else Verdict.UNCONFIRMED


def judge(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a window from those on its sampled segments: the worst that is certain, then what is open."""
    return next((verdict for verdict in _GRAVEST_FIRST if verdict in verdicts), Verdict.PASSED)


# A certain fraud decides; what is still open may become one; only then does it matter what can't be proved, and nobody
# gets away with less for work that he didn't do by handing over a wrong file as well.
_GRAVEST_FIRST = (
    Verdict.FRAUD,
    Verdict.NOT_REPRODUCIBLE,
    Verdict.TOO_FAR,
    Verdict.NOT_COMPARABLE,
    Verdict.SECOND_OPINION,
    Verdict.PENDING,
    Verdict.WRONG_RESULT,
    Verdict.UNCONFIRMED,
)


def _outcome(opinion: Opinion, replayed: Replayed) -> tuple[object, ...]:
    """What two verifiers have to agree in. Of other work the result does not matter."""
    if opinion is Opinion.DIFFERS:
        return (opinion, *_roots(replayed))
    return (opinion, replayed.scorecard_sha256, *sorted(replayed.files.items()))


def _roots(said: SegmentRecord | Replayed) -> tuple[str, str, str, str]:
    return said.state_root_prev, said.state_root, said.data_root, said.metrics_root
