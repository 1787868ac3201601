"""gristmill wallet: what it asks, says and refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.testing import FakeCoordinator

Cli = Callable[..., Any]

DAY_S = 86_400


@pytest.fixture
def fake() -> FakeCoordinator:
    return FakeCoordinator(opened=False)


@pytest.fixture
def address(cli: Cli, fake: FakeCoordinator) -> str:
    """Of the key, which holds 10 USD and has no account."""
    address: str = json.loads(cli("wallet", "balance", "--json").out)["key"]
    fake.give(address, 10_000_000)
    return address


def test_a_deposit_shows_what_it_signs_and_says_when_the_money_is_there(cli: Cli, address: str) -> None:
    ran = cli("wallet", "deposit", "7.50", "--yes")

    assert ran.code == 0
    assert f"Open the account of {address} (owner: {address}), and deposit 7.50 USD" in ran.err
    assert "token 0x3333" in ran.err
    assert "into Ledger 0x1111" in ran.err
    assert ran.out.startswith("7.50 USD is in the account.\n")
    assert "Available  7.50 USD" in ran.out
    assert "Outside    2.50 USD" in ran.out


def test_a_deposit_is_asked_for(cli: Cli, fake: FakeCoordinator, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)

    ran = cli("wallet", "deposit", "7.50")

    assert ran.code == 2
    assert "Add --yes" in ran.err
    assert fake.account(address.lower()).owner is None


def test_missing_tokens_are_named_with_where_to_send_them(cli: Cli, address: str) -> None:
    ran = cli("wallet", "deposit", "12", "--yes")

    assert ran.code == 2
    assert f"{address} holds 10.00 USD, not 12.00 USD." in ran.err
    assert f"Send 2.00 USD more to {address} (token 0x3333" in ran.err


def test_a_withdrawal_says_when_the_money_comes_and_what_jobs_may_take(
    cli: Cli, fake: FakeCoordinator, address: str
) -> None:
    cli("wallet", "deposit", "10", "--yes")

    ran = cli("wallet", "withdraw", "4", "--yes")

    assert ran.code == 0
    assert "24 hours after this" in ran.err
    assert "Leaving    4.00 USD, paid to the owner from 20" in ran.out
    fake.pause(DAY_S)
    assert json.loads(cli("wallet", "balance", "--json").out)["outside_usd_micros"] == 4_000_000


def test_a_withdrawal_of_all_is_taken_back(cli: Cli, address: str) -> None:
    cli("wallet", "deposit", "10", "--yes")
    assert "Leaving    10.00 USD" in cli("wallet", "withdraw", "all", "--yes").out

    ran = cli("wallet", "withdraw", "--cancel")

    assert (ran.code, "Leaving" in ran.out) == (0, False)
    assert "Balance    10.00 USD" in ran.out


def test_history_lists_the_newest_first(cli: Cli, address: str) -> None:
    cli("wallet", "deposit", "10", "--yes")
    cli("wallet", "withdraw", "1", "--yes")

    lines = cli("wallet", "history").out.splitlines()
    found = json.loads(cli("wallet", "history", "--json", "--limit", "2").out)

    assert ["withdrawal asked for" in lines[1], "deposit" in lines[2], "account opened" in lines[3]] == [True] * 3
    assert [one["kind"] for one in found] == ["withdrawal_asked", "deposit"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("deposit", "x"), "not an amount of USD"),
        (("deposit", "0"), "The amount is 0 USD"),
        (("deposit", "0.10"), "less than the coordinator pays gas for"),
        (("withdraw",), "Name an amount, --cancel or --finish"),
        (("withdraw", "1", "--cancel"), "Name an amount, --cancel or --finish"),
        (("withdraw", "1"), "The account is not open"),
        (("withdraw", "1", "--account", "0x12"), "'0x12' is no address"),
        (("withdraw", "1", "--account", "0x" + "12" * 20), "--account needs --rpc"),
        (("withdraw", "--cancel"), "The account is not open"),
        (("withdraw", "--finish"), "There is no withdrawal under way"),
        (("balance", "--rpc", "http://127.0.0.1:1"), "--rpc needs --deployment"),
        (("balance", "--deployment", "nowhere.json"), "There is no deployment at nowhere.json"),
    ],
)
def test_what_can_not_be_has_its_sentence(cli: Cli, address: str, args: tuple[str, ...], sentence: str) -> None:
    yes = ["--yes"] if args[0] != "balance" else []

    ran = cli("wallet", *args, *yes)

    assert ran.code in (2, 4, 5)
    assert sentence in ran.err


def test_a_coordinator_that_names_other_contracts_than_were_published_is_refused(
    cli: Cli, address: str, tmp_path: Path
) -> None:
    file = tmp_path / "deployment.json"
    published = {"chain_id": 31_337, "ledger": "0x" + "11" * 20, "token": "0x" + "33" * 20}
    file.write_text(json.dumps({**published, "collectors": {"erc3009": "0x" + "44" * 20}}))
    assert cli("wallet", "deposit", "5", "--yes", "--deployment", str(file)).code == 0
    file.write_text(json.dumps({**published, "collectors": {"erc3009": "0x" + "55" * 20}}))

    ran = cli("wallet", "deposit", "5", "--yes", "--deployment", str(file))

    assert ran.code == 8
    assert "The coordinator names the collector 0x4444" in ran.err


def test_without_web3_the_way_without_a_coordinator_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gristmill_contracts.own_money", raising=False)
    monkeypatch.setitem(sys.modules, "gristmill_contracts.ledger", None)

    ran = cli("wallet", "balance", "--rpc", "http://127.0.0.1:1", "--deployment", str(tmp_path / "deployment.json"))

    assert ran.code == 7
    assert "pip install 'gristmill[chain]'" in ran.err
