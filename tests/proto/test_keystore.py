"""Keys at rest are for their owner's eyes and open with their password only."""

from pathlib import Path

import pytest

from gristmill_protocol.errors import NotFound, WrongKey
from gristmill_protocol.keystore import create_key, load_key


def test_a_key_opens_with_its_password_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "renter.json"
    account = create_key(path, "long password", rounds=2)

    assert load_key(path, "long password").address == account.address
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(WrongKey, match="cannot be opened"):
        load_key(path, "another")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_key(tmp_path / "key.json", "p", rounds=2)

    with pytest.raises(FileExistsError):
        create_key(tmp_path / "key.json", "p", rounds=2)


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"version": 3}'])
def test_a_damaged_keystore_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)

    with pytest.raises(WrongKey):
        load_key(path, "p")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"key\.json"):
        load_key(tmp_path / "key.json", "p")
