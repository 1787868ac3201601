from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.world import World
from gristmill_coordinator.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path, anchor_every_s=0, retry_node_s=20, candidate_wait_s=5)


@pytest.fixture
async def world(tmp_path: Path, config: Config) -> AsyncIterator[World]:
    """A market without machines, on SQLite."""
    world = World(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}", config)
    await world.start()
    yield world
    await world.stop()
