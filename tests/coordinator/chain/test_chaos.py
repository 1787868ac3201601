"""200 jobs are paid while the node dies and forgets, transactions are dropped and the chain reorganises."""

import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.evm import Anvil, Evm, have_anvil, open_market
from fakes.held import hold_job, job
from fakes.world import World
from gristmill_contracts import anvil
from gristmill_contracts.node import connect
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import reconcile, sender, watcher
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.stages import settlement
from gristmill_coordinator.store.tables import jobs, transactions
from gristmill_protocol.jobs import StatementLine
from gristmill_protocol.money import split_line

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.chain, pytest.mark.timeout(240)]

JOBS = 200
RENTERS = 5
BALANCE = 1_000_000_000
TURNS = 120


@dataclass
class Chaos:
    """A coordinator that has jobs to pay, on a node that a test may kill; a turn is a block and a few seconds."""

    world: World
    node: Anvil
    evm: Evm
    renters: list[LocalAccount]
    payees: list[int]
    job_ids: list[str]
    up: bool = True

    @property
    def co(self) -> Coordinator:
        chain = EvmChain.connect(self.evm.rpc_url, self.evm.deployment, self.evm.operator)
        return replace(self.world.co, chain=chain)

    async def turn(self) -> None:
        if self.up:
            anvil.mine(self.evm.w3)
        self.world.clock.now_s += 4
        co = self.co
        for step in (settlement.step, sender.step, watcher.step):
            await step(co)

    async def until_paid(self) -> None:
        for _ in range(TURNS):
            async with self.world.co.store.read() as tx:
                paid = sa.select(sa.func.count()).where(jobs.c.reason == JobReason.DONE)
                open_ = sa.select(sa.func.count()).where(transactions.c.outcome == "")
                if (await tx.value(paid), await tx.value(open_)) == (JOBS, 0):
                    return
            await self.turn()
        raise AssertionError("they are not all paid")

    async def drop_all(self) -> None:
        """Have the node forget what waits for a block."""
        async with self.world.co.store.read() as tx:
            rows = await tx.rows(sa.select(transactions.c.sends).where(transactions.c.outcome == ""))
        for row in rows:
            for send in row.sends:
                anvil.drop(self.evm.w3, send["hash"])

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.node.stop(number)
        self.up = False

    def start(self) -> None:
        self.node.start()
        self.up = True


@pytest.fixture
async def chaos(tmp_path: Path, require: Callable[[bool, str], None]) -> AsyncIterator[Chaos]:
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    node = Anvil(tmp_path / "chain.json")
    try:
        chaos = await begin(tmp_path, node)
        yield chaos
        await chaos.world.stop()
    finally:
        node.stop(signal.SIGKILL)


async def begin(folder: Path, node: Anvil) -> Chaos:
    anvil.set_automine(connect(node.rpc_url), True)
    evm = open_market(node.rpc_url)
    renters = [Account.from_key(f"0x{number + 1:064x}") for number in range(RENTERS)]
    for renter in renters:
        evm.open_account(renter, BALANCE)
    payees = [evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address))) for _ in range(3)]
    anvil.set_automine(evm.w3, False)
    config = Config(data_dir=folder, confirmations=4, resend_tx_s=30, batch=25, batch_gas=300_000)
    world = World(folder, f"sqlite+aiosqlite:///{folder / 'coordinator.db'}", config)
    await world.start()
    made = Chaos(world, node, evm, renters, payees, [])
    for number in range(JOBS):
        made.job_ids.append(await hold_job(made.co, renters[number % RENTERS], line(made, number), nonce=number))
    return made


def line(chaos: Chaos, number: int) -> StatementLine:
    """What a job pays: another sum each time, to one provider or the other."""
    return StatementLine(
        provider=chaos.payees[number % 2],
        verifier=chaos.payees[2],
        recipe=chaos.evm.deployment.recipes["image-sorter"],
        amount_usd_micros=1_000_003 + 7_919 * number,
    )


async def test_every_job_is_paid_exactly_once(chaos: Chaos) -> None:
    await turns(chaos, 2)
    await chaos.drop_all()
    await turns(chaos, 2)
    anvil.reorganise(chaos.evm.w3, 3)
    await turns(chaos, 1)
    chaos.stop()
    await turns(chaos, 2)
    await chaos.world.start()  # the coordinator dies as well
    chaos.start()
    await turns(chaos, 4)
    await chaos.drop_all()
    anvil.reorganise(chaos.evm.w3, 3)

    await chaos.until_paid()

    await require_exact(chaos)


async def test_what_a_crash_takes_from_the_chain_after_it_was_final_is_paid_again(chaos: Chaos) -> None:
    """The node loses more blocks than the confirmations that we wait for: jobs are done, and their payments gone."""
    await turns(chaos, 3)
    chaos.stop()
    chaos.start()
    await turns(chaos, 8)
    chaos.stop(signal.SIGKILL)
    await turns(chaos, 1)
    chaos.start()

    await chaos.until_paid()

    await require_exact(chaos)


async def turns(chaos: Chaos, count: int) -> None:
    for _ in range(count):
        await chaos.turn()


async def require_exact(chaos: Chaos) -> None:
    """The chain itself has paid each nonce once, and everybody has exactly what is due; our rows say the same."""
    lines = [line(chaos, number) for number in range(JOBS)]
    ledger = chaos.evm.ledger
    logs = ledger.contract.events.StatementSettled().get_logs(from_block=0)
    paid = sorted((log["args"]["nonce"], log["args"]["total"]) for log in logs)
    assert paid == [(number, one.amount_usd_micros) for number, one in enumerate(lines)]
    splits = [split_line(one.amount_usd_micros, verifier_bps=200, royalty_bps=300) for one in lines]
    for at, payee in enumerate(chaos.payees[:2]):
        assert ledger.payee(payee).credit_usd_micros == sum(split.provider for split in splits[at::2])
    assert ledger.payee(chaos.payees[2]).credit_usd_micros == sum(split.verifier for split in splits)
    assert ledger.payee(0).credit_usd_micros == sum(split.treasury for split in splits)
    for at, renter in enumerate(chaos.renters):
        spent = sum(one.amount_usd_micros for one in lines[at::RENTERS])
        assert ledger.account(renter.address).balance_usd_micros == BALANCE - spent
    for job_id, one in zip(chaos.job_ids, lines, strict=True):
        row = await job(chaos.world.co, job_id)
        assert (row.reason, row.paid_usd_micros) == (JobReason.DONE, one.amount_usd_micros)
    books = await reconcile.compare(chaos.co)
    assert books is not None
    assert (books.accounts, books.payments, list(books.differences)) == (RENTERS, JOBS, [])
