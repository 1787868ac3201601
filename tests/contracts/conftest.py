from collections.abc import Callable, Iterator

import pytest

from fakes.evm import Evm, evm_market, have_anvil


@pytest.fixture(scope="session")
def evm(require: Callable[[bool, str], None]) -> Iterator[Evm]:
    """One chain for all tests here; each test brings its own keys."""
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as market:
        yield market
