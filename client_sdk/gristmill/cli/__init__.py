"""The command `gristmill`: the same verbs as the Python API, for shells and scripts."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import typer
import typer.main

from gristmill.cli import checking, jobs, key, lint, market, tryout, wallet
from gristmill.cli.screen import EXIT_INTERRUPTED, show_error, wants_json
from gristmill_protocol.errors import BadRequest, GristmillError, MissingPart

# Other parts of the distribution add groups of commands here, such as the local network.
COMMANDS_GROUP = "gristmill.commands"


def main() -> None:
    """Run the command line and exit; the exit code is that of the error's class, see gristmill_protocol.errors."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line; gives its exit code."""
    as_json = wants_json(args)
    try:
        code = typer.main.get_command(_app(args)).main(list(args), prog_name="gristmill", standalone_mode=False)
    except GristmillError as err:
        show_error(err, as_json=as_json)
        return err.exit_code
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.TyperException as err:
        show_error(BadRequest(err.format_message(), todo="`gristmill --help` lists the commands."), as_json=as_json)
        return err.exit_code
    except BrokenPipeError:  # the reader of a pipe, such as head, has what it wanted
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def _app(args: Sequence[str]) -> typer.Typer:
    app = typer.Typer(
        name="gristmill",
        help="Train AI on other people's idle GPUs, and be sure the work was really done.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for part in (jobs, tryout, checking, lint, market):
        part.add_to(app)
    app.add_typer(key.app, name="key")
    app.add_typer(wallet.app, name="wallet")
    for entry in sorted(entry_points(group=COMMANDS_GROUP), key=lambda entry: entry.name):
        app.add_typer(_group(entry, asked=args[:1] == [entry.name]), name=entry.name)
    return app


def _group(entry: EntryPoint, *, asked: bool) -> typer.Typer:
    """Another part's group of commands, imported only for who asks for it: its libraries may be heavy, or not there."""
    if not asked:
        return typer.Typer(help=f"`gristmill {entry.name} --help` says more.")
    try:
        group: typer.Typer = entry.load()
    except ImportError as err:
        todo = f"pip install 'gristmill[{entry.name}]'"
        raise MissingPart(f"`gristmill {entry.name}` lacks a library: {err}.", todo=todo) from err
    return group
