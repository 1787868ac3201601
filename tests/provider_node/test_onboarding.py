"""What setting up asks, and says where it cannot go on; the whole way is in e2e/test_new_owner.py."""

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fakes.front import Front
from gristmill_protocol.keystore import load_key
from gristmill_provider.cli import app
from gristmill_provider.exit_codes import ExitCode

pytestmark = pytest.mark.slow
UP = (sys.executable, "-m", "gristmill_provider", "up")


def typed(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["up", "--config", str(tmp_path / "node.toml"), *arguments])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), ExitCode.USAGE, "Add --coordinator-url."),
        (("--coordinator-url", "http://127.0.0.1:1"), ExitCode.COORDINATOR, "does not answer"),
    ],
)
def test_nobody_is_left_hanging(tmp_path: Path, arguments: tuple[str, ...], code: ExitCode, words: str) -> None:
    told = typed(tmp_path, *arguments)

    assert told.exit_code == code
    assert words in told.stderr
    assert not (tmp_path / "node.toml").exists()


def test_a_machine_without_a_card_offers_its_cpu_only_if_asked_to(front: Front, tmp_path: Path) -> None:
    told = typed(tmp_path, "--coordinator-url", front.url, "--yes")

    assert told.exit_code == ExitCode.DEVICE
    assert "--cpu" in told.stderr


def test_no_image_means_no_strangers_jobs(front: Front, tmp_path: Path) -> None:
    without = json.loads(front.body)
    without["nodes"]["images"] = {}
    front.body = json.dumps(without)

    told = typed(tmp_path, "--coordinator-url", front.url, "--cpu", "--yes")

    assert told.exit_code == ExitCode.USAGE
    assert "add --own-renter ADDRESS" in told.stderr


def test_a_coordinator_without_terms_for_nodes_is_told(front: Front, tmp_path: Path) -> None:
    front.body = json.dumps({**json.loads(front.body), "nodes": None})

    told = typed(tmp_path, "--coordinator-url", front.url, "--cpu", "--yes")

    assert told.exit_code == ExitCode.COORDINATOR
    assert "does not say what a node needs" in told.stderr


def test_without_a_yes_the_flag_of_the_next_question_is_named(front: Front, tmp_path: Path) -> None:
    arguments = ("--coordinator-url", front.url, "--cpu", "--own-renter", "0x" + "12" * 20)

    told = typed(tmp_path, *arguments)

    key, password = tmp_path / "node-key.json", tmp_path / "node-password"
    assert told.exit_code == ExitCode.USAGE
    assert "Add --name, or --yes." in told.stderr
    assert load_key(key, password.read_text().strip()).address in told.stderr
    assert stat.S_IMODE(key.stat().st_mode) == stat.S_IMODE(password.stat().st_mode) == 0o600


def test_what_was_answered_is_not_asked_again(front: Front, tmp_path: Path) -> None:
    typed(tmp_path, "--coordinator-url", front.url, "--cpu", "--own-renter", "0x" + "12" * 20)

    again = typed(tmp_path)

    assert "Add --name, or --yes." in again.stderr
    assert "Address of the coordinator" not in again.stderr


def test_questions_have_defaults_and_ctrl_c_is_no_fault(front: Front, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*UP, "--config", tmp_path / "node.toml", "--coordinator-url", front.url, "--cpu"]
    with subprocess.Popen(
        [*command, "--own-renter", "0x" + "12" * 20],
        stdin=theirs,
        stderr=subprocess.PIPE,
        # Whoever runs tests in the background has Ctrl-C ignored by all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as node:
        assert node.stderr is not None
        said = b""
        try:
            while b"Name that people see" not in said:
                assert select.select([node.stderr], [], [], 30)[0], said
                said += os.read(node.stderr.fileno(), 4096)
            node.send_signal(signal.SIGINT)
            said += node.stderr.read()
        finally:
            node.kill()
    os.close(ours)
    os.close(theirs)

    assert node.returncode == ExitCode.INTERRUPTED
    assert b"it goes on where it was" in said
