"""Images and docker-compose.yml: nothing runs as root by habit, nothing gets the host's network or its engine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(path for path in ROOT.glob("*/Dockerfile"))
COMPOSE = ROOT / "docker-compose.yml"
TOO_MUCH = ("privileged", "network_mode: host", "pid: host", "ipc: host", "docker.sock", "cap_add", "userns_mode")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_do_not_run_as_root(dockerfile: Path) -> None:
    users = re.findall(r"^USER (\S+)", dockerfile.read_text(), re.MULTILINE)

    assert users
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_take_their_base_from_outside(dockerfile: Path) -> None:
    text = dockerfile.read_text()

    assert re.search(r"^ARG BASE=\S+\nFROM \$\{BASE\}", text, re.MULTILINE)
    assert "# syntax=" not in text, "a remote frontend is one more thing to download and to trust"


def test_compose_gives_no_service_the_host() -> None:
    text = COMPOSE.read_text()

    assert [word for word in TOO_MUCH if word in text] == []


def test_compose_publishes_on_loopback_only() -> None:
    ports = re.findall(r"^ +- [\"']?([\w.${}:-]+:\d+)[\"']?$", COMPOSE.read_text(), re.MULTILINE)

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_accepts_the_file(require) -> None:
    modern = (
        shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    )
    require(bool(modern or shutil.which("docker-compose")), "Docker Compose is not installed")

    run = subprocess.run([ROOT / "scripts" / "compose", "config"], check=False, capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
