"""The command `gristmill`: the same verbs as the Python API, for shells and scripts."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import typer
import typer.main

from gristmill.cli import account, jobs, key, tryout
from gristmill.cli.screen import EXIT_INTERRUPTED, show_error, wants_json
from gristmill_protocol.errors import BadRequest, GristmillError

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
    for part in (jobs, tryout, account):
        part.add_to(app)
    app.add_typer(key.app, name="key")
    ours = {command.name for command in app.registered_commands} | {"key"}
    if not args or args[0] not in ours:  # what nobody asked for need not be imported
        for entry in sorted(entry_points(group=COMMANDS_GROUP), key=lambda entry: entry.name):
            app.add_typer(entry.load(), name=entry.name)
    return app
