"""A job's and an attempt's life: the reason is recorded, the state is derived from it, and it never goes backwards."""

from enum import StrEnum

from gristmill_protocol.jobs import AttemptState, JobState


class JobReason(StrEnum):
    """Why a job is where it is."""

    SUBMITTED = "submitted"
    NO_OFFER = "no_offer"
    MOVING = "moving"
    LEASED = "leased"
    STOP_ASKED = "stop_asked"
    WORK_ENDED = "work_ended"
    ACCEPTED = "accepted"
    SIGNATURE_WANTED = "signature_wanted"
    STATEMENT_HELD = "statement_held"
    UNFUNDED = "unfunded"
    TOO_DEAR = "too_dear"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def state(self) -> JobState:
        return _STATE[self]


class Ending(StrEnum):
    """How a job will end, whatever of it is still checked and paid before."""

    NONE = ""  # with its result, if all goes well
    STOPPED = "stopped"
    FAILED = "failed"


_STATE = {
    JobReason.SUBMITTED: JobState.QUEUED,
    JobReason.NO_OFFER: JobState.QUEUED,
    JobReason.MOVING: JobState.QUEUED,
    JobReason.LEASED: JobState.RUNNING,
    JobReason.STOP_ASKED: JobState.CHECKING,
    JobReason.WORK_ENDED: JobState.CHECKING,
    JobReason.ACCEPTED: JobState.SETTLING,
    JobReason.SIGNATURE_WANTED: JobState.SETTLING,
    JobReason.STATEMENT_HELD: JobState.SETTLING,
    JobReason.UNFUNDED: JobState.SETTLING,
    JobReason.TOO_DEAR: JobState.SETTLING,
    JobReason.DONE: JobState.DONE,
    JobReason.FAILED: JobState.FAILED,
    JobReason.STOPPED: JobState.STOPPED,
}

# A job that lost its machine is queued again, after its proven work was checked: the only way back there is.
_NEXT = {
    JobState.QUEUED: {JobState.QUEUED, JobState.RUNNING, JobState.CHECKING},
    JobState.RUNNING: {JobState.CHECKING},
    JobState.CHECKING: {
        JobState.CHECKING,
        JobState.QUEUED,
        JobState.SETTLING,
        JobState.DONE,
        JobState.FAILED,
        JobState.STOPPED,
    },
    JobState.SETTLING: {JobState.SETTLING, JobState.DONE, JobState.FAILED, JobState.STOPPED},
}

_RANK = {
    AttemptState.OFFERED: 0,
    AttemptState.PREPARING: 1,
    AttemptState.RUNNING: 2,
    AttemptState.FINISHED: 3,
    AttemptState.YIELDED: 3,
    AttemptState.LOST: 3,
    AttemptState.FAILED: 3,
}

# A statement that pays the job is held, and not settled yet.
PAYING = (JobReason.STATEMENT_HELD, JobReason.UNFUNDED, JobReason.TOO_DEAR)

ACTIVE = tuple(state for state in AttemptState if not state.ended)


def reasons(*states: JobState) -> tuple[JobReason, ...]:
    """The reasons that put a job into one of these states."""
    return tuple(reason for reason, state in _STATE.items() if state in states)


UNENDED = reasons(*(state for state in JobState if not state.ended))


def may_follow(earlier: JobReason, later: JobReason) -> bool:
    """Whether a job may go from one reason to the other."""
    return later.state in _NEXT.get(earlier.state, ())


def before(after: JobReason) -> tuple[JobReason, ...]:
    """The reasons from which a job may go to this one."""
    return tuple(reason for reason in JobReason if may_follow(reason, after))


def attempt_advances(before: AttemptState, after: AttemptState) -> bool:
    """Whether an attempt moves on: to a later state, and never out of an ended one."""
    return not before.ended and _RANK[after] > _RANK[before]


def conclude(
    *, ending: Ending, steps_accepted: int, steps_total: int, failures: int, max_failures: int
) -> tuple[JobReason, Ending]:
    """What becomes of a job whose attempts have all ended and whose windows are all judged.

    Args:
        failures: attempts that failed by their machine's fault.
    """
    if steps_accepted == steps_total:
        return JobReason.ACCEPTED, Ending.NONE
    if ending is Ending.NONE and failures < max_failures:
        return JobReason.MOVING, Ending.NONE
    ending = ending or Ending.FAILED
    return (JobReason.ACCEPTED if steps_accepted else final(ending)), ending


def final(ending: Ending) -> JobReason:
    """The last reason of a job that ends like this."""
    return {Ending.NONE: JobReason.DONE, Ending.STOPPED: JobReason.STOPPED, Ending.FAILED: JobReason.FAILED}[ending]
