from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.studio_side import Browser, Pages, pages


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Pages]:
    """The pages of a market with three machines and test money."""
    async with pages(tmp_path) as site:
        for name in ("node_1", "node_2", "node_3"):
            await site.world.add_machine(name)
        yield site


@pytest.fixture
async def browser(site: Pages) -> AsyncIterator[Browser]:
    browser = site.browser()
    yield browser
    await browser.http.aclose()
