"""A localnet starts in a folder of its own with room in it, or not at all."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from fakes.evm import evm_market, have_anvil
from gristmill_localnet.net import localnet, make_money
from gristmill_protocol.errors import BadRequest, Conflict, NoSpace, NotFound

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10**6, 10**6))

    with pytest.raises(NoSpace, match=r"has 1 MB left.*Nothing was started.*--folder"), localnet(tmp_path / "net"):
        pass


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("mine")

    with pytest.raises(Conflict, match="no localnet made"), localnet(tmp_path):
        pass

    assert (tmp_path / "photo.png").read_text() == "mine"


@pytest.mark.chain
@pytest.mark.slow
def test_test_money_is_made_at_any_address(require: Callable[[bool, str], None], tmp_path: Path) -> None:
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as evm:
        evm.deployment.save(tmp_path / "deployment.json")
        (tmp_path / "coordinator.json").write_text(json.dumps({"rpc_url": evm.rpc_url}))
        address = Account.create().address

        make_money(tmp_path, address, 3_000_000)

        assert evm.token.balance_usd_micros(address) == 3_000_000


def test_test_money_needs_a_market_and_an_address(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no deployment"):
        make_money(tmp_path, "0x" + "12" * 20, 1)
    with pytest.raises(BadRequest, match="'me' is no address"):
        make_money(tmp_path, "me", 1)
