"""A job as its maker watches it: how far it is, what happened, in words that need no explanation."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import ValidationError

from gristmill_coordinator import views
from gristmill_coordinator.store.tables import events, jobs
from gristmill_coordinator.studio.chart import Point
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.words import about
from gristmill_protocol.jobs import AttemptState, AttemptView, JobState, JobView, Quote
from gristmill_protocol.money import LineSplit, split_line
from gristmill_protocol.wording import counted
from gristmill_trainer.scoring import Scorecard

_HEADLINES = {
    JobState.QUEUED: "Looking for a computer that is free",
    JobState.RUNNING: "It is learning",
    JobState.CHECKING: "Others are checking the work",
    JobState.SETTLING: "The work is being paid",
    JobState.DONE: "Your model is ready",
    JobState.FAILED: "It did not work out",
    JobState.STOPPED: "You stopped it",
}
_STEPS = (
    (JobState.QUEUED, "Find a computer"),
    (JobState.RUNNING, "Learn from your examples"),
    (JobState.CHECKING, "Have the work checked by others"),
    (JobState.SETTLING, "Pay those who did the work"),
)
_MOVED = (AttemptState.LOST, AttemptState.YIELDED, AttemptState.FAILED)


@dataclass(frozen=True)
class Step:
    """One line of the list of what has to be done."""

    text: str
    state: str  # "done", "now", "later"


@dataclass(frozen=True)
class Watched:
    """All that the page shows of a job."""

    view: JobView
    quote: Quote
    headline: str
    percent: int
    left: str  # how long it takes yet; "" if nobody can tell
    steps: tuple[Step, ...]
    saved: str  # what is safe whatever happens; "" before the first save
    moved: str  # "" if it stayed where it was
    caught: str  # "" if nobody's work was refused
    points: tuple[Point, ...]
    shares: LineSplit
    card: Scorecard | None  # how good it became


async def watch(studio: Studio, maker: Maker, job_id: str) -> Watched:
    """Raises:
    NotFound: this maker has no such job.
    """
    view = await views.job(studio.co, maker.renter, job_id)
    said = events.c
    progress = sa.select(said.at_ms, said.fields).where(said.job_id == job_id, said.kind == "progress")
    async with studio.co.store.read() as tx:
        quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == job_id)))
        lines = await tx.rows(progress.order_by(said.seq))
        counted_saves = sa.select(sa.func.count()).where(said.job_id == job_id, said.kind == "segment")
        saves = int(await tx.value(counted_saves) or 0)
    points = _points([(row.at_ms, row.fields) for row in lines])
    price = view.bill.paid_usd_micros if view.bill else quote.price_usd_micros
    return Watched(
        view=view,
        quote=quote,
        headline=_HEADLINES[view.state],
        percent=100 if view.state is JobState.DONE else min(99, 100 * view.steps_done // view.steps_total),
        left=_left(view, quote, studio.co.clock(), points),
        steps=_steps(view.state),
        saved=_saved(view, saves),
        moved=_moved(view.attempts),
        caught=_caught(view),
        points=tuple(points.values()),
        card=_card(view),
        shares=split_line(price, verifier_bps=quote.verifier_bps, royalty_bps=quote.royalty_bps),
    )


def _card(view: JobView) -> Scorecard | None:
    """The scorecard; None if there is none, or one that says something else: it may be a provider's word."""
    try:
        return None if view.scorecard is None else Scorecard.model_validate(view.scorecard)
    except ValidationError:
        return None


def _points(lines: Sequence[tuple[int, dict[str, object]]]) -> dict[int, Point]:
    """The curve by step; where a job went on elsewhere, what came last counts."""
    found: dict[int, Point] = {}
    for at_ms, fields in lines:
        step, metrics = fields.get("step"), fields.get("metrics")
        if isinstance(step, int) and isinstance(metrics, dict) and metrics:
            found = {at: point for at, point in found.items() if at < step}
            found[step] = Point(step, float(next(iter(metrics.values()))), at_ms)
    return found


def _steps(state: JobState) -> tuple[Step, ...]:
    order = [one for one, _ in _STEPS]
    now = order.index(state) if state in order else len(order)
    return tuple(
        Step(text, "done" if at < now else "now" if at == now else "later") for at, (_, text) in enumerate(_STEPS)
    )


def _left(view: JobView, quote: Quote, now_s: float, points: dict[int, Point]) -> str:
    """From how fast it went so far; before that from the quote."""
    if view.state.ended:
        return ""
    if view.state in (JobState.CHECKING, JobState.SETTLING):
        return "This takes less than a minute as a rule."
    done = [*points.values()]
    if len(done) < 2 or done[-1].at_ms <= done[0].at_ms:
        return f"It takes {about(quote.seconds_low)} in all."
    rate = (done[-1].step - done[0].step) / (done[-1].at_ms - done[0].at_ms)  # steps a millisecond
    silent_ms = max(0.0, now_s * 1000 - done[-1].at_ms)
    left_ms = (view.steps_total - done[-1].step) / rate - silent_ms
    return f"{about(max(1.0, left_ms / 1000)).capitalize()} left."


def _saved(view: JobView, saves: int) -> str:
    kept = max((attempt.step_to for attempt in view.attempts), default=0)
    if view.state is not JobState.RUNNING or not kept:
        return ""
    percent = 100 * kept // view.steps_total
    return f"Saved up to {percent} %, in {counted(saves, 'save point')}. From there it can go on anywhere."


def _moved(attempts: Sequence[AttemptView]) -> str:
    left = [one for one in attempts if one.state in _MOVED]
    if not left or len(attempts) < 2:
        return ""
    times = "" if len(left) == 1 else f" {counted(len(left), 'time')}"
    return f"Your training moved to another computer{times}. Nothing was lost: it went on from the last save point."


def _caught(view: JobView) -> str:
    if not view.disputes:
        return ""
    names = ", ".join(sorted({one.provider_name for one in view.disputes}))
    return f"The work of {names} did not hold when it was checked. You do not pay for it, and it was done again."
