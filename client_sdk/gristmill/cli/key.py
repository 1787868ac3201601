"""The renter's key: key new, key show."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gristmill._config import load_config
from gristmill.cli.screen import Json, print_json, remark, say
from gristmill_protocol.errors import Conflict, WrongKey

app = typer.Typer(help="Your key: it signs orders and payments, and never leaves this machine.", no_args_is_help=True)

KeyPath = Annotated[Path | None, typer.Argument(help="The keystore file; by default the configured one.")]


@app.command("new")
def new(path: KeyPath = None, as_json: Json = False) -> None:
    """Make a key, encrypted with a password."""
    from gristmill_protocol.keystore import create_key

    config = load_config(os.environ)
    path = path or config.keystore
    if path.exists():
        raise _taken(path)
    password = config.password if config.password is not None else _new_password(path)
    try:
        address = create_key(path, password).address
    except FileExistsError as err:
        raise _taken(path) from err
    if as_json:
        print_json({"address": address, "keystore": str(path)})
        return
    say(address)
    remark(f"The key is at {path}. Keep a copy of it and of its password: nobody can bring either back.")


@app.command("show")
def show(path: KeyPath = None, as_json: Json = False) -> None:
    """Print the key's address, which is your account."""
    from gristmill._session import Key

    config = load_config(os.environ)
    path = path or config.keystore
    address = Key(path, config.require_password).address
    if as_json:
        print_json({"address": address, "keystore": str(path)})
    else:
        say(address)


def _new_password(path: Path) -> str:
    if not sys.stdin.isatty():
        raise WrongKey(
            "A key needs a password, and nobody is there to type one.",
            effect="No key was made.",
            todo="Set GRISTMILL_PASSWORD_FILE to a file that holds it.",
        )
    return str(typer.prompt(f"New password for {path}", hide_input=True, confirmation_prompt=True, err=True))


def _taken(path: Path) -> Conflict:
    return Conflict(f"There is a key at {path} already.", effect="It was left as it is.", todo="Name another file.")
