"""How far apart honest machines of different kinds come, and how far cheats: the figures of docs/verification.md.

Real training of both recipes on this machine. The other kinds of machine are two threads instead of one, torch without
oneDNN, and sums in float64. Honest figures are the largest found, a cheat's the smallest, over several segments.
"""

import ast
import csv
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from torch.nn.utils import clip_grad_norm_

from gristmill_coordinator.artifacts.distance import Distance, distance
from gristmill_localnet.digits import write_digits
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Replayed, TrainerEvent
from gristmill_trainer import catalog, engine, session
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.environment import pin_environment
from gristmill_trainer.recipe import Gpu
from gristmill_trainer.sampling import Sampler

STARTS = (0, 40)
LENGTHS = (5, 25)
MEASURES = ("first_moment", "parameter_delta", "remainder")

Found = dict[tuple[int, str], list[Distance]]


class Segment:
    """Some steps of a job, to be done again and again."""

    def __init__(self, task: TrainTask, data: Path, start: Path | None, folder: Path) -> None:
        self._task, self._data, self._start, self._folder = task, data, start, folder

    def run(self, *, threads: int = 1) -> tuple[Path, Path]:
        """Start and end state, as this machine gets there."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "input").mkdir()
        (folder / "input" / "data").symlink_to(self._data)
        if self._start is not None:
            (folder / "input" / "state.safetensors").symlink_to(self._start)
        (folder / "task.json").write_text(self._task.model_copy(update={"threads": threads}).model_dump_json())
        events: list[TrainerEvent] = []
        session.replay(folder, events.append, lambda: False)
        assert isinstance(events[-1], Replayed)
        states = folder / "out" / "states"
        return self._start or states / "start.safetensors", states / "0.safetensors"


def segments(recipe: str, data: Path, settings: dict[str, object], folder: Path) -> Iterator[tuple[int, Segment]]:
    """(length, segment) of a job."""
    view = DataView.open(data)
    program = catalog.find(recipe)
    plan = program.plan(settings, program.check(view).stats, Gpu())
    packed = folder / f"{recipe}.data"
    task = TrainTask(
        job_id="job_1", attempt_id="attempt_1", recipe=recipe, settings=plan.settings, seed=7, steps=plan.steps,
        segment_steps=5, data=view.pack(packed), keep_state=True,
    )  # fmt: skip
    for first in STARTS:
        state = None
        if first:
            _, state = Segment(task.model_copy(update={"step_to": first}), packed, None, folder).run()
        for length in LENGTHS:
            ref = None if state is None else file_ref(state)
            steps = {"step_from": first, "step_to": first + length, "state": ref}
            yield length, Segment(task.model_copy(update=steps), packed, state, folder)


# Kinds of machine and ways to cheat. Each is a change of the training program.


@contextmanager
def without_onednn() -> Iterator[None]:
    def pin(threads: int) -> torch.device:
        device = honest(threads)
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        return device

    honest = session.pin
    with patch.object(session, "pin", pin):
        yield


@contextmanager
def batches(rows: Callable[[Sampler, int], torch.Tensor]) -> Iterator[None]:
    with patch.object(Sampler, "rows", rows):
        yield


def exact_sums() -> AbstractContextManager[None]:
    """Forward and backward in float64: what every other order of summing is rounded around."""

    def exact(model: torch.nn.Module) -> None:
        forward = model.forward

        def in_float64(*inputs: torch.Tensor) -> torch.Tensor:
            own = {name: wide(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
            model.forward = forward
            scores: torch.Tensor = torch.func.functional_call(model, own, tuple(map(wide, inputs)))
            model.forward = in_float64
            for name, tensor in model.named_buffers():
                tensor.copy_(own[name])
            return scores

        model.forward = in_float64

    return tracked(exact)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor.clone()


def dropped_example() -> AbstractContextManager[None]:
    honest = Sampler.rows
    return batches(lambda sampler, step: honest(sampler, step)[:-1])


def wrong_order() -> AbstractContextManager[None]:
    honest = Sampler.rows  # neighbours change places
    return batches(lambda sampler, step: honest(sampler, step ^ 1))


@contextmanager
def faster() -> Iterator[None]:
    honest = engine.one_cycle
    with patch.object(engine, "one_cycle", lambda step, steps, peak: 1.01 * honest(step, steps, peak)):
        yield


@contextmanager
def skipped_steps() -> Iterator[None]:
    """Every fifth step isn't done, though the optimizer's count goes on."""
    count, honest = 0, engine.train_step

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        nonlocal count
        count += 1
        if count % 5 != 1:
            return honest(model, optimizer, loss)
        kept = [param.detach().clone() for param in model.parameters()]
        moments = {param: {k: v.clone() for k, v in slots.items()} for param, slots in optimizer.state.items()}
        honest(model, optimizer, loss)
        with torch.no_grad():
            for param, old in zip(model.parameters(), kept, strict=True):
                param.copy_(old)
                for slot, value in optimizer.state[param].items():
                    if value.ndim:
                        value.copy_(moments[param][slot] if param in moments else torch.zeros_like(value))
        return loss.item()

    with patch.object(engine, "train_step", step):
        yield


@contextmanager
def int8_weights() -> Iterator[None]:
    """Weights are rounded to 8 bits for forward and backward; the optimizer keeps them whole."""
    whole: dict[torch.nn.Parameter, torch.Tensor] = {}

    def round_weights(model: torch.nn.Module, _: object) -> None:
        for param in [param for param in model.parameters() if param.ndim > 1]:
            whole[param] = param.detach().clone()
            scale = param.detach().flatten(1).abs().amax(1).clamp_min(1e-12).reshape(-1, *[1] * (param.ndim - 1)) / 127
            param.data.copy_((param.data / scale).round() * scale)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for param, value in whole.items():
            param.data.copy_(value)
        clip_grad_norm_(model.parameters(), engine.MAX_GRADIENT_NORM)
        optimizer.step()
        return loss.item()

    with (
        tracked(lambda model: model.register_forward_pre_hook(round_weights)),
        patch.object(engine, "train_step", step),
    ):
        yield


def half_precision() -> AbstractContextManager[None]:
    def lower(model: torch.nn.Module) -> None:
        forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
        model.forward = lambda *inputs: forward(*inputs).float()  # type: ignore[method-assign]

    return tracked(lower)


@contextmanager
def tracked(change: Callable[[torch.nn.Module], object]) -> Iterator[None]:
    """Change the model before it is trained."""
    honest = engine.Run.track

    def track(run: engine.Run, model: torch.nn.Module, *arguments: object, **options: object) -> None:
        change(model)
        honest(run, model, *arguments, **options)  # type: ignore[arg-type]

    with patch.object(engine.Run, "track", track):
        yield


HONEST: dict[str, tuple[int, Callable[[], AbstractContextManager[None]]]] = {
    "two threads": (2, nullcontext),
    "without oneDNN": (1, without_onednn),
    "sums in float64": (1, exact_sums),
}
CHEATS = {
    "learning rate + 1 %": faster,
    "bfloat16": half_precision,
    "int8 weights": int8_weights,
    "one example dropped": dropped_example,
    "wrong order": wrong_order,
    "every 5th step skipped": skipped_steps,
}


def measured(recipe: str, data: Path, folder: Path) -> Found:
    """(length, what was done) -> its distances from this machine's honest end states."""
    found: Found = {}
    for length, segment in segments(recipe, data, {"quality": "quick"}, folder):
        start, mine = segment.run()
        for name, (threads, kind) in [*HONEST.items(), *((name, (1, cheat)) for name, cheat in CHEATS.items())]:
            with kind():
                _, theirs = segment.run(threads=threads)
            found.setdefault((length, name), []).append(distance(start, mine, theirs))
    return found


