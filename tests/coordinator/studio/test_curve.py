"""The curve of a training, whatever numbers a machine sends."""

from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.studio.chart import Point, curve

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(numbers, min_size=3, max_size=40))
def test_any_numbers_make_a_curve_with_a_sentence(values: list[float]) -> None:
    drawn = curve([Point(step, value, step) for step, value in enumerate(values)], len(values))

    assert drawn is not None
    assert drawn.sentence.startswith("The lower the line, the fewer mistakes. It has ")


def test_what_falls_by_half_says_so() -> None:
    drawn = curve([Point(step, value, step) for step, value in enumerate([2.0] * 5 + [1.0] * 5)], 10)

    assert drawn is not None
    assert drawn.sentence.endswith("It has fallen by 50 %.")
