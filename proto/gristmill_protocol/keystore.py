"""Keys at rest: the encrypted JSON keystore (Web3 Secret Storage) that every Ethereum wallet reads."""

import json
import os
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import NotFound, WrongKey

# Rounds of PBKDF2 against guessing; OWASP's figure for HMAC-SHA256. Opening a key takes a third of a second.
_PBKDF2_ROUNDS = 600_000


def create_key(path: Path, password: str, *, rounds: int = _PBKDF2_ROUNDS) -> LocalAccount:
    """A fresh key, written to path for its owner's eyes only (mode 600).

    Args:
        rounds: fewer only for keys that guard test money.
    Raises:
        FileExistsError: there is a file already; a key is never overwritten.
    """
    account: LocalAccount = Account.create()
    keystore = Account.encrypt(account.key, password, kdf="pbkdf2", iterations=rounds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(keystore, file)
    return account


def load_key(path: Path, password: str) -> LocalAccount:
    """Open a keystore.

    Raises:
        NotFound: no such file.
        WrongKey: the password does not open it, or it is no keystore, or it cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as err:
        raise NotFound(f"There is no key at {path}.", todo="Make one, or name the right file.") from err
    except (OSError, UnicodeDecodeError) as err:
        raise WrongKey(
            f"The key at {path} cannot be read: {err}.",
            effect="Nothing was signed.",
            todo="Name a keystore, and run this as the account that owns it.",
        ) from err
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(text, password))
    except (ValueError, KeyError, TypeError) as err:
        raise WrongKey(
            f"The key at {path} cannot be opened.",
            effect="Nothing was signed.",
            todo="Check the password; a keystore that is damaged has to come from your backup.",
        ) from err
    return account
