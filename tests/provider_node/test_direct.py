"""A provider whose coordinator is gone: what its journal holds is settled on a real chain by the command it types."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from typer.testing import CliRunner, Result

from fakes.evm import Evm, evm_market, have_anvil
from fakes.provider_side import (
    MARKET,
    OPERATOR,
    RENTER,
    ScriptedCoordinator,
    lease,
    payable,
    reserved,
    signed_order,
    spec,
    statement,
    task,
)
from gristmill_contracts.anvil import give_gas, pass_time
from gristmill_contracts.node import Sender
from gristmill_protocol.jobs import SignedStatement
from gristmill_protocol.keystore import create_key, load_key
from gristmill_protocol.money import split_line
from gristmill_protocol.signing import Domain
from gristmill_provider.cli import app
from gristmill_provider.config import CoordinatorConfig, NodeConfig
from gristmill_provider.exit_codes import ExitCode
from gristmill_provider.journal import JOURNAL, Journal
from gristmill_provider.owner import Market
from gristmill_provider.payables import Lease

pytestmark = [pytest.mark.chain, pytest.mark.slow]
DAY_S = 86_400
CAP = 600_000


@pytest.fixture(scope="module")
def evm(require: Callable[[bool, str], None]) -> Iterator[Evm]:
    """One chain for all tests here; its clock only moves on, each test brings its own keys."""
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as market:
        yield market


@dataclass(frozen=True)
class Job:
    """A job under one nonce, and the rungs that its coordinator releases, as (our share, others' share)."""

    number: int
    renter: LocalAccount
    rungs: tuple[tuple[int, int], ...]

    @property
    def share(self) -> int:
        return self.rungs[-1][0]


@dataclass(frozen=True)
class Owner:
    """A provider on the chain, with its node's files."""

    evm: Evm
    provider: int
    other: int  # another provider's payee id, also the verifier of every line
    config: NodeConfig
    deadline_s: int

    @property
    def market(self) -> Market:
        deployed = self.evm.deployment
        ledger = Domain.ledger(deployed.chain_id, deployed.ledger)
        registry = Domain.registry(deployed.chain_id, deployed.registry)
        return Market(ledger, registry, deployed.coordinator_id, self.evm.operator.address)

    @property
    def paid(self) -> int:
        """What its payout address holds."""
        return self.evm.token.balance_usd_micros(self.evm.ledger.payee(self.provider).payout)

    def net(self, job: Job) -> int:
        terms = self.evm.ledger.recipe(self.recipe)
        return split_line(job.share, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps).provider

    @property
    def recipe(self) -> int:
        return self.evm.deployment.recipes["image-sorter"]

    def lease(self, job: Job) -> Any:
        of = spec(name=f"job {job.number}")
        order = signed_order(
            of, renter=job.renter, market=self.market, coordinator=self.market.coordinator, nonce=job.number,
            cap_usd_micros=CAP, deadline_s=self.deadline_s,
        )  # fmt: skip
        wanted = task(f"attempt_{job.number}", job_id=f"job_{job.number}")
        return lease(wanted, of=of, order=order, promise=self.promise(job, 0))

    def promise(self, job: Job, accepted: int) -> Any:
        return reserved(
            renter=job.renter, market=self.market, operator=self.evm.operator, provider=self.provider,
            nonce=job.number, cap_usd_micros=CAP, accepted_usd_micros=accepted,
            forced_from_s=self.deadline_s - 2 * DAY_S,
        )  # fmt: skip

    def payables(self, job: Job) -> list[Any]:
        """What the coordinator tells the node of the job, rung by rung."""
        told = []
        for ours, others in job.rungs:
            lines = [(self.provider, ours), *([(self.other, others)] if others else [])]
            paying = statement(
                *lines, renter=job.renter, market=self.market, recipe=self.recipe, verifier=self.other,
                nonce=job.number, deadline_s=self.deadline_s,
            )  # fmt: skip
            told.append(payable(paying, self.promise(job, ours), f"attempt_{job.number}"))
        return told

    def wrote(self, *jobs: Job) -> None:
        """Fill its journal without running the node."""
        with Journal(self.config.state_dir / JOURNAL) as journal:
            journal.payables.meet(self.market)
            for job in jobs:
                promise = self.promise(job, 0)
                journal.payables.expect(
                    Lease(self.market.ledger, f"job_{job.number}", f"attempt_{job.number}", self.deadline_s, promise)
                )
                for told in self.payables(job):
                    journal.payables.take(told, self.market)


@pytest.fixture
def owner(evm: Evm, config: NodeConfig) -> Owner:
    """A provider with a bond, whose node's key has gas."""
    key = load_key(config.keystore, "secret")
    give_gas(evm.w3, key.address)
    provider = evm.add_provider(node_key=key.address)
    other = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))
    deadline_s = evm.w3.eth.get_block("latest")["timestamp"] + 6 * DAY_S
    return Owner(evm, provider, other, config.model_copy(update={"provider_id": provider}), deadline_s)


