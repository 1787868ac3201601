"""A task folder worked on from beginning to end: run, replay, export."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.errors import BadRequest, BadSettings, WrongHash
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Evaluated, Finished, TrainerEvent
from gristmill_trainer import catalog, result, whole
from gristmill_trainer.conformance import numeric_class
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.determinism import pin
from gristmill_trainer.engine import Emit, Run
from gristmill_trainer.program import Program, Training
from gristmill_trainer.recipe import Recipe, parse_settings
from gristmill_trainer.scoring import Scorecard


def run(folder: Path, emit: Emit, stop_requested: Callable[[], bool]) -> None:
    """Train the task in this folder to its end and leave the result in out/result.

    Raises:
        Preempted: stop_requested; saved.
        GristmillError: what went wrong.
    """
    task, recipe = _task(folder)
    device = pin(task.threads)
    if recipe.info.whole:
        job = whole.Job(task, folder, _data(folder, task, plain=True), emit, stop_requested)
        return whole.run(job, _whole_program(recipe), numeric_class=numeric_class(device, threads=task.threads))
    training_run = Run(
        task,
        folder,
        data=_data(folder, task),
        device=device,
        emit=emit,
        stop_requested=stop_requested,
        numeric_class=numeric_class(device, threads=task.threads),
    )
    training = program_of(recipe).begin(training_run)
    try:
        training.train()
    finally:
        training_run.settle()
    card, files = _hand_over(folder, recipe, task, training)
    root = training_run.state_root(task.steps)
    emit(Finished(step=task.steps, state_root=root, scorecard=card.model_dump(mode="json"), files=files))


def replay(folder: Path, emit: Emit, stop_requested: Callable[[], bool]) -> None:
    """Repeat the task's steps and say what came out; writes the states it is to keep and, at the job's end, the result.

    Raises:
        Preempted: stop_requested.
        GristmillError: what went wrong.
    """
    task, recipe = _task(folder)
    if task.step_to is None:
        raise BadRequest("A task to replay must say up to which step.", todo="Set step_to in task.json.")
    if recipe.info.whole:
        job = whole.Job(task, folder, _data(folder, task, plain=True), emit, stop_requested)
        return whole.replay(job, _whole_program(recipe))
    device = pin(task.threads)
    replaying = Run(task, folder, data=_data(folder, task), device=device, emit=emit, stop_requested=stop_requested)
    training = program_of(recipe).begin(replaying)
    training.train()
    if replaying.replayed is None:
        raise LookupError("the program did not do its steps")
    made: dict[str, object] = {}
    if task.step_to == task.steps:
        card, files = _hand_over(folder, recipe, task, training)
        made = {"files": files, "scorecard_sha256": sha256_json(card.model_dump(mode="json")).hex()}
    emit(replaying.replayed.model_copy(update=made))


def evaluate(folder: Path, emit: Emit) -> None:
    """Say how many of the task's examples the model in input/model gets right.

    Raises:
        GristmillError: what went wrong.
    """
    task, recipe = _task(folder)
    pin(task.threads)
    _, model = result.read(folder / "input" / "model")
    data = _data(folder, task)
    given = program_of(recipe).predict(model, ((example.place, example.content) for example in data))
    right = [said.answer == example.answer for said, example in zip(given, data, strict=True)]
    emit(Evaluated(correct=sum(right), examples=len(right)))


def export(folder: Path, model_folder: Path) -> None:
    """Write the model as it is in the task's start state, for a job that was stopped half-way.

    Raises:
        GristmillError: what went wrong.
    """
    task, recipe = _task(folder)
    device = pin(task.threads)
    ended = Run(task, folder, data=_data(folder, task), device=device, emit=_ignore, stop_requested=lambda: False)
    training = program_of(recipe).begin(ended)
    result.write(model_folder, info=recipe.info, task=task, training=training, card=training.evaluate())


def program_of(recipe: Recipe) -> Program:
    """The recipe's program; this loads torch and what else it trains with."""
    return cast(Program, import_module(recipe.program))


def _hand_over(folder: Path, recipe: Recipe, task: TrainTask, training: Training) -> tuple[Scorecard, dict[str, str]]:
    """Measure and write the result; the same bits on every machine of a class, as the state they follow from."""
    card = training.evaluate()
    return card, result.write(folder / "out" / "result", info=recipe.info, task=task, training=training, card=card)


def _task(folder: Path) -> tuple[TrainTask, Recipe]:
    path = folder / "task.json"
    try:
        task = TrainTask.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as err:
        raise BadRequest(f"{str(path)!r} is no task: {err}.", effect="Nothing was trained.") from err
    recipe = catalog.find(task.recipe)
    settings = parse_settings(recipe.Settings, task.settings).model_dump()
    if unresolved := [name for name, value in settings.items() if value is None]:
        raise BadSettings(
            f"The settings {', '.join(unresolved)} have no value.",
            effect="Nothing was trained.",
            todo="Take the settings from the recipe's plan.",
        )
    end = task.steps if task.step_to is None else task.step_to
    nothing_to_replay = task.step_to == task.step_from
    if (
        not 0 <= task.step_from <= end <= task.steps
        or nothing_to_replay
        or (task.step_from > 0) != (task.state is not None)
    ):
        raise BadRequest(
            f"The task's steps {task.step_from} to {end} of {task.steps} do not fit together with its state.",
            effect="Nothing was trained.",
            todo="Give a state exactly when step_from is above 0.",
        )
    return task.model_copy(update={"settings": settings}), recipe


def _whole_program(recipe: Recipe) -> whole.WholeProgram:
    return cast(whole.WholeProgram, import_module(recipe.program))


def _data(folder: Path, task: TrainTask, *, plain: bool = False) -> DataView:
    path = folder / "input" / "data"
    if not path.exists() or file_ref(path) != task.data:
        raise WrongHash(
            f"The data set is not the one with the SHA-256 {task.data.sha256}.",
            effect="Nothing was trained.",
            todo="Fetch it again.",
        )
    return DataView.open(path, plain=plain)


def _ignore(_event: TrainerEvent) -> None:
    pass
