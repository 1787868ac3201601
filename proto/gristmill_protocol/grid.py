"""Where a job's segments end: all parties cut it alike, or its records don't count.

The first and the last segment are always run again, whatever is drawn. They are there to see that the work began as
ordered and that what was delivered is what it led to; a few steps show that as well as many, so they may be short.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """How a job is cut.

    Args:
        steps: of the job, above 0.
        segment_steps: of a segment, above 0; the last of full length may be shorter.
        end_steps: of the first and of the last segment; 0: they are like the others.
    """

    steps: int
    segment_steps: int
    end_steps: int = 0

    def end_after(self, step: int) -> int:
        """Where the segment ends that the step with this number, counted from 0, is part of."""
        if step < self.end_steps:
            return min(self.end_steps, self.steps)
        last = max(self.steps - self.end_steps, self.end_steps)
        if step >= last:
            return self.steps
        done = (step - self.end_steps) // self.segment_steps + 1
        return min(self.end_steps + done * self.segment_steps, last)

    def ends(self) -> Iterator[int]:
        """All ends, ascending; the last is the job's."""
        step = 0
        while step < self.steps:
            step = self.end_after(step)
            yield step

    def __len__(self) -> int:
        """How many segments there are."""
        between = max(self.steps - 2 * self.end_steps, 0)
        first_and_last = min(2, -(-self.steps // self.end_steps)) if self.end_steps else 0
        return first_and_last - (-between // self.segment_steps)
