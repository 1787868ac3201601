"""What verification costs: a provider's training with and without it, and the share of a job that is run again.

The job is the image sorter on scikit-learn's digits. The baseline is the same loop body (recipes/image_sorter/train.py)
in a plain torch loop: torch's own choice of kernels, no seeds for each step, no records, no states. Between it and
everything stands the same plain loop on deterministic kernels, so that the two costs are told apart. One run trains one
model in these ways by turns of TURN_STEPS, in an order drawn anew each round, so that all of them have the same memory
and what else the machine does falls on all alike; the baseline is there twice, to tell how far the figures can be
trusted. Seconds are the training thread's processor time; the clock's ratios, with what it waits for, stand beside.
"""

import math
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from gristmill_coordinator.domain.sampling import Policy, samples_ppm
from gristmill_localnet.digits import write_digits
from gristmill_protocol.commitments import PPM, draw_seconds, draw_seed, draw_segments
from gristmill_protocol.jobs import Plan, SampleBasis, TrainTask
from gristmill_protocol.progress import SegmentDone, TrainerEvent
from gristmill_trainer import catalog, session
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.determinism import pin
from gristmill_trainer.engine import Run, one_cycle, train_step
from gristmill_trainer.environment import pin_environment
from gristmill_trainer.recipe import Gpu

KINDS = ("plain", "plain again", "deterministic", "verified")
TURN_STEPS = 15
SEGMENT_TURNS = 30
ROUNDS, LONG_JOB_ROUNDS = 6, 6_000
JOBS = {8: 200, 16: 200}  # side of a picture, pixels -> passes over the data, for costs within whole turns
LONG_JOB_S = 36_000
DRAWS = 2_000
AnyRun = TypeVar("AnyRun", bound=Run)
KNOWN_AFTER = 60  # clean windows of a known provider


class TimedRun(Run):
    """The real run, which notes what its bookkeeping takes."""

    logging_s = closing_s = 0.0
    segments = 0

    def _finish(self, step: int) -> None:
        started = time.thread_time()
        super()._finish(step)
        self.logging_s += time.thread_time() - started

    def _close(self, step: int) -> None:
        started = time.thread_time()
        super()._close(step)
        self.closing_s += time.thread_time() - started
        self.segments += 1


