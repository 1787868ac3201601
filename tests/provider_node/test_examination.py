"""The doctor on this very machine: a real engine, a driver of our own, coordinators there, wrong, late or gone."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


def test_each_card_that_is_offered_is_looked_for(cards: object, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[[more_gpus]]\ngpu = "GPU-elsewhere"\n')

    told = CliRunner().invoke(app, ["doctor", "--config", str(file)])

    assert "ok       graphics card      NVIDIA GeForce RTX 4090" in told.stdout
    assert "problem  graphics card      The card GPU-elsewhere is not there" in told.stdout


def test_every_coordinator_is_looked_at(front: Front, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    gone = 'coordinator = "127.0.0.1:1"\ncoordinator_url = "http://127.0.0.1:1"\nprovider_id = 9\n'
    file.write_text(f'cpu = true\ncoordinator_url = "{front.url}"\n[[more_coordinators]]\n{gone}')

    told = CliRunner().invoke(app, ["doctor", "--config", str(file)])

    assert f"ok       coordinator        {front.url} answers" in told.stdout
    assert "problem  coordinator        The coordinator at http://127.0.0.1:1 does not answer" in told.stdout
    assert told.stdout.count("registration  ") == 2


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
@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("sha256:" + "0" * 64, "is not on this machine, and a bare digest names no registry"),
        ("127.0.0.1:1/trainer@sha256:" + "0" * 64, "cannot be fetched"),
    ],
)
def test_a_real_engine_tells_which_image_is_missing(require: Require, tmp_path: Path, image: str, words: str) -> None:
    try:
        docker.from_env().close()
    except DockerException:
        require(False, "no Docker engine answers")

    found = Machine(tmp_path / "node.toml", {"image": image}).image()

    assert isinstance(found, GristmillError)
    assert words in found.what
    assert found.effect == "No job can run."


@pytest.mark.docker
def test_a_registry_that_lacks_the_digest_is_told_apart(require: Require, tmp_path: Path) -> None:
    try:
        docker.from_env().close()
    except DockerException:
        require(False, "no Docker engine answers")
    with registry() as address:
        found = Machine(tmp_path / "node.toml", {"image": f"{address}/trainer@sha256:" + "0" * 64}).image()

    assert isinstance(found, GristmillError)
    assert "the name or the digest is wrong" in found.what


@contextmanager
def registry() -> Iterator[str]:
    """An image registry that holds nothing."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"{}" if self.path == "/v2/" else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}'
            self.send_response(200 if self.path == "/v2/" else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
