"""The keys that an owner names by files: a keystore, and its password on the first line of another."""

import os
import secrets
from pathlib import Path

from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import NotFound, WrongKey
from gristmill_protocol.keystore import create_key, load_key


def new_key(keystore: Path, password_file: Path) -> LocalAccount:
    """A fresh key; its password is made up if there is no such file. Both are for their owner's eyes only.

    Raises:
        OSError: a file cannot be written, or there is a key already.
    """
    if not password_file.exists():
        password_file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    return create_key(keystore, password_file.read_text().rstrip("\r\n"))


def open_key(keystore: Path, password_file: Path) -> LocalAccount:
    """The key in a keystore.

    Raises:
        NotFound: one of the files is missing.
        WrongKey: the password does not open it, it is no keystore, or one of the files cannot be read.
    """
    try:
        password = password_file.read_text().rstrip("\r\n")
    except FileNotFoundError as err:
        raise NotFound(
            f"There is no password at {password_file}.", todo="Name the right file in password_file."
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise WrongKey(
            f"The password at {password_file} cannot be read: {err}.",
            effect="Nothing was signed.",
            todo="Name the right file in password_file, and run this as the account that owns it.",
        ) from err
    return load_key(keystore, password)
