"""Disputes on a real chain, as the node and its owner speak in them."""

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from eth_account import Account
from typer.testing import CliRunner

from fakes.evm import Evm, evm_market, have_anvil
from fakes.provider_side import RENTER
from gristmill_contracts.anvil import give_gas
from gristmill_contracts.disputes import Dispute, Outcome, Phase
from gristmill_contracts.node import Sender
from gristmill_protocol.errors import BadRequest, Conflict
from gristmill_protocol.keystore import load_key
from gristmill_protocol.progress import Replayed
from gristmill_protocol.signing import RECEIPT_TYPE, Domain, sign, struct_hash
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.accusations import Accusation, Hearing
from gristmill_provider.cli import app
from gristmill_provider.config import CoordinatorConfig, NodeConfig
from gristmill_provider.exit_codes import ExitCode
from gristmill_provider.journal import JOURNAL, Journal
from gristmill_provider.owner import Market
from gristmill_provider.pleading import plead, rule

pytestmark = [pytest.mark.chain, pytest.mark.slow]

STAKE = 20_000_000
BOND = 2_000_000
STEPS = ("ab" * 32, "cd" * 32)


@pytest.fixture(scope="module")
def evm(require: Callable[[bool, str], None]) -> Iterator[Evm]:
    """One chain for all tests here; each test brings its own keys."""
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    with evm_market() as market:
        yield market


class Accused:
    """A provider that is paid at its node's key, and the dispute of its stake."""

    def __init__(self, evm: Evm, config: NodeConfig) -> None:
        self.evm = evm
        self.key = load_key(config.keystore, "secret")
        give_gas(evm.w3, self.key.address)
        sender = Sender(evm.w3, self.key)
        provider = evm.add_provider(node_key=self.key.address, bonded_usd_micros=STAKE, provider=sender)
        self.config = config.model_copy(
            update={"provider_id": provider, "rpc_url": evm.rpc_url, "disputes": evm.disputes.address}
        )
        self.id = self.challenge(provider)
        self.opened = pb.DisputeOpened(
            dispute_id=self.id,
            disputes=evm.disputes.address,
            attempt_id="attempt_1",
            segment=1,
            reason="Segment 1 comes out differently when it is run again.",
            amount_usd_micros=STAKE,
            answer_by_s=self.dispute.deadline_s,
        )

    @property
    def dispute(self) -> Dispute:
        return self.evm.disputes.dispute(self.id)

    def wrote(self, accusation: Accusation, *, node: int = 0) -> None:
        """The journal of one of its nodes holds this, and the market it is about."""
        evm, chain_id = self.evm, self.evm.w3.eth.chain_id
        ledger, registry = Domain.ledger(chain_id, evm.ledger.address), Domain.registry(chain_id, evm.registry.address)
        with Journal(self.config.nodes()[node].state_dir / JOURNAL) as journal:
            journal.payables.meet(Market(ledger, registry, evm.deployment.coordinator_id, evm.operator.address))
            journal.accusations.take(accusation.opened)
            journal.accusations.write(accusation)

    def types(self, *arguments: str) -> Result:
        file = self.config.keystore.with_name("node.toml")
        values = self.config.model_dump(mode="json", include={
            "name", "coordinator", "coordinator_url", "keystore", "password_file", "provider_id",
            "ask_usd_per_gpu_hour", "backend", "state_dir", "rpc_url", "disputes",
        }) | {"own_renters": [RENTER.address]}  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        for other in self.config.more_coordinators:
            further = other.model_dump(mode="json", exclude_none=True)
            lines += ["[[more_coordinators]]", *(f"{name} = {json.dumps(value)}" for name, value in further.items())]
        file.write_text("\n".join(lines))
        at = 1 if arguments[0] == "disputes" else len(arguments)
        return CliRunner().invoke(app, [*arguments[:at], "--config", str(file), *arguments[at:]])

    def challenge(self, provider: int) -> int:
        """A dispute about work that this one's machine did."""
        evm, challenger, renter = self.evm, self.evm.sender(), Account.create()
        evm.relayer.run(evm.token.mint(challenger.address, BOND))
        evm.open_account(renter, 1_000_000)
        finder = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(challenger.address)))
        challenger.run(evm.token.approve(evm.disputes.address, BOND))
        receipt = {"attempt": b"a" * 32, "number": 1, "steps": 5, "gpuMs": 7}
        opening = evm.disputes.open(
            challenger=finder,
            provider=provider,
            renter=renter.address,
            amount_usd_micros=STAKE,
            evidence=b"e" * 32,
            record=struct_hash(RECEIPT_TYPE, receipt),
            signature=sign(self.key, evm.registry.domain(), RECEIPT_TYPE, receipt),
        )
        return evm.disputes.opened_id(challenger.run(opening))


@pytest.fixture
def accused(evm: Evm, config: NodeConfig) -> Accused:
    return Accused(evm, config)


