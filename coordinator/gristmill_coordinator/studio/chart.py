"""The learning curve, drawn by the server: a picture with a sentence as its label."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 180
_TOP, _BOTTOM = 12, 168
_LEAST = 3  # points that make a curve


@dataclass(frozen=True)
class Point:
    step: int
    value: float  # how far off it was; less is better
    at_ms: int


@dataclass(frozen=True)
class Curve:
    """What the template draws."""

    line: str  # SVG points
    area: str
    sentence: str


def curve(points: Sequence[Point], steps_total: int) -> Curve | None:
    """The curve of what is known so far; None while there is too little."""
    if len(points) < _LEAST or steps_total < 1:
        return None
    smooth = _smoothed([point.value for point in points])
    most = max(smooth) or 1.0
    spots = [
        (WIDTH * point.step / steps_total, _BOTTOM - (_BOTTOM - _TOP) * value / most)
        for point, value in zip(points, smooth, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    area = f"{spots[0][0]:.1f},{_BOTTOM} {line} {spots[-1][0]:.1f},{_BOTTOM}"
    return Curve(line, area, _sentence(smooth))


def _smoothed(values: Sequence[float]) -> list[float]:
    """Each with its neighbours, so that what jumps from batch to batch shows where it goes."""
    around = (values[max(0, at - 2) : at + 3] for at in range(len(values)))
    return [sum(one / len(part) for one in part) for part in around]


def _sentence(values: Sequence[float]) -> str:
    first, last = values[0], values[-1]
    fallen = round(100 * min(max(0, 1 - last / first), 0.99)) if first > 0 else 0
    if not fallen:
        return "The lower the line, the fewer mistakes. It has not fallen yet."
    return f"The lower the line, the fewer mistakes. It has fallen by {fallen} %."
