"""Bring a database's tables up to date; the revisions are in migrations/versions."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

_REPLICAS_LOCK = 0x6772_6973_746D  # any constant: replicas that start together migrate one after another


async def migrate(engine: AsyncEngine) -> None:
    """Apply the revisions that the database lacks, all or none."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_REPLICAS_LOCK)))
        await connection.run_sync(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
