"""The deterministic loop that every recipe trains in: it hands out batches, cuts segments, saves, leaves when asked.

A recipe writes the loop body; see recipes/image_sorter/train.py. What a step may depend on is its number and the job's
seed, so a run that was cut anywhere, by anybody, ends in the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from gristmill_protocol.errors import BadSettings
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import Progress, Replayed, SegmentDone, Started, Stopped, TrainerEvent
from gristmill_trainer.checkpoint import Checkpoint, root_of, save_tensors
from gristmill_trainer.data import DataView
from gristmill_trainer.determinism import derive, generator, seed_device
from gristmill_trainer.sampling import Sampler
from gristmill_trainer.segments import StepLog

Emit = Callable[[TrainerEvent], None]
TrainStep = Callable[[torch.nn.Module, torch.optim.Optimizer, torch.Tensor], float]
PROGRESS_EVERY_S = 0.25
MAX_GRADIENT_NORM = 5.0


class Preempted(Exception):
    """The run was asked to leave and has saved; the process ends with EXIT_PREEMPTED."""


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """One optimizer step down this loss; returns the loss. All learning of every recipe happens here."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
    return loss.item()


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a tenth of the run up in a line, then down to nothing along a cosine."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Run:
    """One task being trained or replayed, as a recipe's program sees it.

    Args:
        folder: of the task: input/state.safetensors is read, out/states is written.
        stop_requested: asked before every step.
        numeric_class: of this machine; a run tells it, a replay does not.
        clock: unix seconds.
    """

    def __init__(
        self,
        task: TrainTask,
        folder: Path,
        *,
        data: DataView,
        device: torch.device,
        emit: Emit,
        stop_requested: Callable[[], bool],
        numeric_class: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.task = task
        self.settings: dict[str, Any] = task.settings
        self.data = data
        self.device = device
        self._folder = folder
        self._emit = emit
        self._stop_requested = stop_requested
        self._numeric_class = numeric_class
        self._clock = clock
        self._is_replay = task.step_to is not None
        self._end = task.steps if task.step_to is None else task.step_to
        self._told_at = -math.inf
        self._step_roots: list[str] = []
        self.replayed: Replayed | None = None  # what came out of a replay, once it is through
        self._rows = -1, torch.empty(0)  # of one step: they are learnt from, then written down
        self._saver = ThreadPoolExecutor(1, "states")
        self._saving: Future[SegmentDone] | None = None

    def seeded(self, purpose: str, counter: int = 0) -> torch.Generator:
        """A CPU generator that depends on the job's seed, the purpose and the counter alone."""
        return generator(self.task.seed, purpose, counter)

    def initialise(self) -> None:
        """Seed torch for drawing the first weights, so that the initial state is a function of the task."""
        torch.manual_seed(derive(self.task.seed, "weights"))

    def track(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        examples: Sequence[bytes],
        batch: int,
        peak_rate: float,
    ) -> None:
        """Say what is trained and on what; restores the task's start state into it.

        Args:
            examples: digest of each example that may be learnt from.
            batch: examples a step.
            peak_rate: learning rate at the top of the one-cycle schedule.
        Raises:
            WrongHash: the start state is not the one that the task names, or not of this job.
        """
        self._model = model
        self._optimizer = optimizer
        self._examples = examples
        self._peak_rate = peak_rate
        self._sampler = Sampler(seed=self.task.seed, examples=len(examples), batch=batch)
        self._checkpoint = Checkpoint(model, optimizer, seed=self.task.seed)
        if self.task.state is not None:
            path = self._folder / "input" / "state.safetensors"
            self._checkpoint.load(path, step=self.task.step_from, ref=self.task.state)

    def steps(self) -> Iterator[int]:
        """The numbers of the steps to do; the body calls learn() in each.

        Raises:
            Preempted: asked to stop; everything up to the last step is saved.
            BadSettings: the numbers ran out of range.
        """
        first = self.task.step_from
        first_root = self._checkpoint.root(first)
        self._root = first_root  # of the state that the next segment to be told of starts from
        self._open(first, self.task.segment_index)
        start = self._keep("start", first) if self.task.keep_state and self.task.state is None else None
        if not self._is_replay:
            self._emit(Started(numeric_class=self._numeric_class, state_root=first_root, step=first))
        for step in range(first, self._end):
            self._leave_if_asked(step)
            self._begin(step)
            yield step
            self._finish(step)
            if self._is_replay and self.task.step_roots:
                self._step_roots.append(self._checkpoint.root(step + 1))
            if self._ends_segment(step + 1):
                self._close(step + 1)
        self.settle()
        if self._is_replay:
            self.replayed = self._replayed(first, first_root, start)

    def settle(self) -> None:
        """Wait until the last segment's state is hashed and saved, and tell of it.

        Raises:
            NoSpace: it could not be written.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            done = saving.result()
            self._root = done.state_root
            self._emit(done)

    def state_root(self, step: int) -> str:
        """Root of the state as it is now, after `step` steps, hex."""
        return self._checkpoint.root(step)

    def rows(self, step: int) -> torch.Tensor:  # (batch,) int64, on the CPU
        """Which examples the step learns from, in order."""
        if self._rows[0] != step:
            self._rows = step, self._sampler.rows(step)
        return self._rows[1]

    def learn(self, loss: torch.Tensor, **metrics: float) -> None:
        """Take one step down the loss and log it with any other numbers of the step.

        Raises:
            BadSettings: the loss is not a number any more.
        """
        self._losses.append(train_step(self._model, self._optimizer, loss))
        if not math.isfinite(self._losses[-1]):
            raise _diverged(self._step)
        self._metrics |= {"loss": self._losses[-1], **metrics}

    def _begin(self, step: int) -> None:
        self._step = step
        self._losses: list[float] = []
        self._metrics: dict[str, float] = {}
        seed_device(self.device, derive(self.task.seed, "step", step))
        for group in self._optimizer.param_groups:
            group["lr"] = one_cycle(step, self.task.steps, self._peak_rate)

    def _finish(self, step: int) -> None:
        examples = [self._examples[row] for row in self.rows(step).tolist()]
        self._log.add(step, examples=examples, metrics=self._metrics, losses=self._losses)
        if self._saving is not None and self._saving.done():
            self.settle()
        now = self._clock()
        if not self._is_replay and (now - self._told_at >= PROGRESS_EVERY_S or step + 1 == self._end):
            self._told_at = now
            self._emit(Progress(step=step + 1, metrics=self._metrics))

    def _ends_segment(self, step: int) -> bool:
        # Ends lie on one grid for the whole job, wherever a run started; a replay is one segment.
        return step == self._end or (step == self.task.grid.end_after(step - 1) and not self._is_replay)

    def _leave_if_asked(self, step: int) -> None:
        if not self._stop_requested():
            return
        if step > self._opened_step and not self._is_replay:
            self._close(step)
        self.settle()
        self._emit(Stopped(step=step))
        raise Preempted

    def _open(self, step: int, index: int) -> None:
        self._opened_step, self._index = step, index
        self._opened_ms = int(self._clock() * 1000)
        self._log = StepLog()

    def _close(self, step: int) -> None:
        """End a segment. What a record takes is worked out beside the next steps, one state at a time."""
        self.settle()
        if not self._checkpoint.finite():
            raise _diverged(step)
        if self._is_replay:
            self._closed_roots = {"state_root": self._checkpoint.root(step), **self._log.roots()}
        else:
            claim: dict[str, Any] = {
                "index": self._index,
                "step_from": self._opened_step,
                "step_to": step,
                "started_ms": self._opened_ms,
                "ended_ms": int(self._clock() * 1000),
            }
            self._saving = self._saver.submit(self._saved, self._checkpoint.snapshot(step), self._log, claim)
        self._open(step, self._index + 1)

    def _replayed(self, first: int, first_root: str, start: ArtifactRef | None) -> Replayed:
        roots = {name: root for name, root in self._closed_roots.items() if name != "micro_root"}
        state = self._keep(str(self.task.segment_index), self._end) if self.task.keep_state else None
        return Replayed(
            step_from=first,
            step_to=self._end,
            state_root_prev=first_root,
            **roots,
            state=state,
            start=start,
            step_roots=tuple(self._step_roots),
        )

    def _keep(self, name: str, step: int) -> ArtifactRef:
        path = self._folder / "out" / "states" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._checkpoint.save(step, path)

    def _saved(self, state: dict[str, torch.Tensor], log: StepLog, claim: dict[str, Any]) -> SegmentDone:
        # In the saver's thread; self._root is left alone until settle() has its result.
        name = f"out/states/{claim['index']}.safetensors"
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return SegmentDone(
            **claim,
            **log.roots(),
            state_root_prev=self._root,
            state_root=root_of(state),
            state_file=name,
            state_sha256=save_tensors(state, path).sha256,
        )


def _diverged(step: int) -> BadSettings:
    return BadSettings(
        f"The training ran out of range at step {step + 1}: its numbers are no numbers any more.",
        effect="The job stops here; any machine would come to the same point.",
        todo="Choose a lower learning rate.",
        step=step,
    )
