"""Try a model that was brought home: try."""

from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.screen import Json, print_json, print_table
from gristmill_protocol.errors import BadData, BadRequest, NotFound
from gristmill_trainer.tryout import ask


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
    inputs = [*map(_content, files or []), *((text, text.encode()) for text in texts or [])]
    answers = ask(model, inputs)
    if as_json:
        for answer in answers:
            print_json(answer)
        return
    print_table(
        ("asked", "answer", ""), [(one.file, one.answer, f"{100 * one.confidence:.0f} % sure") for one in answers]
    )


def _content(file: Path) -> tuple[str, bytes]:
    try:
        return str(file), file.read_bytes()
    except OSError as err:
        what = f"{str(file)!r} cannot be read: {err.strerror}."
        raise NotFound(what, effect="The model was not asked.", todo="Check the path.") from err
