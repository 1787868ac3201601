"""The doctor on this very machine: a real engine, a driver of our own, coordinators there, wrong, late or gone."""

import asyncio
import json
import time
from pathlib import Path

import docker
import pytest
from conftest import Require
from docker.errors import DockerException
from typer.testing import CliRunner

from fakes.front import Front
from fakes.provider_side import ScriptedCoordinator
from gristmill_protocol.errors import GristmillError
from gristmill_provider.cli import app
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode
from gristmill_provider.probes import Machine

pytestmark = pytest.mark.slow


def findings(*arguments: str) -> dict[str, dict[str, str]]:
    """By check."""
    told = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    return {finding["check"]: finding for finding in json.loads(told.stdout)}


def test_a_machine_without_a_card_is_told_what_to_do_before_it_is_set_up(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "node.toml")])

    assert told.exit_code == ExitCode.UNFIT
    assert "problem  graphics card" in told.stdout
    assert "set cpu = true" in told.stdout
    assert "gristmill-node up --coordinator-url ADDRESS makes it" in told.stdout


def test_half_a_configuration_is_examined_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('cpu = true\nbackend = "process"\nslots = "many"\n')

    found = findings("--config", str(file))

    assert found["settings"]["level"] == "problem"
    assert "slots" in found["settings"]["what"]
    assert found["graphics card"]["level"] == found["disk"]["level"] == "ok"
    assert "no key" in found["key"]["what"]


async def test_a_coordinator_that_answers_is_fine(
    front: Front, coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    found = await asyncio.to_thread(
        findings, "--config", str(tmp_path / "node.toml"), "--cpu", "--coordinator-url", front.url
    )

    assert {found[check]["level"] for check in ("coordinator", "stream for nodes", "clock")} == {"ok"}


def test_a_wrong_clock_is_a_problem(front: Front, tmp_path: Path) -> None:
    front.clock = lambda: time.time() + 4000

    machine = Machine(tmp_path / "node.toml", {"coordinator_url": front.url})

    assert not isinstance(machine.greeting, GristmillError)
    assert machine.greeting.behind_s == pytest.approx(4000, abs=5)


@pytest.mark.parametrize(
    ("body", "url", "words"),
    [
        ("<html>", "", "is no Gristmill coordinator"),
        ("", "http://127.0.0.1:1", "does not answer"),
        ("", "https://nobody.invalid", "resolves names"),
    ],
)
def test_a_coordinator_that_is_none_is_explained(front: Front, tmp_path: Path, body: str, url: str, words: str) -> None:
    front.body = body

    greeting = Machine(tmp_path / "node.toml", {"coordinator_url": url or front.url}).greeting

    assert isinstance(greeting, GristmillError)
    assert words in str(greeting)


def test_a_card_of_the_driver_is_found(cards: object, tmp_path: Path) -> None:
    found = findings("--config", str(tmp_path / "node.toml"))

    assert "NVIDIA GeForce RTX 4090" in found["graphics card"]["what"]


def test_key_files_that_others_may_read_are_named(config: NodeConfig, tmp_path: Path) -> None:
    config.password_file.chmod(0o644)
    file = tmp_path / "node.toml"
    file.write_text(f'keystore = "{config.keystore}"\npassword_file = "{config.password_file}"\n')

    assert findings("--config", str(file))["key"]["todo"] == f"chmod 600 {config.password_file}"


def test_an_engine_that_nobody_started_is_a_problem(tmp_path: Path) -> None:
    engine = Machine(tmp_path / "node.toml", {"docker_url": f"unix://{tmp_path}/sock"}).engine

    assert isinstance(engine, GristmillError)
    assert "No Docker engine answers" in engine.what


@pytest.mark.docker
def test_a_real_engine_tells_which_image_is_missing(require: Require, tmp_path: Path) -> None:
    try:
        docker.from_env().close()
    except DockerException:
        require(False, "no Docker engine answers")
    image = Machine(tmp_path / "node.toml", {"image": "sha256:" + "0" * 64}).image()

    assert not isinstance(Machine(tmp_path / "node.toml", {}).engine, GristmillError)
    assert isinstance(image, GristmillError)
    assert "is not on this machine" in image.what
