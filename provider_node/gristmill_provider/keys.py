"""The keys that an owner names by files: a keystore, and its password on the first line of another."""

from pathlib import Path

from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import NotFound
from gristmill_protocol.keystore import load_key


def open_key(keystore: Path, password_file: Path) -> LocalAccount:
    """The key in a keystore.

    Raises:
        NotFound: one of the files is missing.
        WrongKey: the password does not open it, or it is no keystore.
    """
    try:
        password = password_file.read_text().rstrip("\r\n")
    except FileNotFoundError as err:
        raise NotFound(
            f"There is no password at {password_file}.", todo="Name the right file in password_file."
        ) from err
    return load_key(keystore, password)