class TurnsRun(Run):
    """The real run, but what makes it verifiable is left out in some turns."""

    def steps(self) -> Iterator[int]:
        self.seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}  # (processor, clock) a turn
        self._plain_generator = torch.Generator()
        self._orders: dict[int, torch.Tensor] = {}
        draw, step = random.Random(0), 0
        self._root = self._checkpoint.root(0)
        self._open(0, 0)
        for _ in range(self.task.steps // (TURN_STEPS * len(KINDS))):
            for self._kind in draw.sample(KINDS, len(KINDS)):
                _choose_kernels(self._kind)
                began = time.thread_time(), time.perf_counter()
                yield from self._turn(step)
                self.seconds[self._kind].append((time.thread_time() - began[0], time.perf_counter() - began[1]))
                step += TURN_STEPS
        self.settle()

    def _turn(self, first: int) -> Iterator[int]:
        for step in range(first, first + TURN_STEPS):
            if self._kind != "verified":
                for group in self._optimizer.param_groups:
                    group["lr"] = one_cycle(step, self.task.steps, self._peak_rate)
                yield step
                continue
            self._leave_if_asked(step)
            self._begin(step)
            yield step
            self._finish(step)
        rounds = len(self.seconds["verified"])
        if self._kind == "verified" and rounds % SEGMENT_TURNS == SEGMENT_TURNS // 2:
            self._close(first + TURN_STEPS)

    def rows(self, step: int) -> torch.Tensor:
        if self._kind == "verified":
            return super().rows(step)
        batch = self.settings["batch"]
        epoch, at = divmod(step * batch, len(self._examples) - batch + 1)
        if epoch not in self._orders:
            self._orders = {epoch: torch.randperm(len(self._examples))}
        return self._orders[epoch][at : at + batch]

    def seeded(self, purpose: str, counter: int = 0) -> torch.Generator:
        return super().seeded(purpose, counter) if self._kind == "verified" else self._plain_generator

    def learn(self, loss: torch.Tensor, **metrics: float) -> None:
        if self._kind == "verified":
            super().learn(loss, **metrics)
        else:
            train_step(self._model, self._optimizer, loss)

    def more(self, kind: str, base: str, clock: int = 0) -> tuple[float, float, float]:
        """How much longer a turn of a kind takes than one of another, in %: the median over all rounds but the first
        (in which everything is done for the first time), and the two ends of its 95 % interval."""
        pairs = zip(self.seconds[kind][1:], self.seconds[base][1:], strict=True)
        ratios = sorted(100 * (turn[clock] / other[clock] - 1) for turn, other in pairs)
        # The median of n values lies between those so many places beside the middle (the sign test's interval).
        beside = math.ceil(0.98 * math.sqrt(len(ratios)))
        middle = len(ratios) // 2
        return median(ratios), ratios[middle - beside], ratios[middle + beside]


def _choose_kernels(kind: str) -> None:
    pin(1)
    if kind.startswith("plain"):
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True


class Bench:
    """One job in a folder."""

    def __init__(self, folder: Path, **settings: int) -> None:
        self.folder = folder
        (folder / "input").mkdir()
        self.data = DataView.open(write_digits(folder / "digits"))
        self.recipe = catalog.find("image-sorter")
        self.stats = self.recipe.check(self.data).stats
        self.settings = {"quality": "quick", **settings}
        self.plan = self.planned(Gpu())
        self.task = TrainTask(
            job_id="job_1", attempt_id="attempt_1", recipe="image-sorter", settings=self.plan.settings, seed=7,
            steps=self.plan.steps, segment_steps=self.plan.segment_steps, end_steps=self.plan.end_steps,
            data=self.data.pack(folder / "input" / "data"),
        )  # fmt: skip
        self.events: list[TrainerEvent] = []

    def planned(self, gpu: Gpu, **settings: int) -> Plan:
        return self.recipe.plan(self.settings | settings, self.stats, gpu)

    def trained(self, kind: type[AnyRun]) -> AnyRun:
        """Train the job in a run of this kind."""
        self.events.clear()
        run = kind(
            self.task, self.folder, data=self.data, device=pin(1), emit=self.events.append,
            stop_requested=lambda: False, numeric_class="00" * 32,
        )  # fmt: skip
        session.program_of(self.recipe).begin(run).train()
        return run

    def replay(self, segment: SegmentDone, folder: Path) -> float:
        """Processor seconds that a verifier takes for a segment, reading the data included."""
        (folder / "input").mkdir(parents=True)
        (folder / "input" / "data").symlink_to(self.folder / "input" / "data")
        changes: dict[str, Any] = {"step_from": segment.step_from, "step_to": segment.step_to}
        if segment.index:
            state = self.folder / f"out/states/{segment.index - 1}.safetensors"
            (folder / "input" / "state.safetensors").symlink_to(state)
            changes["state"] = file_ref(state)
        (folder / "task.json").write_text(self.task.model_copy(update=changes).model_dump_json())
        answers: list[TrainerEvent] = []
        started = time.thread_time()
        session.replay(folder, answers.append, lambda: False)
        took = time.thread_time() - started
        assert answers[0].model_dump()["state_root"] == segment.state_root, "an honest segment was found different"
        return took


def drawn(plan: Plan, beacon: int, *, clean_windows: int) -> list[int]:
    """The segments of a whole job that are run again; one that two verifiers run is named twice."""
    policy, found = Policy(), list[int]()
    lock = min(plan.window_segments, plan.segments) * PPM  # a segment's price is 1 USD: only ratios count
    for first in range(0, plan.segments, plan.window_segments):
        count = min(plan.window_segments, plan.segments - first)
        basis = SampleBasis(
            price_usd_micros=count * PPM, lock_usd_micros=lock, clean_windows=clean_windows, assurance=0,
            second_ppm=policy.second_ppm,
        )  # fmt: skip
        seed = draw_seed(beacon=beacon.to_bytes(32), job_id="job_1", window_id=f"window_{first}", root=bytes(32))
        samples = samples_ppm(basis, count, policy)
        ends_job = first + count == plan.segments
        chosen = draw_segments(seed, first_index=first, count=count, samples_ppm=samples, ends_job=ends_job)
        found += chosen + draw_seconds(seed, chosen, second_ppm=basis.second_ppm)
    return found


def share(plan: Plan, *, clean_windows: int) -> float:
    """Steps that are run again, in parts of all steps; the mean over many draws."""
    steps = [end - start for start, end in pairwise([0, *plan.grid.ends()])]
    again = [sum(steps[at] for at in drawn(plan, beacon, clean_windows=clean_windows)) for beacon in range(DRAWS)]
    return sum(again) / DRAWS / plan.steps


def show_whole(bench: Bench) -> None:
    """Print the provider's costs: whole turns beside one another."""
    run = bench.trained(TurnsRun)
    step_s = median(turn[0] for turn in run.seconds["plain"]) / TURN_STEPS
    rounds = len(run.seconds["plain"]) - 1
    size = bench.plan.settings["size"]
    print(f"steps of {step_s * 1e3:.1f} ms ({size} x {size} pixels): {rounds} rounds of turns of {TURN_STEPS} steps")
    print(f"  {'plain torch loop (baseline)':34}{'median':>9}    95 % interval")
    for name, kind, base in (
        ("the same again: that is noise", "plain again", "plain"),
        ("deterministic kernels only", "deterministic", "plain"),
        ("verified, beside those", "verified", "deterministic"),
    ):
        (more, low, high), (by_clock, *_) = run.more(kind, base), run.more(kind, base, clock=1)
        print(f"  {name:34}{more:+7.2f} %   ({low:+.2f} to {high:+.2f})  by the clock {by_clock:+.2f} %")
    print(f"  which is {10 * more * step_s * 1e3:.0f} us a step")


def show_inside(bench: Bench) -> float:
    """Print what of a short job its bookkeeping takes; gives the processor seconds of the whole."""
    started = time.thread_time()
    run = bench.trained(TimedRun)
    whole = time.thread_time() - started
    print(f"a job of {bench.task.steps} steps in {run.segments} segments, {whole:.2f} s")
    print(
        f"  each step's record {run.logging_s / whole:.2%}, "
        f"each segment's end {run.closing_s / run.segments * 1e3:.1f} ms: {run.closing_s / whole:.2%}"
    )
    return whole


def show_verifiers(bench: Bench, trained_s: float) -> None:
    """Print what is run again.

    Args:
        bench: its job was trained just now.
        trained_s: what that took, in processor seconds.
    """
    segments = [event for event in bench.events if isinstance(event, SegmentDone)]
    flops = bench.planned(Gpu(), rounds=LONG_JOB_ROUNDS).flops
    long = bench.planned(Gpu(flops_per_s=flops // LONG_JOB_S), rounds=LONG_JOB_ROUNDS)
    print("\nrun again by verifiers, in parts of the job's steps (in time, where it was done here)")
    print("  two-fold replication                        200 %\n  naive re-execution                          100 %")
    for name, clean in (("new", 0), ("known", KNOWN_AFTER)):
        chosen = drawn(bench.plan, 1, clean_windows=clean)
        took = sum(bench.replay(segments[at], bench.folder / f"{name}{turn}") for turn, at in enumerate(chosen))
        short, whole = share(bench.plan, clean_windows=clean), share(long, clean_windows=clean)
        this = f"this job of {len(segments)} segments"
        print(f"  {name + ' provider':16}{this:28}{short:6.1%}  (in time {took / trained_s:.1%})")
        print(f"  {'':16}{f'a job of 10 h, {long.segments} segments':28}{whole:6.1%}")


if __name__ == "__main__":
    pin_environment()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, 1 thread, {platform.machine()}"
    print(f"device: {device}; torch {torch.__version__}")
    if not torch.cuda.is_available():
        print("There is no GPU here: the cost of deterministic kernels on one was not measured.")
    for size, rounds in JOBS.items():
        with tempfile.TemporaryDirectory() as folder:
            show_whole(Bench(Path(folder), size=size, rounds=rounds))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rounds=ROUNDS)
        show_verifiers(bench, show_inside(bench))
