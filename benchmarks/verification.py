"""What verification costs: a provider's training with and without it, and the share of a job that is run again.

The job is the image sorter on scikit-learn's digits. The baseline is the same loop body (recipes/image_sorter/train.py)
in a plain torch loop: torch's own choice of kernels, no seeds for each step, no records, no states. Between it and
everything stands the same plain loop on deterministic kernels, so that the two costs are told apart. The three train in
turns of TURN_STEPS, in an order drawn anew each time, so that what else the machine does falls on all of them alike.
Seconds are the training thread's processor time; the clock's ratios, with what it waits for, stand beside them.
"""

import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread
from typing import Any

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

KINDS = ("plain", "deterministic", "verified")
TURN_STEPS = 45
ROUNDS, LONGER_ROUNDS, LONG_JOB_ROUNDS = 6, 90, 6_000
LONGER_SEGMENT_STEPS = 900  # some seconds
LONG_JOB_S = 36_000
DRAWS = 2_000
KNOWN_AFTER = 60  # clean windows of a known provider


class PlainRun:
    """What a recipe needs of a run, without any of what makes one verifiable."""

    def __init__(self, task: TrainTask, data: DataView, device: torch.device) -> None:
        self.settings, self.data, self.device = task.settings, data, device
        self._steps = task.steps
        self._generator = torch.Generator()

    def initialise(self) -> None:
        torch.manual_seed(0)

    def track(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, examples: Any, batch: int, peak_rate: float
    ) -> None:
        self._model, self._optimizer, self._peak_rate = model, optimizer, peak_rate
        self._count, self._batch = len(examples), batch

    def steps(self) -> Iterator[int]:
        for step in range(self._steps):
            for group in self._optimizer.param_groups:
                group["lr"] = one_cycle(step, self._steps, self._peak_rate)
            yield step

    def rows(self, step: int) -> torch.Tensor:
        at = step * self._batch % (self._count - self._batch + 1)
        if at < self._batch:
            self._order = torch.randperm(self._count)
        return self._order[at : at + self._batch]

    def seeded(self, purpose: str, counter: int = 0) -> torch.Generator:
        return self._generator

    def learn(self, loss: torch.Tensor) -> None:
        train_step(self._model, self._optimizer, loss)


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


class Turns:
    """Lets runs, each in a thread of its own, train one after another, TURN_STEPS each, and takes their times."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}  # (processor, clock) a turn
        self._next: list[str] = []
        self._passed_on = Condition()
        self._draw = random.Random(0)

    def of(self, kind: str, steps: Callable[[], Iterator[int]]) -> Callable[[], Iterator[int]]:
        """The same steps, but in this run's turns."""

        def in_turns() -> Iterator[int]:
            began = self._await(kind)
            for done, step in enumerate(steps()):
                # Turns end between the ends of segments, so that what follows one falls into the same turn.
                if done and done % TURN_STEPS == 4:
                    self._pass_on(kind, began)
                    began = self._await(kind)
                yield step
            self._pass_on(kind, began)

        return in_turns

    def total(self, kind: str, clock: int = 0) -> float:
        """Seconds of all turns but the first, in which everything is done for the first time."""
        return sum(turn[clock] for turn in self.seconds[kind][1:])

    def _await(self, kind: str) -> tuple[float, float]:
        with self._passed_on:
            self._passed_on.wait_for(lambda: self._whose() == kind)
        _choose_kernels(kind)
        return time.thread_time(), time.perf_counter()

    def _pass_on(self, kind: str, began: tuple[float, float]) -> None:
        self.seconds[kind].append((time.thread_time() - began[0], time.perf_counter() - began[1]))
        with self._passed_on:
            self._next.pop()
            self._passed_on.notify_all()

    def _whose(self) -> str:
        if not self._next:
            self._next = self._draw.sample(KINDS, len(KINDS))
        return self._next[-1]


