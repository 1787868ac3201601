"""Money in and out by signature, at the real coordinator on the chain in memory and at the fake one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

import gristmill as gm
from fakes.http_side import URL, Served, serving
from gristmill import Client, _client
from gristmill.testing import FakeCoordinator
from gristmill_coordinator.chain import sender, watcher
from gristmill_coordinator.stages import withdrawals

DAY_S = 86_400


@dataclass(frozen=True)
class Bank:
    """A client without an account, and what a test may do to its world."""

    client: Client
    give: Callable[[str, int], None]
    pass_time: Callable[[float], None]


async def turn(served: Served, seconds: float) -> None:
    """Time passes, a block is made, and what follows the chain looks at it."""
    served.clock.now_s += seconds
    served.chain.mine()
    for step in (watcher.step, sender.step, withdrawals.step, sender.step):
        await step(served.co)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture(params=["real", "fake"])
async def bank(request: pytest.FixtureRequest, tmp_path: Path, served: Served) -> Bank:
    key: LocalAccount = Account.create()
    if request.param == "fake":
        fake = FakeCoordinator(opened=False)
        return Bank(fake.client(tmp_path / "state", key), fake.give, fake.pause)
    loop = asyncio.get_running_loop()

    def pause(seconds: float) -> None:
        asyncio.run_coroutine_threadsafe(turn(served, seconds), loop).result()

    with _client.test_mode(_client.TestMode(URL, key, tmp_path / "state", served.wire(), served.clock, pause)):
        return Bank(Client(), served.chain.give, pause)


def in_thread(use: Callable[[], None]) -> "asyncio.Future[None]":
    return asyncio.ensure_future(asyncio.to_thread(use))


async def test_money_goes_in_and_comes_out_after_a_day(bank: Bank) -> None:
    client = bank.client

    def use() -> None:
        bank.give(client.address, 10_000_000)
        plan = client.plan_deposit("7.50")
        assert plan.opens
        account = plan.start()
        assert (account.balance_usd_micros, account.outside_usd_micros) == (7_500_000, 2_500_000)
        assert account.owner == client.address

        asked = client.withdraw("3")
        assert (asked.balance_usd_micros, asked.withdrawing_usd_micros) == (4_500_000, 3_000_000)
        assert 0 < asked.withdrawal_at_s - asked.chain_time_s <= DAY_S
        bank.pass_time(DAY_S - 60)
        assert client.account().outside_usd_micros == 2_500_000
        for _ in range(5):
            bank.pass_time(60)

        account = client.account()
        assert (account.balance_usd_micros, account.outside_usd_micros) == (4_500_000, 5_500_000)
        assert account.withdrawal_at_s == 0
        kinds = [(one.kind, one.amount_usd_micros) for one in client.history()]
        assert kinds == [
            ("withdrawal", 3_000_000), ("withdrawal_asked", 3_000_000), ("deposit", 7_500_000), ("opened", 0),
        ]  # fmt: skip

    await in_thread(use)


async def test_an_open_account_is_not_opened_again(bank: Bank) -> None:
    def use() -> None:
        bank.give(bank.client.address, 10_000_000)
        bank.client.deposit(2)
        plan = bank.client.plan_deposit(3)
        assert not plan.opens
        assert plan.start().balance_usd_micros == 5_000_000

    await in_thread(use)


async def test_a_withdrawal_is_taken_back(bank: Bank) -> None:
    def use() -> None:
        bank.give(bank.client.address, 10_000_000)
        bank.client.deposit(10)
        assert bank.client.withdraw().withdrawing_usd_micros == 10_000_000
        account = bank.client.cancel_withdrawal()
        assert (account.balance_usd_micros, account.withdrawal_at_s) == (10_000_000, 0)
        bank.pass_time(2 * DAY_S)
        assert bank.client.account().balance_usd_micros == 10_000_000
        assert next(bank.client.history()).kind == "withdrawal_cancelled"

    await in_thread(use)


async def test_another_owner_can_be_named_and_alone_withdraw(bank: Bank) -> None:
    owner = Account.create().address

    def use() -> None:
        bank.give(bank.client.address, 10_000_000)
        assert bank.client.deposit(2, owner=owner).owner == owner
        with pytest.raises(gm.NotAllowed, match=owner):
            bank.client.withdraw(1)
        with pytest.raises(gm.Conflict, match="its owner is"):
            bank.client.plan_deposit(2, owner=bank.client.address)

    await in_thread(use)


async def test_what_can_not_be_is_refused_with_what_to_do(bank: Bank) -> None:
    client = bank.client

    def use() -> None:
        with pytest.raises(gm.BadRequest, match=rf"holds 0\.00 USD.*Send 5\.00 USD more to {client.address}"):
            client.plan_deposit(5)
        with pytest.raises(gm.BadRequest, match="Deposit at least 1"):
            client.plan_deposit("0.50")
        for amount in (0, "x", "-1", "1.0000001"):
            with pytest.raises(gm.BadRequest):
                client.plan_deposit(amount)
        with pytest.raises(gm.Conflict, match="not open"):
            client.withdraw(1)
        bank.give(client.address, 2_000_000)
        client.deposit(2)
        with pytest.raises(gm.BadRequest, match="holds 2"):
            client.withdraw(3)
        with pytest.raises(gm.Conflict, match="no withdrawal"):
            client.cancel_withdrawal()
        with pytest.raises(gm.Conflict, match="no withdrawal"):
            client.money.pay_out()

    await in_thread(use)


async def test_history_comes_page_by_page(bank: Bank) -> None:
    def use() -> None:
        bank.give(bank.client.address, 100_000_000)
        for _ in range(3):
            bank.client.deposit(1)
        desk = bank.client.money._desk
        first = desk.history("", 3)
        assert first.before
        second = desk.history(first.before, 3)
        assert [one.kind for one in (*first.movements, *second.movements)] == ["deposit"] * 3 + ["opened"]
        assert second.before is None

    await in_thread(use)
