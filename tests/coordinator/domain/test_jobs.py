"""States: derived from their reason, never backwards."""

from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.jobs import (
    Ending,
    JobReason,
    attempt_advances,
    conclude,
    final,
    may_follow,
    reasons,
)
from gristmill_protocol.jobs import AttemptState, JobState

any_reason = st.sampled_from(JobReason)
any_attempt = st.sampled_from(AttemptState)


def test_every_state_has_a_reason() -> None:
    assert {reason.state for reason in JobReason} == set(JobState)
    assert set(reasons(*JobState)) == set(JobReason)


@given(any_reason, any_reason)
def test_nothing_follows_an_end(before: JobReason, after: JobReason) -> None:
    if before.state.ended:
        assert not may_follow(before, after)


@given(any_reason, any_reason)
def test_a_job_that_is_being_paid_never_runs_again(before: JobReason, after: JobReason) -> None:
    if before.state is JobState.SETTLING and may_follow(before, after):
        assert after.state is JobState.SETTLING or after.state.ended


@given(any_reason)
def test_a_job_runs_only_from_the_queue_and_is_queued_again_only_once_checked(before: JobReason) -> None:
    if may_follow(before, JobReason.LEASED):
        assert before.state is JobState.QUEUED
    if may_follow(before, JobReason.MOVING):
        assert before.state in (JobState.CHECKING, JobState.QUEUED)


@given(st.lists(any_attempt, max_size=12))
def test_an_attempt_ends_once_and_never_goes_back(said: list[AttemptState]) -> None:
    lived = [AttemptState.OFFERED]
    for state in said:
        if attempt_advances(lived[-1], state):
            lived.append(state)

    order = [AttemptState.OFFERED, AttemptState.PREPARING, AttemptState.RUNNING]
    running = [order.index(state) for state in lived if state in order]
    assert running == sorted(set(running))
    assert sum(state.ended for state in lived) <= 1
    assert not any(state.ended for state in lived[:-1])


@given(ending=st.sampled_from(Ending), total=st.integers(1, 100), done=st.integers(0, 100), failures=st.integers(0, 9))
def test_what_is_accepted_is_paid_however_a_job_ends(ending: Ending, total: int, done: int, failures: int) -> None:
    done = min(done, total)

    reason, how = conclude(ending=ending, steps_accepted=done, steps_total=total, failures=failures, max_failures=5)

    assert may_follow(JobReason.WORK_ENDED, reason)
    if done == total:
        assert (reason, how) == (JobReason.ACCEPTED, Ending.NONE)
    elif reason is JobReason.ACCEPTED:
        assert done
        assert how is not Ending.NONE
    elif reason is JobReason.MOVING:
        assert ending is Ending.NONE
        assert failures < 5
    else:
        assert not done
        assert reason is final(how)
