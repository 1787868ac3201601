"""Where settings come from, and what is said of wrong ones."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gristmill_coordinator import cli
from gristmill_coordinator.config import Config, load_config
from gristmill_protocol.errors import BadSettings, NotFound


@pytest.mark.slow
def test_migrate_makes_the_database(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["migrate", "--data-dir", str(tmp_path / "data")])

    assert result.exit_code == 0, result.output
    assert (tmp_path / "data" / "coordinator.db").exists()


def test_flags_go_before_the_file_and_the_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_COORDINATOR_HEARTBEAT_S", "5")
    monkeypatch.setenv("GRISTMILL_COORDINATOR_LEASE_REPLY_S", "7")
    (tmp_path / "c.json").write_text('{"lease_reply_s": 8, "rpc_url": "http://file"}')

    config = load_config(tmp_path / "c.json", rpc_url="http://flag", public_url=None)

    assert (config.heartbeat_s, config.lease_reply_s, config.rpc_url) == (5, 8, "http://flag")


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"heartbeat_s": 0, "hearbeat": 1}')

    with pytest.raises(BadSettings, match=r"heartbeat_s.*hearbeat"):
        load_config(tmp_path / "c.json")
    with pytest.raises(NotFound):
        load_config(tmp_path / "missing.json")


def test_the_token_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data")

    assert config.token_secret() == config.token_secret()
    assert (tmp_path / "data" / "token-secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("address", ["127.0.0.1:80", "localhost:80", "[::1]:80", "unix:/run/x"])
def test_loopback_needs_no_certificate(address: str) -> None:
    Config().require_encryption(address)


@pytest.mark.parametrize("address", ["0.0.0.0:80", "10.0.0.1:80", "example.org:80", "[::]:80", ":80"])
def test_others_are_served_under_a_certificate_only(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="without encryption"):
        Config().require_encryption(address)

    Config(tls_certificate=tmp_path / "c", tls_key=tmp_path / "k").require_encryption(address)
