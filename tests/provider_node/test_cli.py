"""What an owner types, and what the process ends with."""

import shutil
import signal
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from fakes.node_process import UP, start_node, written
from fakes.provider_side import ScriptedCoordinator
from gristmill_protocol.keystore import load_key
from gristmill_provider.cli import app
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode

pytestmark = pytest.mark.slow


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    keystore, password = tmp_path / "keys" / "node.json", tmp_path / "keys" / "password"

    made = CliRunner().invoke(app, ["key", "new", "--keystore", str(keystore), "--password-file", str(password)])
    again = CliRunner().invoke(app, ["key", "new", "--keystore", str(keystore), "--password-file", str(password)])

    assert load_key(keystore, password.read_text().strip()).address == made.output.strip()
    assert stat.S_IMODE(keystore.stat().st_mode) == stat.S_IMODE(password.stat().st_mode) == 0o600
    assert again.exit_code == ExitCode.KEY


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"slots": 0}, ExitCode.USAGE, "slots"),
        ({"password_file": "/none"}, ExitCode.KEY, "There is no password at /none."),
        ({"password_file": "/"}, ExitCode.KEY, "The password at / cannot be read: "),
        ({"keystore": "/"}, ExitCode.KEY, "The key at / cannot be read: "),
        ({"ca_file": "/none"}, ExitCode.USAGE, "No certificate can be read from /none: No such file or directory."),
        ({"ca_file": "/dev/null"}, ExitCode.USAGE, "No certificate can be read from /dev/null: "),
        ({"cpu": False}, ExitCode.DEVICE, "set cpu = true"),
        (
            {"backend": "docker", "image": "t@sha256:" + "0" * 64, "docker_url": "tcp://127.0.0.1:1"},
            ExitCode.SANDBOX,
            "Start or update Docker",
        ),
    ],
)
def test_a_node_that_cannot_start_says_why(
    changes: dict[str, object], code: ExitCode, words: str, config: NodeConfig
) -> None:
    ended = subprocess.run(
        [*UP, written(config, **changes)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert words in ended.stderr
    assert f"Exit code {code:d} ({code.name})" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code


@pytest.mark.parametrize("command", ["up", "earnings", "pause"])
def test_a_configuration_that_cannot_be_read_is_said(command: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, [command, "--config", str(tmp_path)])

    assert f"{tmp_path} cannot be read: Is a directory. The settings were not taken. Name the file" in ended.stderr
    assert ended.exit_code == ExitCode.USAGE


def test_a_full_disk_is_said_before_anything_is_signed(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10**6))

    ended = CliRunner().invoke(app, ["up", "--config", str(written(config))])

    assert ended.exit_code == ExitCode.DISK
    assert "has 1 MB left" in ended.stderr
    assert "Make room" in ended.stderr


async def test_signals_reload_the_price_and_end_in_order(coordinator: ScriptedCoordinator, config: NodeConfig) -> None:
    file = written(config)
    node = await start_node(file, stderr=subprocess.PIPE)
    await coordinator.expect("offer")
    file.write_text(file.read_text().replace("0.30", "0.70"))
    node.send_signal(signal.SIGHUP)
    offers = await coordinator.expect("offer", 2)
    node.send_signal(signal.SIGTERM)
    _, log = await node.communicate()

    assert [offer.ask_usd_micros_per_gpu_hour for offer in offers] == [300_000, 700_000]
    assert node.returncode == ExitCode.STOPPED
    assert b'"event": "node_leaving"' in log
