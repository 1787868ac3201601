import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
import structlog
from docker.errors import DockerException

from fakes import trainer
from fakes.front import Front
from fakes.provider_side import OPERATOR, RENTER, FakeArtifacts, ScriptedCoordinator
from gristmill_protocol.keystore import create_key
from gristmill_provider.config import Limits, NodeConfig
from gristmill_provider.fleet import Fleet, build
from gristmill_provider.runner import ProcessRunner

Require = Callable[[bool, str], None]
FAKE_TRAINER = (sys.executable, trainer.__file__)
assert OPERATOR != RENTER


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that ran in this process has its log go to an output that is closed by now."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def socket() -> Iterator[str]:
    """A gRPC address of a test's own; socket paths have to be short."""
    with tempfile.TemporaryDirectory(prefix="gm") as folder:
        yield f"unix:{folder}/s"


@pytest.fixture
def config(tmp_path: Path, socket: str) -> NodeConfig:
    (tmp_path / "password").write_text("secret\n")
    create_key(tmp_path / "key.json", "secret", rounds=1)
    return NodeConfig(
        name="A test's machine",
        coordinator=socket,
        coordinator_url="http://127.0.0.1:1",
        keystore=tmp_path / "key.json",
        password_file=tmp_path / "password",
        provider_id=3,
        ask_usd_per_gpu_hour="0.30",
        backend="process",
        cpu=True,
        own_renters=(RENTER.address,),
        state_dir=tmp_path / "state",
        limits=Limits(stop_grace_s=5),
    )


@pytest.fixture
def front(socket: str) -> Iterator[Front]:
    made = Front(socket)
    yield made
    made.close()


@pytest.fixture
async def coordinator(socket: str) -> AsyncIterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(socket)
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
def artifacts() -> FakeArtifacts:
    return FakeArtifacts()


IMAGE = "python:3.11-slim-bookworm"


@pytest.fixture(scope="session")
def engine(require: Callable[[bool, str], None]) -> Iterator[Any]:
    """A client of this machine's Docker engine, which has the image that the tests' own are made from."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as err:
        require(False, f"no Docker engine: {err}")
    require(bool(client.images.list(IMAGE)), f"no image {IMAGE}; .ci/base-image makes one")
    yield client
    client.close()


Running = Callable[..., Any]


@pytest.fixture
def running(config: NodeConfig, artifacts: FakeArtifacts) -> Running:
    """async with running() as node: a real node with the fake trainer; it has left in order afterwards."""

    @asynccontextmanager
    async def run(settings: NodeConfig = config, **options: Any) -> AsyncIterator[Fleet]:
        options.setdefault("runner", ProcessRunner(FAKE_TRAINER))
        node = build(settings, transport=artifacts.transport(), **options)
        task = asyncio.create_task(node.run())
        try:
            yield node
            node.stop()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run


class Cards:
    """The graphics cards of a driver of our own (nvml_stub.c); they are from now on what was set last."""

    UUIDS = ("GPU-fa4e0000-0000-4000-8000-000000000000", "GPU-fa4e0001-0000-4000-8000-000000000000")

    def __init__(self, state: Path) -> None:
        self._state = state
        self._values: dict[str, object] = {}
        self.set()

    def set(self, card: int | None = 0, **values: object) -> None:
        """Values of a card, or of the driver (None), beside those set before; nvml_stub.c lists them."""
        prefix = "" if card is None else f"{card}."
        self._values |= {prefix + name: value for name, value in values.items()}
        fresh = self._state.with_suffix(".new")
        fresh.write_text("".join(f"{name}={value}\n" for name, value in self._values.items()))
        fresh.replace(self._state)


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory, require: Require) -> None:
    """A driver's library of our own, loaded before the real one could be; without a state file it says: no driver."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    require(compiler is not None, "no C compiler for the driver's stand-in")
    library = tmp_path_factory.mktemp("driver") / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml_stub.c")
    options = ("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")
    subprocess.run([str(compiler), *options, "-o", library, source], check=True)
    ctypes.CDLL(str(library))


@pytest.fixture
def cards(_driver: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cards:
    """One card of that driver, until a test sets more."""
    monkeypatch.setenv("NVML_STUB_FILE", str(tmp_path / "driver"))
    return Cards(tmp_path / "driver")


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that is none of the node's: its parent is gone."""
    started = subprocess.run(
        ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True, text=True
    )
    pid = int(started.stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)
