"""Try a model that was brought home: try."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from gristmill.cli.screen import Json, print_json, print_table
from gristmill_protocol.errors import BadData, BadRequest, GristmillError, MissingPart, Problem, Unavailable
from gristmill_protocol.progress import Failed


def add_to(app: typer.Typer) -> None:
    app.command("try")(try_model)


def try_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Folder that `gristmill pull` made.")],
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Files to put to the model.")] = None,
    texts: Annotated[list[str] | None, typer.Option("--text", help="A text itself instead of a file.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a finished model, on this machine; with --json, one answer a line."""
    if not files and not texts:
        raise BadRequest("There is nothing to ask the model.", todo="Name a file, or a text with --text.")
    if not model.is_dir():
        raise BadData(f"There is no model folder {model}.", todo="Bring one home with `gristmill pull JOB`.")
    if find_spec("torch") is None:
        raise MissingPart(
            "Trying a model needs PyTorch, which is not installed here.",
            effect="The model was not asked.",
            todo="pip install 'gristmill[trainer]'",
        )
    answers = _predict(model, [*(f"--text={text}" for text in texts or []), "--", *map(str, files or [])])
    if as_json:
        for answer in answers:
            print_json(answer)
        return
    rows = [(answer["file"], answer["answer"], f"{100 * answer['confidence']:.0f} % sure") for answer in answers]
    print_table(("asked", "answer", ""), rows)


def _predict(model: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """The trainer's answers, from a process of its own: torch is not loaded here, and its settings stay there."""
    command = [sys.executable, "-m", "gristmill_trainer", "predict", str(model), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    if ran.returncode == 0:
        return [json.loads(line) for line in lines]
    try:
        failed = Failed.model_validate_json(lines[-1] if lines else "")
    except ValidationError as err:
        raise Unavailable(f"The trainer ended with {ran.returncode}: {ran.stderr.strip()[-500:]}") from err
    problem = Problem(code=failed.code, what=failed.what, effect=failed.effect, todo=failed.todo)
    raise GristmillError.from_problem(problem)
