"""A market of three honest providers, started once for all tests, and a data set of real handwriting."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Require

from gristmill import Client, Job
from gristmill_contracts.anvil import find_anvil
from gristmill_localnet.digits import write_digits
from gristmill_localnet.net import Localnet, NodeSpec, localnet
from gristmill_protocol.errors import MissingPart
from gristmill_protocol.jobs import JobView

HONEST = (NodeSpec("willow", "0.20"), NodeSpec("oak", "0.24"), NodeSpec("birch", "0.30"))
PATIENCE_S = 150.0


@pytest.fixture(scope="session")
def evm(require: Require) -> None:
    try:
        find_anvil()
    except MissingPart as err:
        require(False, str(err))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="session")
def net(evm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Localnet]:
    with localnet(tmp_path_factory.mktemp("market") / "localnet", nodes=HONEST) as running:
        yield running


@pytest.fixture
def renter(net: Localnet) -> Iterator[Client]:
    with net.client() as client:
        yield client


def until(job: Job, reached: Callable[[JobView], bool]) -> JobView:
    """The job as it is when it first fulfils the condition."""
    for news in job.follow():
        if news.view is not None and reached(news.view):
            return news.view
    raise AssertionError(f"the job ended as {job.state} before the condition held")
