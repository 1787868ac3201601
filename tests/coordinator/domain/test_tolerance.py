import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.tolerance import (
    TABLE,
    Bounds,
    Distance,
    Grade,
    cut,
    judge_segment,
)
from gristmill_coordinator.domain.windows import Opinion, Verdict
from gristmill_protocol.jobs import Plan
from gristmill_protocol.modes import Numerics

CLOSE, FLAGGED, FAR = Grade.CLOSE, Grade.FLAGGED, Grade.FAR
ADAM = TABLE[Numerics.ADAM_FP32]
NEAR = Distance(0.0, 0.0, 0.0)


def plan(steps: int, segment_steps: int, window_segments: int) -> Plan:
    return Plan(
        settings={}, steps=steps, segment_steps=segment_steps, window_segments=window_segments, flops=1, peak_bytes=1,
        state_bytes=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sigma", "bounds"),
    [
        (0.0, Bounds(2.5e-5, 7.5e-5)),  # a quarter of the table, however alike the two were
        (1e-6, Bounds(2.5e-5, 7.5e-5)),
        (2.5e-5, Bounds(1e-4, 3e-4)),  # four times what honest machines differ
        (1e-2, Bounds(4e-2, 12e-2)),
    ],
)
def test_bounds_follow_what_honest_machines_differ(sigma: float, bounds: Bounds) -> None:
    found = Bounds(1e-4, 3e-4).calibrated(sigma)

    assert (found.flag, found.reject) == pytest.approx((bounds.flag, bounds.reject))


def test_without_two_kinds_the_table_stands() -> None:
    assert ADAM.calibrated(None) == ADAM


@pytest.mark.parametrize("sigma", [Distance(0.02, 0, 0), Distance(0, 0.0126, 0), Distance(0, 0, 0.02)])
def test_machines_that_differ_too_much_cannot_judge(sigma: Distance) -> None:
    assert not ADAM.calibrated(sigma).usable
    assert ADAM.calibrated(Distance(0.0124, 0.0124, 0.0124)).usable


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("measure", range(3))
def test_a_distance_that_is_no_number_is_far(measure: int, value: float) -> None:
    assert ADAM.grade(Distance(*[value if at == measure else 0.0 for at in range(3)])) is FAR


@given(st.sampled_from(list(Numerics)), st.floats(0, 1), st.integers(0, 2), st.floats(0, 0.01))
def test_grades_rise_with_any_distance(numerics: Numerics, value: float, measure: int, sigma: float) -> None:
    tolerance = TABLE[numerics].calibrated(Distance(sigma, sigma, sigma))
    bounds = (tolerance.first_moment, tolerance.parameter_delta, tolerance.remainder)[measure]

    grade = tolerance.grade(Distance(*[value if at == measure else 0.0 for at in range(3)]))

    assert grade is (FAR if value > bounds.reject else FLAGGED if value > bounds.flag else CLOSE)
    assert tolerance.grade(NEAR) is CLOSE


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 60), st.sampled_from(list(Numerics)))
def test_segments_are_cut_short_and_windows_keep_their_steps(
    steps: int, segment_steps: int, window_segments: int, numerics: Numerics
) -> None:
    whole = plan(steps, segment_steps, window_segments)

    short = cut(whole, numerics)

    assert short.segment_steps <= min(segment_steps, TABLE[numerics].segment_steps)
    assert 0 <= short.window_segments * short.segment_steps - window_segments * segment_steps < short.segment_steps
    assert short.steps == steps


@pytest.mark.parametrize(
    ("grades", "opinion", "asked", "others", "usable", "verdict"),
    [
        ((None, CLOSE), None, False, True, True, Verdict.PENDING),
        ((CLOSE, CLOSE), None, False, True, True, Verdict.PASSED),
        ((CLOSE, FLAGGED), None, False, True, True, Verdict.SECOND_OPINION),
        ((CLOSE, FAR), None, False, True, True, Verdict.SECOND_OPINION),
        ((FAR, FAR), None, True, True, True, Verdict.PENDING),
        ((FAR, FAR), Opinion.AGREES, True, True, True, Verdict.PASSED),
        ((CLOSE, FLAGGED), Opinion.DIFFERS, True, True, True, Verdict.TOO_FAR),
        ((FLAGGED, FLAGGED), None, False, False, True, Verdict.PASSED),
        ((FAR, CLOSE), None, False, False, True, Verdict.TOO_FAR),
        ((FAR, FAR), None, True, False, True, Verdict.TOO_FAR),
        ((CLOSE, CLOSE), None, False, True, False, Verdict.SECOND_OPINION),
        ((CLOSE, CLOSE), None, False, False, False, Verdict.NOT_COMPARABLE),
        ((FAR, FAR), Opinion.AGREES, True, True, False, Verdict.PASSED),
    ],
)
def test_the_verdict_on_a_segment(
    grades: tuple[Grade | None, ...], opinion: Opinion | None, asked: bool, others: bool, usable: bool, verdict: Verdict
) -> None:
    assert judge_segment(grades, opinion, asked=asked, others=others, usable=usable) is verdict


@given(
    st.lists(st.sampled_from([None, *Grade]), min_size=1, max_size=2),
    st.sampled_from([None, *Opinion]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_tolerance_never_finds_fraud(
    grades: list[Grade | None], opinion: Opinion | None, asked: bool, others: bool, usable: bool
) -> None:
    verdict = judge_segment(grades, opinion, asked=asked, others=others, usable=usable)

    assert verdict not in (Verdict.FRAUD, Verdict.NOT_REPRODUCIBLE)
