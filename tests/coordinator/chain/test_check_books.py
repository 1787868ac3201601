"""check-books as an operator types it, on a real chain."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts import anvil

pytestmark = [pytest.mark.slow, pytest.mark.chain, pytest.mark.e2e]


@pytest.fixture
def settings(tmp_path: Path, evm: Evm) -> Path:
    """The configuration of a coordinator that has read nothing yet."""
    evm.deployment.save(tmp_path / "deployment.json")
    keystore = Account.encrypt(evm.operator.key, "secret", iterations=1)
    (tmp_path / "operator.json").write_text(json.dumps(keystore))
    (tmp_path / "password").write_text("secret\n")
    path = tmp_path / "coordinator.json"
    values = {
        "data_dir": str(tmp_path / "data"),
        "rpc_url": evm.rpc_url,
        "deployment": str(tmp_path / "deployment.json"),
        "operator_key": str(tmp_path / "operator.json"),
        "operator_password_file": str(tmp_path / "password"),
    }
    path.write_text(json.dumps(values))
    return path


def check_books(settings: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gristmill_coordinator", "check-books", "--config", str(settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_books_that_agree_end_with_0_and_a_difference_with_1(evm: Evm, settings: Path) -> None:
    anvil.set_automine(evm.w3, True)
    key = Account.create()
    evm.open_account(key, 7_000_000)

    agreed = check_books(settings)
    with closing(sqlite3.connect(settings.parent / "data" / "coordinator.db")) as database, database:
        database.execute("DELETE FROM ledger_events WHERE name = 'Deposited' AND key = ?", [key.address])
    differs = check_books(settings)

    assert agreed.returncode == 0, agreed.stderr
    assert agreed.stdout.startswith("The books agree at block ")
    assert differs.returncode == 1, differs.stderr
    assert differs.stdout == f"account {key.address}: its balance; our rows say 0, the chain 7000000\n"


def test_a_node_that_is_away_is_said(settings: Path, unused_tcp_port: int) -> None:
    values = json.loads(settings.read_text()) | {"rpc_url": f"http://127.0.0.1:{unused_tcp_port}"}
    settings.write_text(json.dumps(values))

    said = check_books(settings)

    assert said.returncode == 7
    assert "Traceback" not in said.stderr
    assert "error: There is no final block to compare with." in said.stderr
