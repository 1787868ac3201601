"""A renter with tokens and no gas at all, on a real chain; and one whose coordinator is gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

import gristmill as gm
from fakes.evm import Evm, evm_market, have_anvil
from fakes.held import hold_job
from fakes.http_side import URL, Clock, LoopWire, coordinator_on
from gristmill import Client, _client
from gristmill.cli import run
from gristmill_contracts.anvil import give_gas, pass_time
from gristmill_contracts.collectors import PermitCollector
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import sender, watcher
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.stages import relaying, settlement, withdrawals
from gristmill_protocol.consents import permit_deposit
from gristmill_protocol.jobs import StatementLine

pytestmark = [pytest.mark.chain, pytest.mark.slow]

DAY_S = 86_400
STEPS = (watcher.step, settlement.step, withdrawals.step, sender.step)


@pytest.fixture(scope="module")
def evm(require: Callable[[bool, str], None]) -> Iterator[Evm]:
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as market:
        yield market


@pytest.fixture
def renter(evm: Evm) -> LocalAccount:
    """Holds 10 USD, and no gas at all."""
    key: LocalAccount = Account.create()
    evm.relayer.run(evm.token.mint(key.address, 10_000_000))
    assert evm.w3.eth.get_balance(key.address) == 0
    return key


@dataclass(frozen=True)
class Bank:
    co: Coordinator
    client: Client

    async def live(self, turns: int = 4) -> None:
        for _ in range(turns):
            for step in STEPS:
                await step(self.co)


@pytest.fixture
async def bank(evm: Evm, renter: LocalAccount, tmp_path: Path) -> AsyncIterator[Bank]:
    """A coordinator on the real chain, and the renter's client."""
    clock, loop = Clock(evm.now()), asyncio.get_running_loop()
    chain = EvmChain.connect(evm.rpc_url, evm.deployment, evm.operator)
    async with coordinator_on(chain, tmp_path, clock, evm.deployment.recipes) as co:

        async def turn() -> None:
            for step in STEPS:
                await step(co)

        def pause(seconds: float) -> None:
            clock.now_s += seconds
            asyncio.run_coroutine_threadsafe(turn(), loop).result()

        wire = LoopWire(make_app(co), loop)
        with _client.test_mode(_client.TestMode(URL, renter, tmp_path / "state", wire, clock, pause)):
            yield Bank(co, Client())


async def test_without_gas_a_renter_opens_deposits_is_charged_and_withdraws(
    bank: Bank, evm: Evm, renter: LocalAccount
) -> None:
    client = bank.client
    account = await asyncio.to_thread(client.deposit, "8")
    assert (account.balance_usd_micros, account.outside_usd_micros) == (8_000_000, 2_000_000)

    line = StatementLine(provider=0, verifier=0, recipe=1, amount_usd_micros=1_250_000)
    job_id = await hold_job(bank.co, renter, line, nonce=0)
    await bank.live()
    assert (await asyncio.to_thread(client.account)).balance_usd_micros == 6_750_000

    asked = await asyncio.to_thread(client.withdraw)
    assert (asked.balance_usd_micros, asked.withdrawing_usd_micros) == (0, 6_750_000)
    await bank.live()
    assert evm.token.balance_usd_micros(renter.address) == 2_000_000
    pass_time(evm.w3, DAY_S)
    await bank.live()

    assert evm.token.balance_usd_micros(renter.address) == 8_750_000
    assert evm.w3.eth.get_transaction_count(renter.address) == 0
    movements = await asyncio.to_thread(lambda: list(client.history()))
    assert [(one.kind, one.amount_usd_micros, one.job_id) for one in movements] == [
        ("withdrawal", 6_750_000, None),
        ("withdrawal_asked", 6_750_000, None),
        ("payment", 1_250_000, job_id),
        ("deposit", 8_000_000, None),
        ("opened", 0, None),
    ]
    assert all(evm.w3.eth.get_transaction_receipt(one.tx)["status"] == 1 for one in movements)  # type: ignore[arg-type]


async def test_the_deposit_terms_are_those_of_the_token(bank: Bank, evm: Evm) -> None:
    terms = (await asyncio.to_thread(bank.client.info)).deposits

    assert terms is not None
    assert (terms.token_name, terms.token_version) == ("Test USD", "1")
    assert (terms.erc3009, terms.permit) == (evm.deployment.collectors.erc3009, evm.deployment.collectors.permit)


