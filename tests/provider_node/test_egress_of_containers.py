"""A renter's own program, with the real trainer in a real container, reaches the host that it declared and no other."""

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import gristmill_protocol
import gristmill_trainer
from fakes.provider_side import task
from gristmill_protocol.jobs import DataStats
from gristmill_protocol.progress import Finished
from gristmill_provider.config import Limits
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.egress import way_out
from gristmill_provider.runner import ProcessRunner
from gristmill_provider.task_dirs import new_task_dir
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.recipe import Gpu

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BASE = f"gristmill-trainer:{version('gristmill')}"
ALLOWED = "allowed.example.org"
PROGRAM = """
import json, os, socket

def ask(host, port=443):
    name, number = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
    with socket.create_connection((name, int(number)), timeout=10) as out:
        out.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\n".encode())
        said = out.recv(1000)
        if said[9:12] == b"200":
            out.sendall(b"hello")
            said = out.recv(1000)
        return said.decode().splitlines()[0]

def directly(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True

found = {
    "allowed": ask("allowed.example.org"),
    "rebound": ask("allowed.example.org"),
    "other": ask("other.example.org"),
    "other port": ask("allowed.example.org", 22),
    "address": ask("93.184.216.34"),
    "name server": directly(lambda: socket.getaddrinfo("allowed.example.org", 443)),
    "direct": directly(lambda: socket.create_connection(("93.184.216.34", 443), timeout=2)),
    "dns tunnel": directly(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53))),
    "host": directly(lambda: socket.create_connection(("172.17.0.1", 443), timeout=2)),
    "interfaces": [name for _, name in socket.if_nameindex()],
}
json.dump(found, open("out/found.json", "w"))
"""


@pytest.fixture
def image(engine: Any, require: Callable[[bool, str], None], tmp_path: Path) -> str:
    """The trainer's image with the trainer of this very checkout."""
    require(bool(engine.images.list(BASE)), f"no image {BASE}: run `make image`")
    context = tmp_path / "image"
    for package in (gristmill_protocol, gristmill_trainer):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        shutil.copytree(folder, context / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY . /usr/lib/checkout/\nENV PYTHONPATH=/usr/lib/checkout\n")
    return str(engine.images.build(path=str(context), rm=True)[0].id)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    source = tmp_path / "mine"
    source.mkdir()
    (source / "train.py").write_text(PROGRAM)
    made = await new_task_dir(ProcessRunner(), tmp_path / "tasks", "attempt_1")
    packed = DataView.open(source, plain=True).pack(made / "input" / "data")
    plan = catalog.find("script").plan({"minutes": 1, "network": [ALLOWED]}, DataStats(examples=1), Gpu())
    wanted = task(recipe="script", data=packed, settings=plan.settings, steps=1, segment_steps=1, network=plan.network)
    (made / "task.json").write_text(wanted.model_dump_json())
    return made


async def test_a_program_reaches_its_host_and_no_other(image: str, folder: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.read(100))
        writer.close()

    async def resolve(_: str, addresses: list[str] = ["93.184.216.34", "127.0.0.1"]) -> Sequence[str]:  # noqa: B006
        return [addresses.pop(0)]

    async def dial(_: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*service.sockets[0].getsockname())

    service = await asyncio.start_server(echo, "127.0.0.1", 0)
    runner = DockerRunner(node_id="node_of_egress_tests", image=image, limits=Limits(work_gib=0.1), gpu_uuid=None)
    await runner.open()
    async with service, way_out(folder, [ALLOWED], most_bytes=10_000, resolve=resolve, dial=dial):
        run = await runner.start(folder, "run")
        try:
            events = [event async for event in run.events()]
            ended = await run.wait()
            assert isinstance(events[-1], Finished), ended
            found = json.loads((folder / "out" / "result" / "found.json").read_text())
        finally:
            await run.close()
            await runner.close()

    assert found == {
        "allowed": "echo hello",
        "rebound": "HTTP/1.1 403 Forbidden",
        "other": "HTTP/1.1 403 Forbidden",
        "other port": "HTTP/1.1 403 Forbidden",
        "address": "HTTP/1.1 403 Forbidden",
        "name server": False,
        "direct": False,
        "dns tunnel": False,
        "host": False,
        "interfaces": ["lo"],
    }
