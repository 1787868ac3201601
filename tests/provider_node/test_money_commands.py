"""What settle and earnings say where no chain is needed to say it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fakes.node_process import as_file
from fakes.provider_side import DEADLINE_S, MARKET, payable, reserved, statement
from gristmill_provider.cli import app
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode
from gristmill_provider.journal import JOURNAL, Journal, held
from gristmill_provider.payables import Lease

pytestmark = pytest.mark.slow
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def file(config: NodeConfig) -> Path:
    """The configuration as a file."""
    return as_file(config)


@pytest.fixture
def owed(config: NodeConfig) -> None:
    """A journal with one job's accepted work."""
    with Journal(config.state_dir / JOURNAL) as journal:
        journal.payables.meet(MARKET)
        journal.payables.expect(Lease(MARKET.ledger, "job_1", "attempt_1", DEADLINE_S, reserved()))
        journal.payables.take(payable(statement((3, 123_456)), reserved(accepted_usd_micros=123_456)), MARKET)


def typed(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [arguments[0], "--config", str(file), *arguments[1:]])


@pytest.mark.usefixtures("owed")
def test_the_journal_alone_tells_what_is_pending(file: Path, config: NodeConfig) -> None:
    with held(config.state_dir), Journal(config.state_dir / JOURNAL):  # as when the node runs
        told = typed(file, "earnings")
        found = json.loads(typed(file, "earnings", "--json").stdout)

    assert told.exit_code == ExitCode.STOPPED
    assert "Pending    0.123456 USD  before fee and shares, for accepted work of 1 job" in told.stdout
    assert "on chain 31337: name a node of it with --rpc" in told.stdout
    assert (found["pending_gross_usd_micros"], found["jobs"], found["earned_usd_micros"]) == (123_456, 1, None)


@pytest.mark.usefixtures("owed")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("settle",), ExitCode.USAGE, "Nothing was sent. Add --direct"),
        (("settle", "--direct"), ExitCode.USAGE, "Nothing was asked or sent. Add --rpc, or set rpc_url."),
        (("settle", "--direct", "--rpc", NOBODY), ExitCode.CHAIN, "Check that the node runs"),
        (("settle", "--direct", "--rpc", "nonsense"), ExitCode.CHAIN, "nonsense does not answer"),
        (("settle", "--direct", "--rpc", NOBODY, "--key", "a"), ExitCode.USAGE, "go together. Nothing was sent."),
        (("earnings", "--rpc", NOBODY), ExitCode.CHAIN, "does not answer"),
    ],
)
def test_what_is_in_the_way_is_said(file: Path, arguments: tuple[str, ...], code: ExitCode, words: str) -> None:
    ended = typed(file, *arguments)

    assert ended.exit_code == code
    assert words in ended.stderr
    assert f"Exit code {code:d} ({code.name})" in ended.stderr


@pytest.mark.parametrize("command", [("settle", "--direct", "--rpc", NOBODY), ("earnings",)])
def test_a_missing_or_broken_journal_is_said(file: Path, config: NodeConfig, command: tuple[str, ...]) -> None:
    missing = typed(file, *command)
    config.state_dir.mkdir()
    (config.state_dir / JOURNAL).write_bytes(b"not a journal at all" * 100)
    broken = typed(file, *command)

    assert missing.exit_code == broken.exit_code == ExitCode.JOURNAL
    assert "There is no journal at" in missing.stderr
    assert "cannot be read: file is not a database. What is owed cannot be known." in broken.stderr


def test_a_node_at_work_does_not_load_web3() -> None:
    loads = "import sys, gristmill_provider.cli, gristmill_provider.daemon; sys.exit('web3' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", loads], check=False).returncode == 0


@pytest.mark.usefixtures("owed")
def test_every_card_that_has_worked_is_told_of(config: NodeConfig) -> None:
    file = as_file(config.model_copy(update={"cpu": False, "gpu": "GPU-a"}))
    further = '[[more_gpus]]\ngpu = "GPU-b"\n[[more_gpus]]\ngpu = "GPU-c"\n'
    file.write_text(file.read_text() + "\n" + further)

    with Journal(config.state_dir / "cards" / "GPU-b" / JOURNAL):
        told = typed(file, "earnings").stdout
        found = [json.loads(line) for line in typed(file, "earnings", "--json").stdout.splitlines()]

    assert [line for line in told.splitlines() if line.endswith(":")] == [
        f"GPU-a at {config.coordinator}:", f"GPU-b at {config.coordinator}:",
    ]  # fmt: skip
    assert [one["jobs"] for one in found] == [1, 0]


def test_a_card_whose_journal_is_broken_keeps_no_other_back(config: NodeConfig) -> None:
    file = as_file(config.model_copy(update={"cpu": False, "gpu": "GPU-a"}))
    file.write_text(file.read_text() + '\n[[more_gpus]]\ngpu = "GPU-b"\n')
    with Journal(config.state_dir / "cards" / "GPU-b" / JOURNAL):
        (config.state_dir / JOURNAL).write_bytes(b"not a journal at all" * 100)

        told = typed(file, "earnings")

    assert f"GPU-b at {config.coordinator}:\nPending    0.00 USD" in told.stdout
    assert f"error: GPU-a at {config.coordinator}: The journal at" in told.stderr
    assert "There was trouble with 1 of 2." in told.stderr
    assert told.exit_code == ExitCode.JOURNAL
