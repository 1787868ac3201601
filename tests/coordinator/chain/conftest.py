from collections.abc import Callable, Iterator

import pytest

from fakes.chain_worlds import EvmWorld, FakeWorld, World
from fakes.evm import Evm, evm_market, have_anvil


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