def test_a_node_that_finds_its_work_wrong_concedes(accused: Accused) -> None:
    said = plead(accused.config, accused.key, Accusation(accused.opened, "wrong", STEPS))

    assert said == "conceded"
    assert accused.dispute.outcome is Outcome.CONCEDED
    with pytest.raises(Conflict, match="waits for no answer: it is closed"):
        plead(accused.config, accused.key, Accusation(accused.opened, "wrong", STEPS))


def test_a_node_that_finds_its_work_right_answers_with_its_bond(accused: Accused) -> None:
    right = Accusation(accused.opened, "right", STEPS)
    with pytest.raises(Conflict, match=r"The bond is 2\.00 USD"):
        plead(accused.config, accused.key, right)
    accused.evm.relayer.run(accused.evm.token.mint(accused.key.address, BOND))

    said = plead(accused.config, accused.key, right)

    assert said == "answered"
    assert (accused.dispute.phase, accused.dispute.answered) == (Phase.RULING, True)


def test_only_the_payout_key_may_speak(accused: Accused) -> None:
    with pytest.raises(BadRequest, match="only that key may speak"):
        plead(accused.config, Account.create(), Accusation(accused.opened, "wrong", STEPS))

    assert accused.dispute.phase is Phase.ANSWERING


@pytest.mark.parametrize(("named", "words"), [(None, "has not said which contract"), ("0x" + "12" * 20, "owner's")])
def test_no_contract_but_the_owners_gets_a_bond(accused: Accused, named: str | None, words: str) -> None:
    config = accused.config.model_copy(update={"disputes": named})

    with pytest.raises(BadRequest, match=words):
        plead(config, accused.key, Accusation(accused.opened, "right", STEPS))

    assert accused.dispute.phase is Phase.ANSWERING


def test_an_owner_sees_its_disputes_and_concedes_one(accused: Accused) -> None:
    accused.wrote(Accusation(accused.opened, "unclear", note="The node has a fault."))

    listed = accused.types("disputes")
    spoke = accused.types("disputes", "concede", str(accused.id), "--yes")

    assert "20.00" in listed.stdout
    assert "Segment 1 comes out differently when it is run again. The node has a fault." in listed.stdout
    assert spoke.exit_code == 0, spoke.output
    assert accused.dispute.outcome is Outcome.CONCEDED
    assert "conceded" in accused.types("disputes").stdout


def test_an_owner_can_only_answer_with_a_re_run(accused: Accused) -> None:
    accused.wrote(Accusation(accused.opened))

    spoke = accused.types("disputes", "answer", str(accused.id), "--yes")

    assert spoke.exit_code == ExitCode.USAGE
    assert "has not run the segment again" in spoke.output
    assert accused.dispute.phase is Phase.ANSWERING


def test_a_number_that_two_contracts_have_is_refused_until_one_is_named(accused: Accused) -> None:
    other = CoordinatorConfig(coordinator="b.example:1", coordinator_url="https://b.example", provider_id=3)
    accused.config = accused.config.model_copy(update={"more_coordinators": (other,)})
    namesake = pb.DisputeOpened()
    namesake.CopyFrom(accused.opened)
    namesake.disputes = "0x" + "d1" * 20
    accused.wrote(Accusation(namesake, "unclear"))
    accused.wrote(Accusation(accused.opened, "unclear"), node=1)

    vague = accused.types("disputes", "concede", str(accused.id), "--yes")
    exact = accused.types("disputes", "concede", str(accused.id), "--contract", accused.opened.disputes, "--yes")

    assert vague.exit_code == ExitCode.USAGE
    assert f"{namesake.disputes} (at {accused.config.coordinator})" in vague.stderr
    assert "Add --contract ADDRESS." in vague.stderr
    assert f"Dispute {accused.id} at b.example:1 is conceded." in exact.stdout
    assert accused.dispute.outcome is Outcome.CONCEDED


def test_a_provider_takes_a_referees_seat_and_leaves_it(evm: Evm, config: NodeConfig) -> None:
    free = Accused(evm, config)
    free.wrote(Accusation(free.opened))

    came = free.types("enlist", "--yes")
    seated = [seat.provider for seat in evm.registry.seats()]
    left = free.types("resign", "--yes")

    assert (came.exit_code, left.exit_code) == (0, 0), came.output + left.output
    assert free.config.provider_id in seated
    assert free.config.provider_id not in [seat.provider for seat in evm.registry.seats()]


def test_a_drawn_referee_rules_once_and_only_over_what_the_dispute_is_about(evm: Evm, config: NodeConfig) -> None:
    judge = Accused(evm, config)
    other = judge.challenge(evm.add_provider(node_key=judge.key.address, bonded_usd_micros=STAKE))
    replayed = Replayed(
        step_from=0, step_to=4, state_root_prev="0" * 64, state_root="0" * 64, data_root="0" * 64, metrics_root="0" * 64
    )
    hearing = Hearing(evm.disputes.address, other, replayed)

    with pytest.raises(BadRequest, match="not what the dispute was opened over"):
        rule(judge.config, judge.key, hearing, "guilty", b"x" * 32)
    rule(judge.config, judge.key, hearing, "guilty", b"e" * 32)  # nobody was drawn yet, so nothing is sent

    assert evm.disputes.dispute(other).phase is Phase.ANSWERING
