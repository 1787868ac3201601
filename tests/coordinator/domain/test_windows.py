"""What is committed, sampled and concluded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.windows import (
    Opinion,
    Result,
    Start,
    Verdict,
    broken,
    compare,
    judge,
    judge_segment,
    kept,
    window_advances,
)
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.jobs import AttemptState, Plan, WindowState
from gristmill_protocol.progress import Replayed

ended = st.sampled_from([None, *(state for state in AttemptState if state.ended)])


def digest(name: object) -> str:
    return f"{hash(name) % 16**8:064x}"


def plan(steps: int) -> Plan:
    return Plan(settings={}, steps=steps, segment_steps=10, flops=1, peak_bytes=1, state_bytes=1)


def record(
    index: int, *, step_from: int | None = None, step_to: int | None = None, prev: str | None = None
) -> SegmentRecord:
    return SegmentRecord(
        job_id="job", index=index, step_from=10 * index if step_from is None else step_from,
        step_to=10 * index + 10 if step_to is None else step_to,
        state_root_prev=prev or digest(("state", index)), state_root=digest(("state", index + 1)),
        data_root=digest("data"), metrics_root=digest("metrics"), micro_root=digest("micro"), started_ms=0, ended_ms=1,
        numeric_class=digest("class"),
    )  # fmt: skip


def replay(of: SegmentRecord, **changes: Any) -> Replayed:
    answer = Replayed(
        step_from=of.step_from, step_to=of.step_to, state_root_prev=of.state_root_prev, state_root=of.state_root,
        data_root=of.data_root, metrics_root=of.metrics_root,
    )  # fmt: skip
    return answer.model_copy(update=changes)


@given(st.lists(st.booleans(), max_size=20), ended)
def test_what_is_kept_of_a_lost_machines_work_can_be_checked_without_it(
    uploaded: list[bool], how: AttemptState | None
) -> None:
    count = kept(uploaded, how)

    assert 0 <= count <= len(uploaded)
    if how is AttemptState.LOST:
        assert all(uploaded[:count])
        assert count == len(uploaded) or not uploaded[count]
    elif how in (AttemptState.YIELDED, AttemptState.FAILED):
        assert count == 0 or uploaded[count - 1]
        assert not any(uploaded[count:])
    else:
        assert count == len(uploaded)


def test_a_good_chain_is_not_broken() -> None:
    assert broken(Start(0, 0, None), [record(0), record(1)], plan(20)) is None
    assert broken(Start(1, 10, digest(("state", 1))), [record(1), record(2)], plan(30)) is None
    assert broken(Start(0, 0, None), [record(0), record(1, step_to=14)], plan(20)) is None  # it was cut off
    assert (
        broken(Start(2, 14, None), [record(2, step_from=14, step_to=20), record(3, step_from=20, step_to=25)], plan(25))
        is None
    )


@pytest.mark.parametrize(
    ("start", "records"),
    [
        (Start(1, 10, None), [record(0)]),
        (Start(0, 5, None), [record(0)]),
        (Start(0, 0, digest("another state")), [record(0)]),
        (Start(0, 0, None), [record(0), record(2)]),
        (Start(0, 0, None), [record(0), record(1, prev=digest("another state"))]),
        (Start(0, 0, None), [record(0), record(1, step_from=15)]),
        (Start(0, 0, None), [record(0), record(1), record(2)]),
        (Start(0, 0, None), [record(0, step_to=20)]),
        (Start(0, 0, None), [record(0, step_to=5), record(1, step_from=5)]),
    ],
    ids=["index", "step", "state", "gap", "chain", "steps", "too far", "too long", "too short"],
)
def test_a_broken_chain_is_seen(start: Start, records: list[SegmentRecord]) -> None:
    assert broken(start, records, plan(20)) is not None


@pytest.mark.parametrize("field", ["state_root_prev", "state_root", "data_root", "metrics_root"])
def test_one_different_digest_is_a_mismatch(field: str) -> None:
    assert compare(record(0), replay(record(0))) is Opinion.AGREES
    assert compare(record(0), replay(record(0), **{field: digest("other")})) is Opinion.DIFFERS


@pytest.mark.parametrize(
    ("made", "opinion"),
    [
        ({"files": {"model": "a"}, "scorecard_sha256": "b"}, Opinion.AGREES),
        ({"files": {"model": "x"}, "scorecard_sha256": "b"}, Opinion.OTHER_RESULT),
        ({"files": {"model": "a", "more": "a"}, "scorecard_sha256": "b"}, Opinion.OTHER_RESULT),
        ({"files": {}, "scorecard_sha256": "b"}, Opinion.OTHER_RESULT),
        ({"files": {"model": "a"}, "scorecard_sha256": "x"}, Opinion.OTHER_RESULT),
        ({"files": {"model": "a"}, "scorecard_sha256": None}, Opinion.OTHER_RESULT),
        ({"files": {"model": "x"}, "scorecard_sha256": "b", "state_root": "0" * 64}, Opinion.DIFFERS),
    ],
)
def test_at_the_jobs_end_the_result_is_compared_too(made: dict[str, Any], opinion: Opinion) -> None:
    assert compare(record(0), replay(record(0), **made), Result({"model": "a"}, "b")) is opinion


GOOD, WRONG, OTHER = replay(record(0)), replay(record(0), state_root="0" * 64), replay(record(0), state_root="1" * 64)


@pytest.mark.parametrize(
    ("answers", "others", "verdict"),
    [
        ([None], True, Verdict.PENDING),
        ([GOOD], True, Verdict.PASSED),
        ([WRONG], True, Verdict.SECOND_OPINION),
        ([WRONG], False, Verdict.UNCONFIRMED),
        ([WRONG, None], True, Verdict.PENDING),
        ([WRONG, None], False, Verdict.UNCONFIRMED),
        ([WRONG, GOOD], True, Verdict.PASSED),
        ([WRONG, WRONG], True, Verdict.FRAUD),
        ([WRONG, OTHER], True, Verdict.NOT_REPRODUCIBLE),
    ],
)
def test_verdict_on_a_segment(answers: list[Replayed | None], others: bool, verdict: Verdict) -> None:
    assert judge_segment(record(0), answers, others=others) is verdict


@pytest.mark.parametrize(
    ("answers", "others", "verdict"),
    [
        ([GOOD, None], False, Verdict.PENDING),
        ([None, WRONG], True, Verdict.PENDING),
        ([GOOD, GOOD], True, Verdict.PASSED),
        ([WRONG, WRONG], False, Verdict.FRAUD),
        ([GOOD, WRONG], True, Verdict.SECOND_OPINION),
        ([WRONG, GOOD], False, Verdict.UNCONFIRMED),
        ([WRONG, OTHER], True, Verdict.SECOND_OPINION),
        ([GOOD, WRONG, None], True, Verdict.PENDING),
        ([GOOD, WRONG, None], False, Verdict.UNCONFIRMED),
        ([GOOD, WRONG, GOOD], True, Verdict.PASSED),
        ([GOOD, WRONG, WRONG], True, Verdict.FRAUD),
        ([GOOD, WRONG, OTHER], True, Verdict.NOT_REPRODUCIBLE),
        ([WRONG, OTHER, GOOD], True, Verdict.NOT_REPRODUCIBLE),
    ],
)
def test_verdict_on_a_segment_with_two_verifiers(
    answers: list[Replayed | None], others: bool, verdict: Verdict
) -> None:
    """One who vouches for a fake does not outweigh one who contradicts it: a third decides."""
    assert judge_segment(record(0), answers, others=others, doubled=True) is verdict


@given(st.lists(st.sampled_from(Verdict), min_size=1, max_size=6))
def test_a_window_passes_only_if_every_sample_does(verdicts: list[Verdict]) -> None:
    assert (judge(verdicts) is Verdict.PASSED) == all(one is Verdict.PASSED for one in verdicts)
    assert (judge(verdicts) is Verdict.FRAUD) == (Verdict.FRAUD in verdicts)


@given(st.lists(st.sampled_from(WindowState), max_size=12))
def test_a_window_never_goes_back_and_what_is_void_is_never_paid(said: list[WindowState]) -> None:
    lived = [WindowState.OPEN]
    for state in said:
        if window_advances(lived[-1], state):
            lived.append(state)

    assert len(set(lived)) == len(lived)
    assert not {WindowState.VOID, WindowState.PAID} <= set(lived)
    if WindowState.PAID in lived:
        assert lived[-2:] == [WindowState.PASSED, WindowState.PAID]


HANDED_OVER = Result({"model": "bought"}, "b")
MADE = replay(record(0), files={"model": "made"}, scorecard_sha256="b")
BOUGHT = replay(record(0), files={"model": "bought"}, scorecard_sha256="b")
FAKED = [replay(record(0), state_root="0" * 64, files={"model": name}, scorecard_sha256="b") for name in "ab"]


@pytest.mark.parametrize(
    ("answers", "others", "verdict"),
    [
        ([BOUGHT], True, Verdict.PASSED),
        ([MADE], True, Verdict.SECOND_OPINION),
        ([MADE], False, Verdict.UNCONFIRMED),
        ([MADE, BOUGHT], True, Verdict.PASSED),
        ([MADE, MADE], True, Verdict.WRONG_RESULT),
        ([MADE, GOOD], True, Verdict.NOT_REPRODUCIBLE),
        ([MADE, WRONG], True, Verdict.NOT_REPRODUCIBLE),
        (FAKED, True, Verdict.FRAUD),
    ],
)
def test_verdict_on_the_segment_that_ends_the_job(answers: list[Replayed], others: bool, verdict: Verdict) -> None:
    assert judge_segment(record(0), answers, others=others, result=HANDED_OVER) is verdict


def test_who_did_not_do_the_work_is_not_let_off_for_a_wrong_file() -> None:
    assert judge([Verdict.WRONG_RESULT, Verdict.PENDING]) is Verdict.PENDING
    assert judge([Verdict.WRONG_RESULT, Verdict.SECOND_OPINION]) is Verdict.SECOND_OPINION
    assert judge([Verdict.FRAUD, Verdict.WRONG_RESULT]) is Verdict.FRAUD
    assert judge([Verdict.WRONG_RESULT, Verdict.PASSED]) is Verdict.WRONG_RESULT
