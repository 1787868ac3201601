"""Disputes through their bindings, on a real EVM."""

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import give_gas
from gristmill_contracts.collectors import PermitCollector
from gristmill_contracts.disputes import Outcome, Phase
from gristmill_contracts.node import Sender
from gristmill_protocol.consents import permit_deposit
from gristmill_protocol.signing import RECEIPT_TYPE, sign, struct_hash

pytestmark = [pytest.mark.chain, pytest.mark.slow]


def test_a_conceded_dispute_pays_the_renter(evm: Evm) -> None:
    renter, node, provider, challenger = Account.create(), Account.create(), evm.sender(), evm.sender()
    give_gas(evm.w3, node.address)
    evm.open_account(renter, 1)
    for party in (provider, challenger):
        evm.relayer.run(evm.token.mint(party.address, 60_000_000))
    id_ = onboarding.register_provider(provider, evm.deployment, node_key=node.address, bond_usd_micros=50_000_000)
    finder = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(challenger.address)))
    challenger.run(evm.token.approve(evm.disputes.address, evm.disputes.bond_usd_micros(20_000_000)))
    record = {"attempt": b"a" * 32, "number": 1, "steps": 5, "gpuMs": 7}
    opened = challenger.run(
        evm.disputes.open(
            challenger=finder,
            provider=id_,
            renter=renter.address,
            amount_usd_micros=20_000_000,
            evidence=struct_hash(RECEIPT_TYPE, record),
            signature=sign(node, evm.registry.domain(), RECEIPT_TYPE, record),
        )
    )
    dispute = evm.disputes.opened_id(opened)
    assert evm.disputes.dispute(dispute).phase == Phase.ANSWERING

    Sender(evm.w3, node).run(evm.disputes.concede(dispute))

    closed = evm.disputes.dispute(dispute)
    assert (closed.phase, closed.outcome, closed.referees) == (Phase.CLOSED, Outcome.CONCEDED, ())
    assert evm.ledger.account(renter.address).balance_usd_micros == 10_000_001
    assert evm.registry.stake_of(id_) == 30_000_000


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