def _choose_kernels(kind: str) -> torch.device:
    device = pin(1)
    if kind == "plain":
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    return device


class Bench:
    """One job in a folder."""

    def __init__(self, folder: Path, rounds: int, *, segment_steps: int | None = None) -> None:
        self.folder = folder
        (folder / "input").mkdir()
        self.data = DataView.open(write_digits(folder / "digits"))
        self.recipe = catalog.find("image-sorter")
        self.stats = self.recipe.check(self.data).stats
        self.plan = self.planned(rounds, Gpu())
        self.task = TrainTask(
            job_id="job_1", attempt_id="attempt_1", recipe="image-sorter", settings=self.plan.settings, seed=7,
            steps=self.plan.steps, segment_steps=segment_steps or self.plan.segment_steps,
            end_steps=self.plan.end_steps, data=self.data.pack(folder / "input" / "data"),
        )  # fmt: skip
        self.events: list[TrainerEvent] = []

    def planned(self, rounds: int, gpu: Gpu) -> Plan:
        return self.recipe.plan({"quality": "quick", "rounds": rounds}, self.stats, gpu)

    def run(self) -> tuple[Turns, TimedRun]:
        """Train the job in each way, in turns."""
        self.events.clear()
        turns = Turns()
        timed = TimedRun(
            self.task, self.folder, data=self.data, device=pin(1), emit=self.events.append,
            stop_requested=lambda: False, numeric_class="00" * 32,
        )  # fmt: skip
        threads = []
        for kind in KINDS:
            run: Any = timed if kind == "verified" else PlainRun(self.task, self.data, _choose_kernels(kind))
            training = session.program_of(self.recipe).begin(run)
            run.steps = turns.of(kind, run.steps)
            threads.append(Thread(target=training.train))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return turns, timed

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


def show_provider(bench: Bench) -> float:
    """Print the provider's costs; gives the processor seconds of a step."""
    turns, run = bench.run()
    ends = len([event for event in bench.events if isinstance(event, SegmentDone)])
    step_s = turns.total("plain") / (bench.task.steps - TURN_STEPS)
    print(f"{bench.task.steps} steps of {step_s * 1e3:.2f} ms in {ends} segments, in turns of {TURN_STEPS} steps")
    print(f"  {'plain torch loop (baseline)':34}{turns.total('plain'):6.2f} s")
    for name, kind, base in (
        ("deterministic kernels only", "deterministic", "plain"),
        ("hashed, recorded, states saved", "verified", "deterministic"),
    ):
        more, by_clock = (100 * (turns.total(kind, clock) / turns.total(base, clock) - 1) for clock in (0, 1))
        print(f"  {name:34}{turns.total(kind):6.2f} s  {more:+6.2f} %  by the clock {by_clock:+6.2f} %")
    whole = sum(turn[0] for turn in turns.seconds["verified"])
    logging, closing = run.logging_s / whole, run.closing_s / whole
    print(
        f"    of which each step's record {logging:.2%}, "
        f"each segment's end {run.closing_s / ends * 1e3:.1f} ms: {closing:.2%}"
    )
    return step_s


def show_verifiers(bench: Bench, step_s: float) -> None:
    """Print what is run again.

    Args:
        bench: its job was trained just now.
        step_s: what a step took.
    """
    segments = [event for event in bench.events if isinstance(event, SegmentDone)]
    trained_s = step_s * bench.plan.steps
    flops = bench.planned(LONG_JOB_ROUNDS, Gpu()).flops
    long = bench.planned(LONG_JOB_ROUNDS, Gpu(flops_per_s=flops // LONG_JOB_S))
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
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), ROUNDS)
        show_verifiers(bench, show_provider(bench))
    with tempfile.TemporaryDirectory() as folder:
        print("\nthe same with long segments")
        show_provider(Bench(Path(folder), LONGER_ROUNDS, segment_steps=LONGER_SEGMENT_STEPS))
