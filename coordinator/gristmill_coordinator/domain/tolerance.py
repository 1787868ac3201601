"""How far apart is too far, between machines that round differently; the figures are measured, docs/verification.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gristmill_coordinator.domain.windows import Opinion, Verdict
from gristmill_protocol.jobs import Plan
from gristmill_protocol.modes import Numerics

# Beyond this honest machines differ by as much as cheats do: only the same kind of machine can check the job.
MOST_TAU = 0.05


@dataclass(frozen=True)
class Distance:
    """Infinite where a number is none, or where something differs that no rounding can change."""

    first_moment: float  # the parameter delta again, where the optimizer keeps no first moment
    parameter_delta: float  # each coordinate weighted by the root of my second moment, where there is one
    remainder: float  # the largest of what no gradient checks: second moments, running statistics, frozen tensors


@dataclass(frozen=True)
class Bounds:
    """Above flag another look is taken, above reject the work does not count."""

    flag: float
    reject: float

    def calibrated(self, sigma: float) -> "Bounds":
        flag = max(self.flag / 4, 4 * sigma)
        return Bounds(flag, self.reject * flag / self.flag)


@dataclass(frozen=True)
class Tolerance:
    """What a kind of numerics allows.

    Args:
        segment_steps: the most optimizer steps after which states are still comparable.
    """

    segment_steps: int
    first_moment: Bounds
    parameter_delta: Bounds
    remainder: Bounds

    def calibrated(self, sigma: Distance | None) -> "Tolerance":
        """Tightened or widened to what two honest machines of different kinds showed on this very job.

        Args:
            sigma: their distance from each other; None: there were no two kinds, so the table stands.
        """
        if sigma is None:
            return self
        return Tolerance(
            self.segment_steps,
            self.first_moment.calibrated(sigma.first_moment),
            self.parameter_delta.calibrated(sigma.parameter_delta),
            self.remainder.calibrated(sigma.remainder),
        )

    @property
    def usable(self) -> bool:
        """Whether machines of different kinds can check one another at all."""
        return all(bounds.flag <= MOST_TAU for bounds in (self.first_moment, self.parameter_delta, self.remainder))

    def grade(self, found: Distance) -> "Grade":
        pairs = (
            (found.first_moment, self.first_moment),
            (found.parameter_delta, self.parameter_delta),
            (found.remainder, self.remainder),
        )
        # "not <=" rather than ">": a distance that is no number is far.
        if any(not value <= bounds.reject for value, bounds in pairs):
            return Grade.FAR
        return Grade.FLAGGED if any(value > bounds.flag for value, bounds in pairs) else Grade.CLOSE


class Grade(IntEnum):
    """One verifier's end state against the provider's."""

    CLOSE = 0
    FLAGGED = 1
    FAR = 2


TABLE = {
    Numerics.ADAM_FP32: Tolerance(5, Bounds(1e-4, 3e-4), Bounds(1e-4, 3e-4), Bounds(1e-4, 3e-4)),
    Numerics.ADAM_BF16: Tolerance(5, Bounds(1.2e-2, 3e-2), Bounds(7e-3, 3e-2), Bounds(1.2e-2, 3e-2)),
    # After 25 steps honest machines are half as far apart as cheats, after one a 57th.
    Numerics.SGD_FP32: Tolerance(1, Bounds(2e-2, 6e-2), Bounds(2e-2, 6e-2), Bounds(2e-2, 6e-2)),
}


def cut(plan: Plan, numerics: Numerics) -> Plan:
    """The plan with segments that are short enough to compare, all alike; windows keep their steps."""
    steps = min(plan.segment_steps, TABLE[numerics].segment_steps)
    window = -(-plan.window_segments * plan.segment_steps // steps)
    return plan.model_copy(update={"segment_steps": steps, "end_steps": 0, "window_segments": window})


# One word is enough for work not to count; that a result is wrong takes two, and there is only one of the same kind.
_BY_OPINION = {
    Opinion.AGREES: Verdict.PASSED,
    Opinion.DIFFERS: Verdict.TOO_FAR,
    Opinion.OTHER_RESULT: Verdict.UNCONFIRMED,
}


def judge_segment(
    grades: Sequence[Grade | None], opinion: Opinion | None, *, asked: bool, others: bool, usable: bool
) -> Verdict:
    """The verdict on one sampled segment. It is never fraud: what rounding may explain takes nobody's stake.

    Args:
        grades: of the verifiers on other kinds of machines; None while one has not answered.
        opinion: of the machine of the provider's own kind, once it has answered; it decides.
        asked: whether such a machine was asked.
        others: whether there is one that could answer.
        usable: whether other kinds of machines can judge this job.
    """
    given = [grade for grade in grades if grade is not None]
    if len(given) < len(grades):
        return Verdict.PENDING
    if usable and max(given) is Grade.CLOSE:
        return Verdict.PASSED
    if opinion is not None:
        return _BY_OPINION[opinion]
    if others:
        return Verdict.PENDING if asked else Verdict.SECOND_OPINION
    if not usable:
        return Verdict.NOT_COMPARABLE
    return Verdict.TOO_FAR if max(given) is Grade.FAR else Verdict.PASSED