def funded(evm: Evm, balance_usd_micros: int = 100_000_000) -> LocalAccount:
    renter: LocalAccount = Account.create()
    evm.open_account(renter, balance_usd_micros)
    return renter


def command(config: NodeConfig, *arguments: str) -> list[str]:
    """The arguments of gristmill-node, with the configuration written to a file."""
    values = {
        "name": config.name,
        "coordinator": config.coordinator,
        "coordinator_url": config.coordinator_url,
        "keystore": str(config.keystore),
        "password_file": str(config.password_file),
        "provider_id": config.provider_id,
        "ask_usd_per_gpu_hour": config.ask_usd_per_gpu_hour,
        "backend": "process",
        "own_renters": [RENTER.address],
        "state_dir": str(config.state_dir),
    }
    file = config.keystore.with_name("node.toml")
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for other in config.more_coordinators:
        further = other.model_dump(mode="json", exclude_none=True)
        lines += ["[[more_coordinators]]", *(f"{name} = {json.dumps(value)}" for name, value in further.items())]
    file.write_text("\n".join(lines))
    return [arguments[0], "--config", str(file), *arguments[1:]]


def run(config: NodeConfig, *arguments: str) -> Result:
    ended = CliRunner().invoke(app, command(config, *arguments))
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def settle(owner: Owner, *arguments: str) -> Result:
    return run(owner.config, "settle", "--direct", "--rpc", owner.evm.rpc_url, "--yes", *arguments)


