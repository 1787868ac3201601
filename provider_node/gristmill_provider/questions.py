"""Asking an owner: each question has its flag, most have a default; where nobody can answer, it says which flag."""

import sys

import typer

from gristmill_protocol.errors import BadRequest
from gristmill_provider.exit_codes import ExitCode, NodeEnded


class Questions:
    """Args:
    yes: take the defaults without asking.
    """

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes

    @property
    def somebody_there(self) -> bool:
        return sys.stdin.isatty()

    def ask(self, question: str, *, flag: str, default: str | None = None) -> str:
        """The answer, a stripped line.

        Raises:
            NodeEnded: nobody is there, and no default may be taken.
        """
        if self._yes and default is not None:
            return default
        self._require_somebody(f"{question}?", todo=f"Add {flag}." if default is None else f"Add {flag}, or --yes.")
        return str(typer.prompt(question, default=default, err=True)).strip()

    def confirm(self, question: str) -> None:
        """Go on only with a yes, which is typed: what is sent cannot be taken back.

        Raises:
            NodeEnded: nobody is there.
            typer.Exit: no.
        """
        if self._yes:
            return
        self._require_somebody(question, todo="Add --yes.")
        if not typer.confirm(question, err=True, default=None):
            typer.echo("Nothing was sent.", err=True)
            raise typer.Exit(ExitCode.STOPPED)

    def _require_somebody(self, question: str, *, todo: str) -> None:
        if not self.somebody_there:
            unasked = BadRequest(f"Nobody is there to ask: {question}", effect="Nothing was set up or sent.", todo=todo)
            raise NodeEnded(ExitCode.USAGE, unasked)
