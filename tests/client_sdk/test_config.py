"""Which coordinator and which key: environment first, then the file."""

from pathlib import Path

import pytest

import gristmill as gm
from gristmill import Client
from gristmill._config import load_config


def _write(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "gristmill" / "config.toml"
    path.parent.mkdir()
    path.write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_file_names_coordinator_and_key(tmp_path: Path) -> None:
    env = _write(tmp_path, 'url = "https://mill.example.org/"\nkeystore = "/keys/k.json"\n')

    config = load_config(env)

    assert (config.url, config.keystore) == ("https://mill.example.org", Path("/keys/k.json"))


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    env = _write(tmp_path, 'url = "https://mill.example.org"\n')

    assert load_config(env | {"GRISTMILL_URL": "https://other.example"}).url == "https://other.example"


def test_key_lies_beside_the_configuration(tmp_path: Path) -> None:
    assert load_config({"XDG_CONFIG_HOME": str(tmp_path)}).keystore == tmp_path / "gristmill" / "key.json"


def test_password_comes_from_a_file_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word \n")

    config = load_config({"GRISTMILL_PASSWORD_FILE": str(tmp_path / "password")})

    assert config.require_password() == "pass word "


def test_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(gm.WrongKey, match="password"):
        load_config({"GRISTMILL_PASSWORD_FILE": str(tmp_path / "password")})


def test_password_is_not_asked_for_where_nobody_is(tmp_path: Path) -> None:
    with pytest.raises(gm.WrongKey, match="GRISTMILL_PASSWORD_FILE"):
        load_config({"XDG_CONFIG_HOME": str(tmp_path)}).require_password()


@pytest.mark.parametrize("text", ["url = ", "colour = 'red'", "url = 3", "[url]\na = 1"])
def test_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    env = _write(tmp_path, text)

    with pytest.raises(gm.BadSettings, match=r"config\.toml"):
        load_config(env)


def test_no_coordinator_says_where_to_name_one() -> None:
    with pytest.raises(gm.BadSettings, match="GRISTMILL_URL"):
        Client()
