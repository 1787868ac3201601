"""A scripted machine that really trains, in this process: several kinds of machines, and ways to cheat."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import torch
from PIL import Image

from fakes.chain import FakeChain
from fakes.machine import Machine, _Run
from gristmill_coordinator.app import Coordinator
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.jobs import ArtifactRef, TrainTask
from gristmill_protocol.progress import Finished, Replayed, SegmentDone, TrainerEvent
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_trainer import engine, session
from gristmill_trainer.checkpoint import Checkpoint

RECIPE = "image-sorter"
Change = Callable[[], AbstractContextManager[None]]


@contextmanager
def without_onednn() -> Iterator[None]:
    """Torch's own convolutions: another order of summing, as on another make of processor."""

    def pin(threads: int) -> torch.device:
        device = honest(threads)
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        return device

    honest = session.pin
    with patch.object(session, "pin", pin):
        yield


@contextmanager
def steps_skipped() -> Iterator[None]:
    """Two of three steps aren't done, though the optimizer's count and moments go on."""
    count, honest = 0, engine.train_step

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        nonlocal count
        count += 1
        kept = {param: param.detach().clone() for param in model.parameters()} if count % 3 else {}
        value = honest(model, optimizer, loss)
        for param, old in kept.items():
            param.data.copy_(old)
        return value

    with patch.object(engine, "train_step", step):
        yield


@contextmanager
def faster(factor: float) -> Iterator[None]:
    """Another learning rate than the job's."""
    honest = engine.one_cycle
    with patch.object(engine, "one_cycle", lambda step, steps, peak: factor * honest(step, steps, peak)):
        yield


@contextmanager
def other_roots() -> Iterator[None]:
    """It commits to states that nobody has, and hands over those that it should have."""

    def root(state: Mapping[str, torch.Tensor]) -> str:
        return sha256(f"root {int(state['meta/step'])}".encode()).hexdigest()

    of_step = patch.object(Checkpoint, "root", lambda _, step: root({"meta/step": torch.tensor(step)}))
    with of_step, patch.object(engine, "root_of", root):
        yield


@dataclass
class TrainingMachine(Machine):
    """Does what it is asked with the real trainer.

    Args:
        change: what is different about its training program: its kind of machine, or its way to cheat.
        threads: of one operation, part of its kind.
    """

    change: Change = nullcontext
    threads: int = 1
    segments: dict[str, list[SegmentDone]] = field(default_factory=dict)
    finished: dict[str, Finished] = field(default_factory=dict)

    @staticmethod
    def on(chain: FakeChain, name: str, *, kind: str = "A", ask: int = 200_000, **flags: object) -> "TrainingMachine":
        plain = Machine.on(chain, name, ask=ask)
        plain.offer.numeric_class = sha256(kind.encode()).digest()
        del plain.offer.recipes[:]
        plain.offer.recipes.append(RECIPE)
        return TrainingMachine(name, plain.node_id, plain.key, plain.provider, plain.offer, **flags)  # type: ignore[arg-type]

    def _numeric_class(self) -> str:
        return self.offer.numeric_class.hex()

    async def _segment(self, co: Coordinator, run: _Run) -> None:
        attempt_id = run.lease.attempt_id
        if attempt_id not in self.segments:
            events = await self._trained(co, run.task)
            self.segments[attempt_id] = [event for event in events if isinstance(event, SegmentDone)]
            [self.finished[attempt_id]] = [event for event in events if isinstance(event, Finished)]
        done = self.segments[attempt_id].pop(0)
        record = SegmentRecord(
            job_id=run.task.job_id,
            numeric_class=self._numeric_class(),
            **done.model_dump(exclude={"event", "state_file", "state_sha256"}),
        )
        state = self.states[done.state_sha256]
        await self._upload(co, done.state_sha256)
        ref = ArtifactRef(sha256=done.state_sha256, size_bytes=len(state))
        run.state, run.step, run.index = state, done.step_to, done.index + 1
        run.journal.append(("segment", self._report(co, run, record, ref)))
        run.journal.append(("receipt", self._receipt(co, run)))
        self.state_root = done.state_root

    async def _finish(self, co: Coordinator, run: _Run) -> None:
        finished = self.finished[run.lease.attempt_id].model_copy(update={"state_root": self.state_root})
        for digest in finished.files.values():
            await self._upload(co, digest)
        self._end(run, pb.AttemptUpdate.FINISHED, finished_json=finished.model_dump_json())

    async def _answer(self, co: Coordinator, request: pb.AuditRequest) -> None:
        task = TrainTask.model_validate_json(request.task_json)
        with tempfile.TemporaryDirectory() as folder:
            [replayed] = await self._do(co, Path(folder), task, session.replay)
        assert isinstance(replayed, Replayed)
        for kept in (replayed.state, replayed.start):
            if kept is not None and self.uploads:
                await self._upload(co, kept.sha256)
        self.audits_done += 1
        await self._commit(co, request.audit_id, replayed)

    async def _trained(self, co: Coordinator, task: TrainTask) -> list[TrainerEvent]:
        with tempfile.TemporaryDirectory() as folder:
            return await self._do(co, Path(folder), task, session.run)

    async def _do(
        self, co: Coordinator, folder: Path, task: TrainTask, work: Callable[..., None]
    ) -> list[TrainerEvent]:
        """Run the trainer in a task folder, and take its states in."""
        (folder / "input").mkdir()
        (folder / "input" / "data").write_bytes(await self._fetch(co, task.data))
        if task.state is not None:
            (folder / "input" / "state.safetensors").write_bytes(await self._fetch(co, task.state))
        (folder / "task.json").write_text(task.model_copy(update={"threads": self.threads}).model_dump_json())
        events: list[TrainerEvent] = []
        with self.change():
            work(folder, events.append, lambda: False)
        self._take_in(folder)
        return events

    def _take_in(self, folder: Path) -> None:
        for path in folder.glob("out/*/*"):
            self.states[sha256(path.read_bytes()).hexdigest()] = path.read_bytes()


def pictures(folder: Path, *, each: int) -> Path:
    """Two answers to tell apart: bright above, or bright below."""
    for answer in (0, 1):
        (folder / str(answer)).mkdir(parents=True)
        for number in range(each):
            noise = sha256(f"{answer}/{number}".encode()).digest() * 2
            rows = [noise[8 * row : 8 * row + 8] for row in range(8)]
            light = [127 * ((y < 4) == (answer == 0)) for y in range(8)]
            shown = b"".join(bytes(v // 2 + more for v in row) for row, more in zip(rows, light, strict=True))
            Image.frombytes("L", (8, 8), shown).save(folder / str(answer) / f"{number:03}.png")
    return folder
