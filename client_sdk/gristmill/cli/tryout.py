"""Try a model that was brought home: try."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.screen import Json
from gristmill_protocol.errors import BadData, MissingPart


def add_to(app: typer.Typer) -> None:
    app.command("try")(try_model)


def try_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Folder that `gristmill pull` made.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What to put to the model.")],
    as_json: Json = False,
) -> None:
    """Ask a finished model about files, on this machine."""
    if not model.is_dir():
        raise BadData(f"There is no model folder {model}.", todo="Bring one home with `gristmill pull JOB`.")
    if find_spec("torch") is None:
        raise MissingPart(
            "Trying a model needs PyTorch, which is not installed here.",
            effect="The model was not asked.",
            todo="pip install 'gristmill[trainer]'",
        )
    command = [sys.executable, "-m", "gristmill_trainer", "predict", str(model), *map(str, files)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
