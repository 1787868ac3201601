from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fakes.chain_worlds import EvmWorld, FakeWorld, World
from fakes.evm import Evm, evm_market, have_anvil
from fakes.world import World as Market
from gristmill_coordinator.config import Config


@pytest.fixture(scope="session")
def evm(require: Callable[[bool, str], None]) -> Iterator[Evm]:
    """One chain for all tests here; each test brings its own keys."""
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as market:
        yield market


@pytest.fixture(params=["fake", pytest.param("evm", marks=[pytest.mark.chain, pytest.mark.slow])])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    return EvmWorld(request.getfixturevalue("evm"))


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    """A coordinator on the chain in memory, whose steps a test takes one by one."""
    config = Config(data_dir=tmp_path, confirmations=2, resend_tx_s=60)
    market = Market(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}", config)
    await market.start()
    yield market
    await market.stop()
