"""The demo does what the README says, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import docker
import psutil
import pytest
from conftest import Require

from gristmill_localnet.sandbox_image import trainer_image
from gristmill_protocol.errors import MissingPart
from gristmill_provider.docker_runner import NODE_LABEL

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

GRISTMILL = str(Path(sys.executable).with_name("gristmill"))


def children_of(marker: str) -> list[psutil.Process]:
    """Processes that have the text in their command line, ourselves aside."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if marker in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid():
            found.append(process)
    return found


def assert_shows_a_fair_market(ran: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    for words in ("The plan, before anything is spent", "of 100 right", "of its bond", "What was verified", "0x"):
        assert words in ran.stdout
    assert (folder / "model" / "MODEL_CARD.md").exists()
    assert children_of(str(folder)) == []


def test_the_demo_ends_with_a_model_and_a_slashed_cheat(evm: None, tmp_path: Path) -> None:
    ran = subprocess.run([GRISTMILL, "localnet", "demo", "--folder", tmp_path], capture_output=True, text=True)

    assert_shows_a_fair_market(ran, tmp_path)
    picture = sorted((tmp_path / "digits" / "7").iterdir())[0]
    tried = subprocess.run(
        [GRISTMILL, "try", tmp_path / "model", picture, "--json"], capture_output=True, text=True, check=True
    )
    assert '"7"' in tried.stdout
    assert_certified(tmp_path / "model")


def assert_certified(model: Path) -> None:
    """The certificate holds, signed by the machine too; with one bit of the model changed it does not."""
    command = [GRISTMILL, "verify", model]
    true = subprocess.run(command, capture_output=True, text=True)
    assert true.returncode == 0, true.stdout
    assert "Signed by provider" in true.stdout
    assert "## How it came to be" in (model / "MODEL_CARD.md").read_text()
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    changed = subprocess.run(command, capture_output=True, text=True)

    assert changed.returncode == 1
    assert "✗ model.safetensors is not the file that was certified." in changed.stdout


@pytest.mark.long
@pytest.mark.docker
def test_the_demo_runs_in_containers(evm: None, require: Require, tmp_path: Path) -> None:
    try:
        trainer_image("docker")
    except MissingPart as err:
        require(False, str(err))

    command = [GRISTMILL, "localnet", "demo", "--folder", tmp_path, "--sandbox", "docker"]
    ran = subprocess.run(command, capture_output=True, text=True)

    assert_shows_a_fair_market(ran, tmp_path)
    nodes = {file.read_text() for file in tmp_path.rglob("node_id")}
    left = docker.from_env().containers.list(all=True, filters={"label": NODE_LABEL})
    assert len(nodes) == 4
    assert [one.id for one in left if one.labels[NODE_LABEL] in nodes] == []


def test_an_interrupted_localnet_leaves_no_process(evm: None, tmp_path: Path) -> None:
    command = [GRISTMILL, "localnet", "up", "--folder", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as market:
        assert market.stdout is not None
        assert market.stderr is not None
        for line in market.stdout:
            if "Ctrl-C" in line:
                break
        started = children_of(str(tmp_path))
        market.send_signal(signal.SIGINT)
        said = market.stderr.read()

    assert len(started) > 4
    assert "Nothing is left running" in said
    assert market.returncode == 130
    assert [process for process in started if process.is_running()] == []
