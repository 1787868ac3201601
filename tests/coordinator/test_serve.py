"""The program as an operator starts it: it serves, it stops when told to, and it says what is wrong."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gristmill_protocol.keystore import create_key

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """A configuration whose chain nobody answers for."""
    create_key(tmp_path / "operator.json", "secret", rounds=1)
    (tmp_path / "password").write_text("secret\n")
    address = "0x" + "11" * 20
    deployment = {
        "chain_id": 31337, "ledger": address, "registry": address, "disputes": address, "cover": address,
        "recipe_registry": address, "commons": address, "commons_payee": 1, "fee_splitter": address,
        "token": address, "manager": address, "collectors": {"erc3009": address, "permit": address},
        "coordinator_id": 1, "challenger_payee": 2, "recipes": {"text-sorter": 1},
    }  # fmt: skip
    (tmp_path / "deployment.json").write_text(json.dumps(deployment))
    return {
        "data_dir": str(tmp_path / "data"),
        "http_address": f"127.0.0.1:{free_port()}",
        "grpc_address": f"127.0.0.1:{free_port()}",
        "rpc_url": f"http://127.0.0.1:{free_port()}",
        "deployment": str(tmp_path / "deployment.json"),
        "operator_key": str(tmp_path / "operator.json"),
        "operator_password_file": str(tmp_path / "password"),
    }


def start(tmp_path: Path, settings: dict[str, object]) -> subprocess.Popen[str]:
    path = tmp_path / "coordinator.json"
    path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "gristmill_coordinator", "serve", "--config", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def serving(tmp_path: Path, settings: dict[str, object]) -> Iterator[subprocess.Popen[str]]:
    """A coordinator that has said it is up."""
    process = start(tmp_path, settings)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "coordinator_started" in line:
            break
    assert "coordinator_started" in said[-1], said
    yield process
    process.kill()
    process.communicate()


def test_it_serves_and_stops_when_told_to(serving: subprocess.Popen[str], settings: dict[str, object]) -> None:
    answer = httpx.get(f"http://{settings['http_address']}/v1/info")

    serving.send_signal(signal.SIGTERM)
    out, _ = serving.communicate(timeout=20)

    assert answer.json()["recipes"] == {"text-sorter": 1}
    assert answer.json()["nodes"]["grpc_address"] == settings["grpc_address"]
    assert serving.returncode == 0
    assert out == ""


@pytest.mark.parametrize("port", ["http_address", "grpc_address"])
def test_a_port_in_use_is_said_and_ends_it(tmp_path: Path, settings: dict[str, object], port: str) -> None:
    host, _, number = str(settings[port]).rpartition(":")
    with socket.create_server((host, int(number))):
        process = start(tmp_path, settings)
        _, said = process.communicate(timeout=40)

    assert process.returncode == 7
    assert f"error: {settings[port]} is in use" in said
    assert "Traceback" not in said


def test_a_wrong_password_is_said(tmp_path: Path, settings: dict[str, object]) -> None:
    (tmp_path / "password").write_text("wrong\n")

    process = start(tmp_path, settings)
    _, said = process.communicate(timeout=40)

    assert process.returncode == 2
    assert "cannot be opened" in said
