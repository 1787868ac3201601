import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from fakes import trainer
from fakes.provider_side import OPERATOR, RENTER, FakeArtifacts, ScriptedCoordinator
from gristmill_protocol.keystore import create_key
from gristmill_provider.config import Limits, NodeConfig
from gristmill_provider.daemon import Node, build
from gristmill_provider.runner import ProcessRunner

FAKE_TRAINER = (sys.executable, trainer.__file__)
assert OPERATOR != RENTER


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
    async def run(settings: NodeConfig = config, **options: Any) -> AsyncIterator[Node]:
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