async def test_a_deposit_by_permit_is_handed_in_too(bank: Bank, evm: Evm, renter: LocalAccount) -> None:
    await asyncio.to_thread(bank.client.deposit, "1")
    collector = PermitCollector(evm.w3, evm.deployment.collectors.permit)
    permit = permit_deposit(
        renter,
        evm.token.domain(),
        collector.domain(),
        key=renter.address,
        amount_usd_micros=2_000_000,
        deadline_s=evm.now() + 3600,
        permit_nonce=0,
        deposit_nonce=0,
    )

    await relaying.deposit(bank.co, renter.address.lower(), permit)
    await bank.live()

    assert evm.ledger.account(renter.address).balance_usd_micros == 3_000_000


@pytest.fixture
def alone(evm: Evm, renter: LocalAccount, tmp_path: Path) -> Iterator[list[str]]:
    """The options of a renter who has gas and no coordinator."""
    give_gas(evm.w3, renter.address)
    evm.deployment.save(tmp_path / "deployment.json")
    with _client.test_mode(_client.TestMode(key=renter, state=tmp_path / "state")):
        yield ["--rpc", evm.rpc_url, "--deployment", str(tmp_path / "deployment.json"), "--json"]


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """What a wallet command prints as JSON."""
    capsys.readouterr()
    assert run(["wallet", *args]) == 0
    return json.loads(capsys.readouterr().out)


def test_with_the_coordinator_gone_the_key_pays_its_own_gas(
    evm: Evm, renter: LocalAccount, alone: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "deposit", "0.50", "--yes", *alone)["balance_usd_micros"] == 500_000
    assert said(capsys, "deposit", "5.50", "--yes", *alone)["balance_usd_micros"] == 6_000_000
    asked = said(capsys, "withdraw", "all", "--yes", *alone)
    assert (asked["balance_usd_micros"], asked["withdrawing_usd_micros"]) == (0, 6_000_000)
    assert run(["wallet", "withdraw", "--finish", *alone]) == gm.Conflict.exit_code
    assert "The withdrawal can be paid in 86," in capsys.readouterr().err
    pass_time(evm.w3, DAY_S)

    assert said(capsys, "withdraw", "--finish", *alone)["outside_usd_micros"] == 10_000_000

    history = said(capsys, "history", *alone)
    kinds = [one["kind"] for one in history]
    assert kinds == ["withdrawal", "withdrawal_asked", "deposit", "deposit", "opened"]


def test_an_owner_withdraws_from_another_keys_account(evm: Evm, renter: LocalAccount, tmp_path: Path) -> None:
    file, owner = tmp_path / "deployment.json", evm.sender()
    evm.deployment.save(file)
    give_gas(evm.w3, renter.address)
    _client.direct_money(evm.rpc_url, file, renter).plan_deposit(5, owner=owner.address).start()
    with pytest.raises(gm.NotAllowed, match=f"Only the account's owner, {owner.address}"):
        _client.direct_money(evm.rpc_url, file, renter).withdraw()
    money = _client.direct_money(evm.rpc_url, file, owner.account, account=renter.address)

    money.withdraw(2)
    pass_time(evm.w3, DAY_S)
    money.pay_out()

    assert evm.token.balance_usd_micros(owner.address) == 2_000_000
    assert evm.ledger.account(renter.address).balance_usd_micros == 3_000_000


def test_a_node_of_another_chain_is_noticed(evm: Evm, renter: LocalAccount, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    evm.deployment.model_copy(update={"chain_id": 1}).save(file)

    with pytest.raises(gm.BadSettings, match="is a node of chain 31337; the deployment is on chain 1"):
        _client.direct_money(evm.rpc_url, file, renter)


def test_a_node_that_is_away_and_a_key_without_gas_are_told(evm: Evm, renter: LocalAccount, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    evm.deployment.save(file)

    with pytest.raises(gm.ChainUnavailable, match="does not answer"):
        _client.direct_money("http://127.0.0.1:1", file, renter)
    with pytest.raises(gm.ChainUnavailable, match="enough to pay for gas"):
        _client.direct_money(evm.rpc_url, file, renter).plan_deposit(5).start()
    with pytest.raises(gm.NotFound, match="no deployment"):
        _client.direct_money(evm.rpc_url, tmp_path / "none.json", renter)
