"""A Postgres server of its own for a test session, where initdb is on the path."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SETTINGS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300"


def available() -> bool:
    """Whether a server can be started here."""
    return shutil.which("initdb") is not None and shutil.which("pg_ctl") is not None


@contextmanager
def running() -> Iterator[str]:
    """The address of a fresh server: postgresql+asyncpg://...; databases are made with createdb-like SQL."""
    with tempfile.TemporaryDirectory(prefix="gristmill-pg-") as folder:
        os.chmod(folder, 0o755)
        root = Path(folder) / "server"
        root.mkdir()
        if os.geteuid() == 0:
            shutil.chown(root, "nobody")  # the server refuses to run as root
        data, port = root / "data", _free_port()
        _as_nobody("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} {_SETTINGS}"
        _as_nobody("pg_ctl", "-D", str(data), "-o", options, "-l", str(root / "log"), "-w", "start")
        try:
            yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}"
        finally:
            _as_nobody("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


def _as_nobody(*command: str) -> None:
    user = "nobody" if os.geteuid() == 0 else None
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
