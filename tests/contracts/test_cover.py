"""Proofs about settled batches, against the contract that judges them."""

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts.anvil import pass_time
from gristmill_contracts.history import prove, read_batches
from gristmill_contracts.node import Sender
from gristmill_protocol.errors import Conflict, NotFound
from gristmill_protocol.jobs import StatementLine

pytestmark = [pytest.mark.chain, pytest.mark.slow]


def bond(evm: Evm, amount: int) -> None:
    evm.relayer.run(evm.token.mint(evm.relayer.address, amount))
    evm.relayer.run(evm.token.approve(evm.cover.address, amount))
    evm.relayer.run(evm.cover.bond(evm.deployment.coordinator_id, amount))


def test_a_provider_that_was_underpaid_proves_it(evm: Evm) -> None:
    operator = Sender(evm.w3, evm.operator)
    coordinator, recipe = evm.deployment.coordinator_id, evm.deployment.recipes["image-sorter"]
    renter, poor = Account.create(), Account.create()
    evm.open_account(renter, 10_000_000)
    evm.open_account(poor, 1)
    bond(evm, 50_000_000)
    provider = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))
    first = evm.w3.eth.block_number + 1
    promise = evm.sign_reservation(
        renter, 5, provider=provider, cap_usd_micros=3_000_000, accepted_usd_micros=2_000_000
    )
    less = StatementLine(provider=provider, verifier=0, recipe=recipe, amount_usd_micros=500_000)
    batch = [evm.sign_statement(poor, 0, less), evm.sign_statement(renter, 5, less)]
    operator.run(evm.ledger.settle(coordinator, batch))
    operator.run(evm.ledger.settle(coordinator, [evm.sign_statement(renter, 6, less)]))
    recorded = evm.cover.recorded_digest(evm.relayer.run(evm.cover.record()))
    before = evm.ledger.payee(provider).credit_usd_micros

    batches = read_batches(evm.w3, evm.ledger, first, evm.w3.eth.block_number)
    start = evm.ledger.history(first - 1)
    proof = prove(batches, start, recorded, key=renter.address, nonce=5, domain=evm.ledger.domain())
    evm.relayer.run(evm.cover.claim_underpaid(proof, promise))

    assert evm.cover.paid_for(promise) == 1_500_000
    assert evm.cover.is_recorded(recorded)
    assert len(proof.skips) == len(proof.later) == 1
    assert evm.ledger.payee(provider).credit_usd_micros == before + 1_500_000
    with pytest.raises(Conflict, match="NothingDue"):
        evm.relayer.run(evm.cover.claim_underpaid(proof, promise))
    with pytest.raises(NotFound):
        prove(batches, start, recorded, key=poor.address, nonce=0, domain=evm.ledger.domain())


def test_accepted_work_without_a_balance_is_paid_from_the_pledge(evm: Evm) -> None:
    poor = Account.create()
    evm.open_account(poor, 1)
    bond(evm, 10_000)
    provider = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))
    owed = StatementLine(
        provider=provider, verifier=0, recipe=evm.deployment.recipes["image-sorter"], amount_usd_micros=700
    )
    promise = evm.sign_reservation(poor, 1, provider=provider, cap_usd_micros=700, accepted_usd_micros=700)

    evm.relayer.run(evm.cover.claim_unfunded(evm.sign_statement(poor, 1, owed), promise))

    assert evm.ledger.payee(provider).credit_usd_micros == 700


def test_a_bond_leaves_two_weeks_after_it_was_asked_for(evm: Evm) -> None:
    operator, coordinator = Sender(evm.w3, evm.operator), evm.deployment.coordinator_id
    bond(evm, 30_000)
    before, had = evm.cover.bond_of(coordinator), evm.token.balance_usd_micros(operator.address)

    operator.run(evm.cover.request_unbonding(coordinator, 10_000))

    found = evm.cover.bond_of(coordinator)
    assert (found.bonded_usd_micros, found.unbonding_usd_micros) == (before.bonded_usd_micros - 10_000, 10_000)
    assert found.unlock_at_s == evm.now() + 14 * 24 * 3600
    with pytest.raises(Conflict, match="StillLocked"):
        evm.relayer.run(evm.cover.withdraw(coordinator))
    pass_time(evm.w3, 14 * 24 * 3600)
    evm.relayer.run(evm.cover.withdraw(coordinator))
    assert evm.token.balance_usd_micros(operator.address) == had + 10_000
