"""A node as its owner runs it, in a process of its own that can be killed, and the artifacts it reaches by HTTP."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx

from fakes import trainer
from fakes.provider_side import RENTER, FakeArtifacts
from gristmill_provider.config import NodeConfig

UP = (sys.executable, "-c", "from gristmill_provider.cli import main; main()", "up", "--config")

_WITH_FAKE_TRAINER = """
import sys
from pathlib import Path
from gristmill_provider.cli import run_until_stopped
from gristmill_provider.config import load_config
from gristmill_provider.runner import ProcessRunner

config, trainer = sys.argv[1:]
run_until_stopped(lambda: load_config(Path(config)), runner=ProcessRunner((sys.executable, trainer)))
"""


def written(config: NodeConfig, **changes: object) -> Path:
    """The configuration as a file."""
    values: dict[str, object] = {
        "name": config.name,
        "coordinator": config.coordinator,
        "coordinator_url": config.coordinator_url,
        "keystore": str(config.keystore),
        "password_file": str(config.password_file),
        "provider_id": config.provider_id,
        "ask_usd_per_gpu_hour": "0.30",
        "backend": "process",
        "own_renters": [RENTER.address],
        "cpu": True,
        "state_dir": str(config.state_dir),
        **changes,
    }
    file = config.keystore.with_name("node.toml")
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in values.items()
    ]
    file.write_text("\n".join(lines))
    return file


def as_file(config: NodeConfig) -> Path:
    """The same configuration, but for its tables, as a file."""
    file = config.keystore.with_name("node.toml")
    tables = {"limits", "owner", "network", "more_gpus", "more_coordinators"}
    values = config.model_dump(mode="json", exclude=tables, exclude_none=True)
    file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    return file


async def start_node(file: Path, *, docked: bool = False, stderr: int | None = None) -> asyncio.subprocess.Process:
    """As the configuration says; without containers its training program is the fake one."""
    command = (*UP, str(file)) if docked else (sys.executable, "-c", _WITH_FAKE_TRAINER, str(file), trainer.__file__)
    return await asyncio.create_subprocess_exec(*command, stderr=stderr)


@contextmanager
def served(artifacts: FakeArtifacts) -> Iterator[str]:
    """The artifact endpoints on a port of this machine; gives their address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            request = httpx.Request(
                self.command, f"http://artifacts{self.path}", headers=dict(self.headers), content=content
            )
            answer = artifacts.answer(request)
            self.send_response(answer.status_code)
            body = answer.read()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = _answer  # the base class looks for these names

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its result."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
