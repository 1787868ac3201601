"""What commands say: data on stdout, everything meant for eyes only on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gristmill_protocol.errors import BadRequest, GristmillError
from gristmill_protocol.wording import printable

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it

Json = Annotated[bool, typer.Option("--json", help="Print JSON only; errors come as JSON on stderr.")]


def wants_json(args: Sequence[str]) -> bool:
    """Whether --json is given, known before the arguments are parsed so that parsing errors are JSON too."""
    return "--json" in args


def print_json(value: BaseModel | dict[str, Any] | list[Any]) -> None:
    """One JSON document on one line of stdout."""
    typer.echo(value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """A line of the command's result."""
    typer.echo(printable(text))


def remark(text: str) -> None:
    """A line for the person at the terminal, not part of the result."""
    typer.echo(printable(text), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty()).print(table)


def watching() -> Console:
    """Where progress is shown."""
    return Console(stderr=True)


def require_yes(question: str, *, yes: bool, what: str = "This spends money") -> None:
    """Go on only if the person agrees to spend.

    Raises:
        BadRequest: nobody is there to ask, or the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadRequest(f"{what}, and nobody is there to ask.", effect="Nothing was ordered.", todo="Add --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(0)


def show_error(error: GristmillError, *, as_json: bool) -> None:
    """The error on stderr: what happened, its effect, what to do."""
    if as_json:
        typer.echo(error.problem().model_dump_json(), err=True)
        return
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text(printable(error.what), style="bold red"))
    for sentence in (error.effect, error.todo):
        if sentence:
            console.print(Text(printable(sentence)))
