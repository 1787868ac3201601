from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from fakes.http_side import Served, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A coordinator whose artifacts are at most 10 MB."""
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.http() as http:
        yield http