def show(recipe: str, found: Found) -> None:
    for length in LENGTHS:
        print(f"\n{recipe + f', {length} steps':28}" + "".join(f"{measure:>20}" for measure in MEASURES))
        honest = {measure: _bound(max, measure, HONEST, length, found) for measure in MEASURES}
        for name in HONEST:
            print(f"  {name:26}" + "".join(f"{_bound(max, m, [name], length, found):20.1e}" for m in MEASURES))
        for name in CHEATS:
            least = {measure: _bound(min, measure, [name], length, found) for measure in MEASURES}
            ratios = {measure: value / honest[measure] for measure, value in least.items()}
            print(f"  {name:26}" + "".join(f"{least[m]:11.1e} {ratios[m]:7.0f}x" for m in MEASURES))


def _bound(of: Callable[..., float], measure: str, names: Iterable[str], length: int, found: Found) -> float:
    return of(getattr(one, measure) for name in names for one in found[length, name])


def docstrings(path: Path) -> Path:
    """A table of real texts that every machine has: what the standard library says about three subjects."""
    library = Path(sysconfig.get_paths()["stdlib"])
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for topic in ("asyncio", "email", "unittest"):
            for source in sorted((library / topic).glob("*.py")):
                for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                        rows.writerow([text, topic])
    return path


if __name__ == "__main__":
    pin_environment()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        digits, texts = write_digits(folder / "digits"), docstrings(folder / "texts.csv")
        for recipe, data in (("image-sorter", digits), ("text-sorter", texts)):
            show(recipe, measured(recipe, data, folder))
