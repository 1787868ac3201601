"""Disputes through their bindings, on a real EVM."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import give_gas, mine, pass_time
from gristmill_contracts.collectors import PermitCollector
from gristmill_contracts.disputes import Outcome, Phase
from gristmill_contracts.node import Sender
from gristmill_protocol.consents import permit_deposit
from gristmill_protocol.errors import Conflict
from gristmill_protocol.signing import RECEIPT_TYPE, sign, struct_hash

pytestmark = [pytest.mark.chain, pytest.mark.slow]


HOUR_S = 3600


@dataclass(frozen=True)
class Case:
    """A provider with 50 USD at stake, somebody who challenges it, and the renter whose job it was."""

    provider: Sender
    machine: LocalAccount
    provider_id: int
    challenger: Sender
    challenger_id: int
    renter: str


@pytest.fixture
def case(evm: Evm) -> Case:
    renter, machine, provider, challenger = Account.create(), Account.create(), evm.sender(), evm.sender()
    give_gas(evm.w3, machine.address)
    evm.open_account(renter, 1)
    for party in (provider, challenger):
        evm.relayer.run(evm.token.mint(party.address, 60_000_000))
        party.run(evm.token.approve(evm.disputes.address, evm.disputes.bond_usd_micros(20_000_000)))
    id_ = onboarding.register_provider(provider, evm.deployment, node_key=machine.address, bond_usd_micros=50_000_000)
    finder = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(challenger.address)))
    return Case(provider, machine, id_, challenger, finder, renter.address)


@pytest.fixture
def referees(evm: Evm) -> Iterator[dict[int, Sender]]:
    """Three, and no more on this chain."""
    enlisted = {}
    for _ in range(3):
        sender = evm.sender()
        evm.relayer.run(evm.token.mint(sender.address, 10_000_000))
        id_ = onboarding.register_provider(sender, evm.deployment, node_key=sender.address, bond_usd_micros=10_000_000)
        sender.run(evm.registry.enlist(id_))
        enlisted[id_] = sender
    yield enlisted
    for id_, sender in enlisted.items():
        sender.run(evm.registry.resign(id_))


def opened(evm: Evm, case: Case) -> int:
    """A dispute about 20 USD of the provider's stake."""
    receipt = {"attempt": b"a" * 32, "number": 1, "steps": 5, "gpuMs": 7}
    call = evm.disputes.open(
        challenger=case.challenger_id,
        provider=case.provider_id,
        renter=case.renter,
        amount_usd_micros=20_000_000,
        evidence=b"e" * 32,
        record=struct_hash(RECEIPT_TYPE, receipt),
        signature=sign(case.machine, evm.registry.domain(), RECEIPT_TYPE, receipt),
    )
    return evm.disputes.opened_id(case.challenger.run(call))


def test_a_conceded_dispute_pays_the_renter(evm: Evm, case: Case) -> None:
    dispute = opened(evm, case)
    assert evm.disputes.dispute(dispute).phase == Phase.ANSWERING

    Sender(evm.w3, case.machine).run(evm.disputes.concede(dispute))

    closed = evm.disputes.dispute(dispute)
    assert (closed.phase, closed.outcome, closed.referees) == (Phase.CLOSED, Outcome.CONCEDED, ())
    assert evm.ledger.account(case.renter).balance_usd_micros == 10_000_001
    assert evm.registry.stake_of(case.provider_id) == 30_000_000


def test_two_of_three_referees_find_guilty(evm: Evm, case: Case, referees: dict[int, Sender]) -> None:
    dispute = opened(evm, case)
    case.provider.run(evm.disputes.answer(dispute, b"s" * 32))
    with pytest.raises(Conflict, match="TooEarly"):
        evm.relayer.run(evm.disputes.draw(dispute))
    mine(evm.w3, 2)  # the named one, and one whose number is greater

    evm.relayer.run(evm.disputes.draw(dispute))
    first, second, third = evm.disputes.dispute(dispute).referees
    referees[first].run(evm.disputes.rule(dispute, referee=first, guilty=True))
    referees[second].run(evm.disputes.rule(dispute, referee=second, guilty=False))
    referees[third].run(evm.disputes.rule(dispute, referee=third, guilty=True))

    closed = evm.disputes.dispute(dispute)
    assert {first, second, third} == referees.keys()
    assert (closed.outcome, closed.guilty, closed.clear) == (Outcome.FOUND_GUILTY, (first, third), (second,))
    assert evm.registry.stake_of(case.provider_id) == 30_000_000
    # A quarter of the provider's bond and 7.5 % of the stake.
    assert evm.ledger.payee(first).credit_usd_micros == 500_000 + 1_500_000


def test_an_arbiter_rules_where_nobody_did(evm: Evm, case: Case) -> None:
    dispute = opened(evm, case)
    case.provider.run(evm.disputes.answer(dispute, b"s" * 32))
    for seats in (3, 5):
        found = evm.disputes.dispute(dispute)
        assert (found.seats, found.phase, found.answered) == (seats, Phase.RULING, True)
        pass_time(evm.w3, 48 * HOUR_S + 1)
        evm.relayer.run(evm.disputes.advance(dispute))
    assert evm.disputes.dispute(dispute).phase == Phase.ARBITRATING

    evm.relayer.run(evm.disputes.arbitrate(dispute, guilty=False))

    assert evm.disputes.dispute(dispute).outcome == Outcome.FOUND_CLEAR
    assert evm.disputes.count() >= dispute
    assert evm.registry.stake_of(case.provider_id) == 50_000_000
    assert evm.ledger.payee(case.provider_id).credit_usd_micros == 2 * 2_000_000


def test_the_guard_stops_new_disputes(evm: Evm, case: Case) -> None:
    evm.relayer.run(evm.disputes.set_paused(True))
    assert evm.disputes.paused()
    with pytest.raises(Conflict, match="Paused"):
        opened(evm, case)

    evm.relayer.run(evm.disputes.set_paused(False))
    assert evm.disputes.dispute(opened(evm, case)).bond_usd_micros == 2_000_000


def test_a_permit_pays_in_without_gas(evm: Evm) -> None:
    renter = Account.create()
    evm.open_account(renter, 5)
    evm.relayer.run(evm.token.mint(renter.address, 1_000))
    collector = PermitCollector(evm.w3, evm.deployment.collectors.permit)
    made = permit_deposit(
        renter,
        evm.token.domain(),
        collector.domain(),
        key=renter.address,
        amount_usd_micros=1_000,
        deadline_s=evm.now() + 3600,
        permit_nonce=evm.token.permit_nonce(renter.address),
        deposit_nonce=collector.nonce(renter.address),
    )

    evm.relayer.run(collector.deposit(renter.address, made))

    assert evm.ledger.account(renter.address).balance_usd_micros == 1_005
    assert evm.w3.eth.get_balance(renter.address) == 0
