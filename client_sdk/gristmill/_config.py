"""Which coordinator, which key: environment first, then ~/.config/gristmill/config.toml."""

import getpass
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gristmill_protocol.errors import BadSettings, WrongKey

_FIELDS = ("url", "keystore", "password_file")


@dataclass(frozen=True)
class Config:
    """Where to connect and what to sign with.

    Args:
        url: of the coordinator; "" when nobody named one.
        keystore: encrypted JSON keystore of the renter's hot key.
        password: of the keystore; None when it has to be asked for.
        state: folder for the records of what was ordered.
    """

    url: str
    keystore: Path
    password: str | None
    state: Path

    def require_url(self) -> str:
        """Raises:
        BadSettings: nobody named a coordinator.
        """
        if not self.url:
            raise BadSettings(
                "No coordinator is named.",
                todo=f'Set GRISTMILL_URL, or write url = "https://..." into {config_path(os.environ)}.',
            )
        return self.url

    def require_password(self) -> str:
        """The keystore's password, asked for where a person can type it.

        Raises:
            WrongKey: nobody is there to ask.
        """
        if self.password is not None:
            return self.password
        if not sys.stdin.isatty():
            raise WrongKey(
                f"The password of the key at {self.keystore} is not known.",
                effect="Nothing was signed.",
                todo="Set GRISTMILL_PASSWORD_FILE to a file that holds it.",
            )
        return getpass.getpass(f"Password of {self.keystore}: ")


def load_config(env: Mapping[str, str]) -> Config:
    """The configuration that an environment and its config file give.

    Raises:
        BadSettings: the file is no TOML, or has a key nobody knows.
    """
    path = config_path(env)
    written = _read(path)
    password_file = env.get("GRISTMILL_PASSWORD_FILE") or written.get("password_file")
    password = env.get("GRISTMILL_PASSWORD")
    if password is None and password_file:
        password = _password_from(Path(password_file).expanduser())
    keystore = env.get("GRISTMILL_KEYSTORE") or written.get("keystore") or str(path.parent / "key.json")
    state = Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "gristmill"
    url = env.get("GRISTMILL_URL") or written.get("url", "")
    return Config(url=url.rstrip("/"), keystore=Path(keystore).expanduser(), password=password, state=state)


def config_path(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gristmill" / "config.toml"


def _read(path: Path) -> dict[str, str]:
    try:
        written = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise BadSettings(f"{path} is no TOML: {err}.", todo="Mend it or remove it.") from err
    for name, value in written.items():
        if name not in _FIELDS or not isinstance(value, str):
            raise BadSettings(f"{path} sets {name} = {value!r}.", todo=f"It may set the texts {', '.join(_FIELDS)}.")
    return written


def _password_from(path: Path) -> str:
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as err:
        raise WrongKey(
            f"The password file {path} cannot be read: {err.strerror}.", effect="Nothing was signed."
        ) from err
