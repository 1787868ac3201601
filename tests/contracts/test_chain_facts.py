"""What `gristmill verify --rpc` and `gristmill audit verify --rpc` ask is what the contracts on a real chain answer."""

from collections.abc import Iterator

import pytest
from eth_account import Account

from fakes.certified import Certified
from fakes.evm import Evm
from gristmill._chain_facts import ChainFacts
from gristmill_contracts.node import Sender
from gristmill_protocol.certificate import Market
from gristmill_protocol.evidence import Finding
from gristmill_protocol.jobs import StatementLine

pytestmark = [pytest.mark.chain, pytest.mark.slow]

TRUE = Certified()


def marks(found: list[Finding]) -> list[str]:
    return [one.mark for one in found]


@pytest.fixture
def facts(evm: Evm) -> Iterator[ChainFacts]:
    with ChainFacts(evm.rpc_url) as facts:
        yield facts


def test_an_anchor_and_its_beacon_are_found_and_a_later_one_does_not_count(evm: Evm, facts: ChainFacts) -> None:
    operator, root = Sender(evm.w3, evm.operator), Account.create().key
    anchor = evm.registry.anchor(evm.deployment.coordinator_id, bytes(root))
    first = operator.run(anchor)
    second = operator.run(anchor)
    block = evm.w3.eth.get_block(first["blockNumber"] + 1)
    window = TRUE.evidence().model_copy(
        update={
            "anchor_root": bytes(root).hex(),
            "anchor_tx": first["transactionHash"].to_0x_hex(),
            "beacon": bytes(block["mixHash"]).hex(),
        }
    )
    named = {"registry": evm.deployment.registry, "coordinator": evm.deployment.coordinator_id}

    assert marks([*facts.check_anchor(window, **named)]) == ["ok", "ok"]
    again = window.model_copy(update={"anchor_tx": second["transactionHash"].to_0x_hex()})
    assert marks([*facts.check_anchor(again, **named)]) == ["wrong", "ok"]
    other = window.model_copy(update={"anchor_root": "00" * 32})
    assert marks([*facts.check_anchor(other, **named)]) == ["wrong"]


def test_a_payment_and_the_operator_are_found(evm: Evm, facts: ChainFacts) -> None:
    renter = Account.create()
    evm.open_account(renter, 1_000_000)
    provider = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))
    recipe = evm.deployment.recipes["image-sorter"]
    line = StatementLine(provider=provider, verifier=provider, recipe=recipe, amount_usd_micros=1000)
    signed = evm.sign_statement(renter, 3, line)
    paid = Sender(evm.w3, evm.operator).run(evm.ledger.settle(evm.deployment.coordinator_id, [signed]))
    payment = TRUE.predicate().payment
    assert payment.bill is not None
    settled = {"paid_usd_micros": 1000, "settle_tx": paid["transactionHash"].to_0x_hex()}
    payment = payment.model_copy(update={"nonce": 3, "bill": payment.bill.model_copy(update=settled)})
    market = Market(
        chain_id=evm.deployment.chain_id,
        ledger=evm.deployment.ledger,
        registry=evm.deployment.registry,
        coordinator=evm.deployment.coordinator_id,
        operator=evm.operator.address,
    )

    assert marks([*facts.check_market(market), *facts.check_payment(payment, market)]) == ["ok", "ok", "ok"]
    wrong = [*facts.check_payment(payment.model_copy(update={"nonce": 4}), market)]
    wrong += facts.check_market(market.model_copy(update={"operator": renter.address, "chain_id": 1}))
    assert marks(wrong) == ["wrong", "wrong", "wrong"]
