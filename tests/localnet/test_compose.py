"""What the set-up service of docker-compose.yml leaves behind."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.evm import have_anvil, running_anvil
from gristmill_contracts.deploy import Deployment
from gristmill_localnet.compose import ASKS_USD, PASSWORD, set_up
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.keystore import load_key
from gristmill_provider.config import load_config

pytestmark = [pytest.mark.chain, pytest.mark.slow]


@pytest.fixture
def parts(require: Callable[[bool, str], None]) -> None:
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    require(shutil.which("openssl") is not None, "openssl is missing")


@pytest.mark.usefixtures("parts")
def test_a_market_is_set_up_once_per_chain(tmp_path: Path) -> None:
    with running_anvil() as rpc_url:
        set_up(tmp_path, rpc_url)
        first = (tmp_path / "deployment.json").read_text()

        assert set_up(tmp_path, rpc_url) == "The market is set up already."
        assert (tmp_path / "deployment.json").read_text() == first

    with running_anvil() as rpc_url:
        assert "set up; the renter is" in set_up(tmp_path, rpc_url)


@pytest.mark.usefixtures("parts")
def test_the_parts_accept_what_was_set_up(tmp_path: Path) -> None:
    with running_anvil() as rpc_url:
        set_up(tmp_path, rpc_url)

    deployment = Deployment.load(tmp_path / "deployment.json")
    nodes = [load_config(tmp_path / f"{name}.toml") for name in ASKS_USD]
    renter = load_key(tmp_path / "keys" / "renter.json", PASSWORD)

    assert deployment.coordinator_id > 0
    assert len({node.provider_id for node in nodes}) == len(nodes)
    assert all(node.own_renters == (renter.address,) for node in nodes)
    assert stat.S_IMODE((tmp_path / "tls" / "key.pem").stat().st_mode) == 0o600


def test_nothing_is_said_to_be_set_up_without_a_chain(tmp_path: Path) -> None:
    with pytest.raises(ChainUnavailable):
        set_up(tmp_path, "http://127.0.0.1:9")
