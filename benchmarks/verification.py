"""What verification costs: a provider's training with and without it, and the share of a job that is run again.

The job is the image sorter on scikit-learn's digits. The baseline is the same loop body (recipes/image_sorter/train.py)
in a plain torch loop: torch's own choice of kernels, no seeds for each step, no records, no states. Between it and
everything stands the same plain loop on deterministic kernels, so that the two costs are told apart. Repetitions are
interleaved and medians taken; seconds are the training thread's processor time, which other programs disturb less than
the clock, and the clock's own ratio is printed beside them.
"""

import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
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

REPETITIONS = 5
SETTINGS = {"quality": "quick", "rounds": 6}
SEGMENT_S = 60  # the shortest segment of a job that is longer than an hour
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


class Bench:
    """One job in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "input").mkdir()
        self.data = DataView.open(write_digits(folder / "digits"))
        self.recipe = catalog.find("image-sorter")
        self.plan = self.recipe.plan(SETTINGS, self.recipe.check(self.data).stats, Gpu())
        self.task = TrainTask(
            job_id="job_1", attempt_id="attempt_1", recipe="image-sorter", settings=self.plan.settings, seed=7,
            steps=self.plan.steps, segment_steps=self.plan.segment_steps,
            data=self.data.pack(folder / "input" / "data"),
        )  # fmt: skip
        self.events: list[TrainerEvent] = []

    def run(self, kind: str) -> tuple[float, float, Any]:
        """The training thread's processor seconds, seconds by the clock, and the run."""
        device = pin(1)
        if kind == "plain":
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        run: Any = (
            PlainRun(self.task, self.data, device)
            if kind != "verified"
            else TimedRun(
                self.task, self.folder, data=self.data, device=device, emit=self.events.append,
                stop_requested=lambda: False, numeric_class="00" * 32,
            )
        )  # fmt: skip
        training = session.program_of(self.recipe).begin(run)
        started = time.thread_time(), time.perf_counter()
        training.train()
        return time.thread_time() - started[0], time.perf_counter() - started[1], run

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
    ends = [min((index + 1) * plan.segment_steps, plan.steps) for index in range(plan.segments)]
    again = [
        sum(ends[index] - index * plan.segment_steps for index in drawn(plan, beacon, clean_windows=clean_windows))
        for beacon in range(DRAWS)
    ]
    return sum(again) / DRAWS / plan.steps


def show_provider(bench: Bench) -> tuple[float, TimedRun]:
    """Print the provider's costs; seconds of the verified training and the last such run."""
    kinds = ("plain", "deterministic", "verified")
    bench.run("plain")  # to warm up
    rounds = []
    for turn in range(REPETITIONS):
        bench.events.clear()
        order = kinds[turn % 3 :] + kinds[: turn % 3]  # so that none always comes after the same other
        rounds.append({kind: bench.run(kind) for kind in order})

    def ratio(kind: str, base: str, clock: int = 0) -> float:
        return 100 * (median(one[kind][clock] / one[base][clock] for one in rounds) - 1)

    seconds = {kind: median(one[kind][0] for one in rounds) for kind in kinds}
    runs: Sequence[TimedRun] = [one["verified"][2] for one in rounds]
    logging = median(one["verified"][2].logging_s / one["verified"][0] for one in rounds)
    closing_s = median(run.closing_s / run.segments for run in runs)
    plan = bench.plan
    step_ms, segments = seconds["plain"] / plan.steps * 1e3, runs[0].segments

    def line(name: str, kind: str, base: str) -> str:
        by_clock = f"by the clock {ratio(kind, base, 1):+6.2f} %"
        return f"  {name:34}{seconds[kind]:6.2f} s  {ratio(kind, base):+6.2f} %  {by_clock}"

    print(f"{plan.steps} steps of {step_ms:.2f} ms in {segments} segments, {REPETITIONS} repetitions, medians")
    print(f"  {'plain torch loop (baseline)':34}{seconds['plain']:6.2f} s")
    print(line("deterministic kernels only", "deterministic", "plain"))
    print(line("hashed, recorded, states saved", "verified", "deterministic"))
    ends = closing_s * segments / seconds["verified"]
    print(f"    of which each step's record {logging:.2%} of the time, each segment's end {closing_s * 1e3:.1f} ms:")
    print(f"    {ends:.2%} in a job as short as this, together {logging + ends:.2%}")
    print(f"  computed for segments of {SEGMENT_S} s: {logging + closing_s / SEGMENT_S:.2%}")
    return seconds["verified"], runs[-1]


def show_verifiers(bench: Bench, trained_s: float) -> None:
    """Print what is run again."""
    segments = [event for event in bench.events if isinstance(event, SegmentDone)]
    rate = bench.plan.flops / trained_s
    flops = round(rate * LONG_JOB_S)
    steps = bench.plan.steps * LONG_JOB_S // max(1, round(trained_s))
    long = bench.plan.model_copy(update={"flops": flops, "steps": steps, "segment_steps": steps // 400})
    long = long.model_copy(update={"window_segments": 40})
    print("\nrun again by verifiers, in parts of the job's steps (in time, where it was done here)")
    print("  two-fold replication                        200 %\n  naive re-execution                          100 %")
    for name, clean in (("new", 0), ("known", KNOWN_AFTER)):
        chosen = drawn(bench.plan, 1, clean_windows=clean)
        took = sum(bench.replay(segments[at], bench.folder / f"{name}{turn}") for turn, at in enumerate(chosen))
        short, whole = share(bench.plan, clean_windows=clean), share(long, clean_windows=clean)
        this = f"this job of {len(segments)} segments"
        print(f"  {name + ' provider':16}{this:28}{short:6.1%}  (in time {took / trained_s:.1%})")
        print(f"  {'':16}{'a job of 10 h, 400 segments':28}{whole:6.1%}")


if __name__ == "__main__":
    pin_environment()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, 1 thread, {platform.machine()}"
    print(f"device: {device}; torch {torch.__version__}")
    if not torch.cuda.is_available():
        print("There is no GPU here: the cost of deterministic kernels on one was not measured.")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        trained_s, _ = show_provider(bench)
        show_verifiers(bench, trained_s)
