"""Databases to run the coordinator's tests on: SQLite always, Postgres where it is installed."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from fakes import postgres


@pytest.fixture(scope="session")
def postgres_server(require: Callable[[bool, str], None]) -> Iterator[str]:
    require(postgres.available(), "needs Postgres: initdb and pg_ctl on the path")
    with postgres.running() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}"
    server = request.getfixturevalue("postgres_server")
    name = f"test_{secrets.token_hex(6)}"
    engine = create_async_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return f"{server}/{name}"
