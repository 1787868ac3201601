"""Check training code before a job is ordered: lint."""

from pathlib import Path
from typing import Annotated

import typer

from gristmill._lint import lint as find
from gristmill.cli.screen import Json, print_json, remark, say


def add_to(app: typer.Typer) -> None:
    app.command("lint")(lint)


def lint(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Training scripts, or folders of them.")],
    as_json: Json = False,
) -> None:
    """Name what would make two runs of a training script differ; the exit code is 1 if there is anything."""
    found = find(paths)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    else:
        for one in found:
            say(f"{one.file}:{one.line}:{one.column}: {one.what} [{one.rule}]")
            say(f"    {one.why}")
            say(f"    {one.instead}")
        remark(f"{len(found)} found." if found else "Nothing found: as written, every run gives the same bits.")
    if found:
        raise typer.Exit(1)