def settle_as_typed(owner: Owner) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which shares nothing with the node but its files."""
    line = command(owner.config, "settle", "--direct", "--rpc", owner.evm.rpc_url, "--yes")
    return subprocess.run(
        [sys.executable, "-m", "gristmill_provider", *line], check=False, capture_output=True, text=True
    )


def earnings(owner: Owner) -> dict[str, int]:
    found: dict[str, int] = json.loads(run(owner.config, "earnings", "--rpc", owner.evm.rpc_url, "--json").stdout)
    return found


@asynccontextmanager
async def working(owner: Owner, running: Callable[..., Any], *jobs: Job) -> AsyncIterator[None]:
    """A real node that has done these jobs for a coordinator, which is gone when the block begins."""
    coordinator = ScriptedCoordinator(owner.config.coordinator, owner.market)
    await coordinator.start()
    renters = tuple(job.renter.address for job in jobs)
    async with running(owner.config.model_copy(update={"own_renters": renters})):
        for job in jobs:
            coordinator.say(lease=owner.lease(job))
            await coordinator.expect_state("FINISHED", f"attempt_{job.number}")
            for told in owner.payables(job):
                coordinator.say(payable=told)
        coordinator.say(lease=owner.lease(jobs[0]))  # answered after what was said before it
        await coordinator.expect("lease_reply", len(jobs) + 1)
        await coordinator.stop()
        yield


async def test_a_provider_collects_every_cent_without_its_coordinator(
    evm: Evm, owner: Owner, running: Callable[..., Any]
) -> None:
    first = Job(1, funded(evm), ((33_333, 0), (99_999, 0), (99_999, 77_777)))
    second = Job(2, funded(evm), ((123_457, 0),))
    owed = owner.net(first) + owner.net(second)

    async with working(owner, running, first, second):
        early = await asyncio.to_thread(settle_as_typed, owner)  # the node holds its journal meanwhile
    assert early.returncode == ExitCode.STOPPED
    assert early.stdout.count("too early") == 2
    assert "job_1: The coordinator has until" in early.stdout
    assert owner.paid == 0

    pass_time(evm.w3, 4 * DAY_S)
    assert earnings(owner)["pending_usd_micros"] == owed
    ended = settle_as_typed(owner)
    assert ended.returncode == ExitCode.STOPPED, ended.stdout + ended.stderr
    assert owner.paid == owed
    assert evm.ledger.settled_total(first.renter.address, 1) == 99_999 + 77_777

    again = settle_as_typed(owner)
    assert again.returncode == ExitCode.STOPPED
    assert "Nothing is owed" in again.stdout
    assert owner.paid == owed
    assert earnings(owner) == {
        "provider_id": owner.provider,
        "jobs": 0,
        "pending_gross_usd_micros": 0,
        "pending_usd_micros": 0,
        "earned_usd_micros": owed,
        "collected_usd_micros": owed,
        "credit_usd_micros": 0,
        "bonded_usd_micros": 100_000_000,
    }


def test_a_verifiers_part_of_a_statement_is_counted(evm: Evm, owner: Owner) -> None:
    job = Job(3, funded(evm), ((50_000, 0),))
    owner.wrote(job)
    swapped = Owner(evm, owner.other, owner.provider, owner.config, owner.deadline_s)
    terms = evm.ledger.recipe(owner.recipe)
    split = split_line(50_000, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps)
    pass_time(evm.w3, 4 * DAY_S)

    settle(owner)

    assert evm.ledger.payee(swapped.provider).credit_usd_micros == split.verifier
    assert owner.paid == split.provider


def test_any_key_may_pay_for_gas(evm: Evm, owner: Owner, tmp_path: Path) -> None:
    job = Job(4, funded(evm), ((50_000, 0),))
    owner.wrote(job)
    (tmp_path / "gas-password").write_text("gas")
    payer = create_key(tmp_path / "gas.json", "gas", rounds=1)
    files = ("--key", str(tmp_path / "gas.json"), "--password-file", str(tmp_path / "gas-password"))
    pass_time(evm.w3, 4 * DAY_S)

    poor = settle(owner, *files)
    assert poor.exit_code == ExitCode.CHAIN
    assert "Check that this address has enough to pay for gas" in poor.stderr
    (tmp_path / "gas-password").write_text("guessed")
    locked = settle(owner, *files)
    assert locked.exit_code == ExitCode.KEY
    assert "cannot be opened. Nothing was signed. Check the password" in locked.stderr
    assert owner.paid == 0

    (tmp_path / "gas-password").write_text("gas")
    give_gas(evm.w3, payer.address)
    assert settle(owner, *files).exit_code == ExitCode.STOPPED
    assert owner.paid == owner.net(job)


def test_what_the_balance_does_not_cover_is_explained(evm: Evm, owner: Owner) -> None:
    renter = funded(evm, 100_000)
    first, second = Job(5, renter, ((60_000, 0),)), Job(6, renter, ((60_000, 0),))
    owner.wrote(first, second)
    pass_time(evm.w3, 4 * DAY_S)

    ended = settle(owner)

    assert ended.exit_code == ExitCode.UNSETTLED
    assert "job_6: The renter's account holds 0.04 of the 0.06 USD." in ended.stdout
    assert "Cover.claimUnfunded" in ended.stdout
    assert owner.paid == owner.net(first)
    assert earnings(owner)["pending_usd_micros"] == owner.net(second)


def test_what_is_paid_already_is_not_sent_again(evm: Evm, owner: Owner) -> None:
    paid, less = Job(7, funded(evm), ((60_000, 0),)), Job(8, funded(evm), ((60_000, 0),))
    owner.wrote(paid, less)
    short = Job(8, less.renter, ((20_000, 0),))
    statements = [
        SignedStatement.model_validate_json(owner.payables(one)[-1].signed_statement_json) for one in (paid, short)
    ]
    Sender(evm.w3, evm.operator).run(evm.ledger.settle(evm.deployment.coordinator_id, statements))

    ended = settle(owner)

    assert ended.exit_code == ExitCode.UNSETTLED
    assert "job_8: Only 0.02 of the 0.06 USD were settled" in ended.stdout
    assert "Settled" not in ended.stdout
    assert owner.paid == owner.net(paid) + owner.net(short)
    assert "job_7" not in settle(owner).stdout


def test_a_promise_of_the_wrong_key_is_refused_by_the_contract(evm: Evm, owner: Owner) -> None:
    liar = replace(owner, evm=replace(evm, operator=Account.create()))
    liar.wrote(Job(11, funded(evm), ((60_000, 0),)))
    pass_time(evm.w3, 4 * DAY_S)

    ended = settle(owner)

    assert ended.exit_code == ExitCode.UNSETTLED
    assert f"job_11: The contract refused: NotSignedBy(expected={evm.operator.address.lower()}" in ended.stdout
    assert owner.paid == 0


def test_nothing_is_sent_after_the_deadline(evm: Evm, owner: Owner) -> None:
    owner.wrote(Job(9, funded(evm), ((60_000, 0),)))
    pass_time(evm.w3, 7 * DAY_S)

    ended = settle(owner)

    assert ended.exit_code == ExitCode.STOPPED
    assert "job_9: Its deadline passed at" in ended.stdout
    assert owner.paid == 0


def test_nothing_is_sent_unasked(evm: Evm, owner: Owner) -> None:
    owner.wrote(Job(10, funded(evm), ((60_000, 0),)))
    pass_time(evm.w3, 4 * DAY_S)

    unasked = run(owner.config, "settle", "--direct", "--rpc", evm.rpc_url)

    assert unasked.exit_code == ExitCode.USAGE
    assert "Nobody is there to ask: Settle 1 of them and collect" in unasked.stderr
    assert "Add --yes." in unasked.stderr
    assert owner.paid == 0


def test_another_chain_is_recognised(evm: Evm, owner: Owner) -> None:
    meets_chain(owner, 1)
    other = settle(owner)
    with Journal(owner.config.state_dir / JOURNAL) as journal:
        journal.payables.meet(MARKET)
    bare = run(owner.config, "earnings", "--rpc", evm.rpc_url)

    assert other.exit_code == bare.exit_code == ExitCode.CHAIN
    assert "is on chain 31337, and this machine worked on chain 1. Nothing was sent." in other.stderr
    assert f"knows no contract at {MARKET.ledger.contract}" in bare.stderr


def test_one_coordinators_trouble_keeps_back_nothing_of_anothers(evm: Evm, owner: Owner) -> None:
    whole, (elsewhere, poor, good) = at_several(owner, "poor.example:1", "good.example:1")
    meets_chain(elsewhere, 1)
    poor.wrote(Job(12, funded(evm, 10_000), ((60_000, 0),)))
    good.wrote(job := Job(13, funded(evm), ((60_000, 0),)))
    pass_time(evm.w3, 4 * DAY_S)

    ended = settle(whole)

    assert owner.paid == owner.net(job)
    assert ended.exit_code == ExitCode.UNSETTLED
    assert (
        f"skipped: The first card at {owner.config.coordinator}: The node at {evm.rpc_url} is on chain 31337"
        in ended.stderr
    )
    assert "error: The first card at poor.example:1: Some of what is owed was not paid." in ended.stderr
    assert "There was trouble with 1 of 3." in ended.stderr


@pytest.mark.parametrize("command", [("settle", "--direct", "--yes"), ("earnings", "--json")])
def test_a_coordinator_on_another_chain_is_no_trouble_unless_all_are(
    evm: Evm, owner: Owner, command: tuple[str, ...]
) -> None:
    whole, (elsewhere, here) = at_several(owner, "good.example:1")
    meets_chain(elsewhere, 1)
    here.wrote()
    some = run(whole.config, *command, "--rpc", evm.rpc_url)
    (here.config.state_dir / JOURNAL).unlink()
    meets_chain(here, 2)
    none = run(whole.config, *command, "--rpc", evm.rpc_url)

    assert (some.exit_code, none.exit_code) == (ExitCode.STOPPED, ExitCode.CHAIN)
    assert "with --rpc" in some.stderr
    assert "There was trouble with 2 of 2." in none.stderr


def at_several(owner: Owner, *coordinators: str) -> tuple[Owner, list[Owner]]:
    """The owner with further coordinators, and as the node of each."""
    further = tuple(
        CoordinatorConfig(coordinator=one, coordinator_url="https://x.example", provider_id=owner.provider)
        for one in coordinators
    )
    whole = owner.config.model_copy(update={"more_coordinators": further})
    return replace(owner, config=whole), [replace(owner, config=node) for node in whole.nodes()]


def meets_chain(owner: Owner, chain_id: int) -> None:
    elsewhere = Market(Domain.ledger(chain_id, MARKET.ledger.contract), MARKET.registry, 1, OPERATOR.address)
    with Journal(owner.config.state_dir / JOURNAL) as journal:
        journal.payables.meet(elsewhere)


def test_nothing_owed_is_said(evm: Evm, owner: Owner) -> None:
    with Journal(owner.config.state_dir / JOURNAL):
        pass
    stranger = settle(owner)
    owner.wrote()
    idle = settle(owner)

    assert stranger.exit_code == idle.exit_code == ExitCode.STOPPED
    assert stranger.stdout == "Nothing is owed: this node has not met a coordinator yet.\n"
    assert idle.stdout == "Nothing is owed: no accepted work of this node waits for payment.\n"
