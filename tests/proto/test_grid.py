"""Where a job's segments end."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.grid import Grid

GRIDS = st.builds(Grid, st.integers(1, 500), st.integers(1, 100), st.integers(0, 100))


@given(grid=GRIDS)
def test_the_segments_cover_the_job(grid: Grid) -> None:
    ends = list(grid.ends())

    assert ends[-1] == grid.steps
    assert all(before < after for before, after in pairwise([0, *ends]))
    assert len(grid) == len(ends)


@given(grid=GRIDS)
def test_no_segment_is_longer_than_agreed(grid: Grid) -> None:
    lengths = [after - before for before, after in pairwise([0, *grid.ends()])]

    assert max(lengths[1:-1], default=0) <= grid.segment_steps
    assert max(lengths) <= max(grid.segment_steps, grid.end_steps)


@given(grid=GRIDS, data=st.data())
def test_a_run_that_begins_between_comes_back_to_the_ends(grid: Grid, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, grid.steps - 1))

    assert grid.end_after(step) == next(end for end in grid.ends() if end > step)


def test_the_first_and_the_last_may_be_short() -> None:
    assert list(Grid(100, 30, 4).ends()) == [4, 34, 64, 94, 96, 100]
    assert list(Grid(100, 30).ends()) == [30, 60, 90, 100]
