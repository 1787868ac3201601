"""The bindings and the deployed contracts, on a real EVM."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import pass_time
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.ledger import TREASURY, Award
from gristmill_contracts.node import Sender, connect
from gristmill_protocol import money
from gristmill_protocol.consents import sign_withdrawal
from gristmill_protocol.errors import BadSettings, ChainUnavailable, Conflict, NotFound
from gristmill_protocol.jobs import StatementLine

pytestmark = [pytest.mark.chain, pytest.mark.slow]


@pytest.fixture
def renter(evm: Evm) -> LocalAccount:
    """A renter with 100 USD and no gas."""
    key: LocalAccount = Account.create()
    evm.open_account(key, 100_000_000)
    return key


def line(provider: int, verifier: int, recipe: int, amount: int) -> StatementLine:
    return StatementLine(provider=provider, verifier=verifier, recipe=recipe, amount_usd_micros=amount)


def payee(evm: Evm) -> int:
    return evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))


def test_the_contracts_rates_are_those_of_the_protocol(evm: Evm) -> None:
    constants = evm.ledger.contract.functions

    assert constants.FEE_BPS().call() == money.FEE_BPS
    assert constants.MAX_VERIFIER_BPS().call() == money.MAX_VERIFIER_BPS
    assert constants.MAX_ROYALTY_BPS().call() == money.MAX_ROYALTY_BPS


def test_the_contracts_sign_in_the_protocols_domains(evm: Evm) -> None:
    for contract, domain in (
        (evm.ledger.contract, evm.ledger.domain()),
        (evm.registry.contract, evm.registry.domain()),
        (evm.token.contract, evm.token.domain()),
    ):
        _, name, version, chain_id, address, _, _ = contract.functions.eip712Domain().call()

        assert (name, version, chain_id, address) == (domain.name, "1", domain.chain_id, domain.contract)


def test_a_renter_pays_in_without_gas(evm: Evm, renter: LocalAccount) -> None:
    account = evm.ledger.account(renter.address)

    assert account.balance_usd_micros == 100_000_000
    assert (account.owner, account.coordinator) == (renter.address, evm.deployment.coordinator_id)
    assert evm.w3.eth.get_balance(renter.address) == 0


@pytest.mark.parametrize("amount", [1, 99, 10_000, 33_333_333])
def test_a_settled_line_is_split_as_money_py_says(evm: Evm, renter: LocalAccount, amount: int) -> None:
    recipe = evm.deployment.recipes["image-sorter"]
    terms = evm.ledger.recipe(recipe)
    provider, verifier = payee(evm), payee(evm)
    before = {id_: evm.ledger.payee(id_).credit_usd_micros for id_ in (TREASURY, terms.author)}
    statement = evm.sign_statement(renter, 7, line(provider, verifier, recipe, amount))

    Sender(evm.w3, evm.operator).run(evm.ledger.settle(evm.deployment.coordinator_id, [statement]))

    split = money.split_line(amount, verifier_bps=terms.verifier_bps, royalty_bps=terms.royalty_bps)
    assert evm.ledger.payee(provider).credit_usd_micros == split.provider
    assert evm.ledger.payee(verifier).credit_usd_micros == split.verifier
    assert evm.ledger.payee(terms.author).credit_usd_micros == before[terms.author] + split.author
    assert evm.ledger.payee(TREASURY).credit_usd_micros == before[TREASURY] + split.treasury
    assert evm.ledger.settled_total(renter.address, 7) == amount
    assert evm.ledger.settled_total(renter.address, 8) is None


def test_a_provider_settles_under_a_reservation_and_collects(evm: Evm, renter: LocalAccount) -> None:
    provider = evm.sender()
    id_ = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(provider.address)))
    paid = line(id_, TREASURY, evm.deployment.recipes["image-sorter"], 1_000_000)
    statement = evm.sign_statement(renter, 3, paid, deadline_s=evm.now() + 24 * 3600)
    reservation = evm.sign_reservation(renter, 3, provider=id_, cap_usd_micros=1_000_000)

    provider.run(evm.ledger.settle_reserved(statement, reservation))
    evm.relayer.run(evm.ledger.collect(id_))

    assert evm.token.balance_usd_micros(provider.address) == 940_000


def test_a_reserved_statement_waits_until_it_may_be_forced(evm: Evm, renter: LocalAccount) -> None:
    id_ = payee(evm)
    paid = line(id_, TREASURY, evm.deployment.recipes["image-sorter"], 1_000_000)
    statement = evm.sign_statement(renter, 4, paid, deadline_s=evm.now() + 3 * 24 * 3600)
    reservation = evm.sign_reservation(renter, 4, provider=id_, cap_usd_micros=1_000_000, forced_from_s=evm.now() + 60)

    with pytest.raises(Conflict, match="TooEarly"):
        evm.relayer.run(evm.ledger.settle_reserved(statement, reservation))


def test_a_renter_withdraws_by_signature_after_a_day(evm: Evm, renter: LocalAccount) -> None:
    ledger = evm.ledger
    wish = sign_withdrawal(renter, ledger.domain(), key=renter.address, amount_usd_micros=40_000_000, request=0)
    evm.relayer.run(ledger.request_withdrawal_signed(wish))
    with pytest.raises(Conflict, match="StillLocked"):
        evm.relayer.run(ledger.withdraw(renter.address))
    pass_time(evm.w3, 24 * 3600)

    evm.relayer.run(ledger.withdraw(renter.address))

    assert evm.token.balance_usd_micros(renter.address) == 40_000_000
    assert ledger.account(renter.address).balance_usd_micros == 60_000_000


def test_an_owner_asks_for_a_withdrawal_itself(evm: Evm) -> None:
    owner, key = evm.sender(), Account.create()
    onboarding.open_and_fund(evm.relayer, evm.deployment, key, 5_000_000, owner=owner.address)

    owner.run(evm.ledger.request_withdrawal(key.address, 2_000_000))

    assert evm.ledger.account(key.address).pending_usd_micros == 2_000_000


def test_money_is_handed_out_to_accounts_and_payees(evm: Evm, renter: LocalAccount) -> None:
    giver, id_ = evm.sender(), payee(evm)
    evm.relayer.run(evm.token.mint(giver.address, 30))
    giver.run(evm.token.approve(evm.ledger.address, 30))

    giver.run(evm.ledger.award([Award(renter.address, 10), Award(id_, 20)]))

    assert evm.ledger.account(renter.address).balance_usd_micros == 100_000_010
    assert evm.ledger.payee(id_).credit_usd_micros == 20


def test_a_provider_bonds_and_unbonds(evm: Evm) -> None:
    provider, node = evm.sender(), Account.create()
    evm.relayer.run(evm.token.mint(provider.address, 50_000_000))
    id_ = onboarding.register_provider(
        provider, evm.deployment, node_key=node.address, bond_usd_micros=50_000_000, metadata=b"m" * 32
    )
    assert evm.registry.is_active(id_)
    assert (evm.registry.node(id_).key, evm.registry.node(id_).metadata) == (node.address, b"m" * 32)

    provider.run(evm.registry.request_unbonding(id_, 50_000_000 - evm.registry.minimum_bond_usd_micros() + 1))

    assert not evm.registry.is_active(id_)
    with pytest.raises(Conflict, match=rf"StillLocked\(provider={id_}, unlockAt=\d+\)"):
        provider.run(evm.registry.withdraw(id_))
    pass_time(evm.w3, 14 * 24 * 3600)
    provider.run(evm.registry.withdraw(id_))
    assert evm.token.balance_usd_micros(provider.address) == 40_000_001


def test_a_payee_moves_its_payout(evm: Evm) -> None:
    old, new = evm.sender(), Account.create()
    id_ = evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(old.address)))

    old.run(evm.ledger.set_payout(id_, new.address))

    assert evm.ledger.payee(id_).payout == new.address


def test_a_refusal_gives_the_contracts_reason(evm: Evm) -> None:
    stranger = Account.create().address
    giver = evm.sender()
    evm.relayer.run(evm.token.mint(giver.address, 1))
    giver.run(evm.token.approve(evm.ledger.address, 1))

    with pytest.raises(Conflict, match=rf"NotOpen\(key={stranger.lower()}\)") as caught:
        giver.run(evm.ledger.deposit(stranger, 1))

    assert "Nothing was sent" in str(caught.value)


def test_a_key_without_gas_is_told_so(evm: Evm) -> None:
    with pytest.raises(ChainUnavailable, match="pay for gas"):
        Sender(evm.w3, Account.create()).run(evm.ledger.add_coordinator())


def test_a_node_that_is_down_is_reported_in_plain_words(unused_tcp_port: int) -> None:
    w3 = connect(f"http://127.0.0.1:{unused_tcp_port}", timeout_s=1)

    with pytest.raises(ChainUnavailable, match="does not answer"):
        _ = w3.eth.block_number


def test_a_deployment_is_saved_and_loaded(evm: Evm, tmp_path: Path) -> None:
    path = tmp_path / "net" / "deployment.json"
    evm.deployment.save(path)

    assert Deployment.load(path) == evm.deployment
    with pytest.raises(NotFound):
        Deployment.load(tmp_path / "none.json")
    path.write_text("{}")
    with pytest.raises(BadSettings):
        Deployment.load(path)


def test_keys_that_send_at_the_same_time_get_every_transaction_in(evm: Evm) -> None:
    sender = evm.sender()
    payouts = ["0x" + secrets.token_hex(20) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(lambda payout: sender.send(evm.ledger.add_payee(payout)), payouts))

    assert len(set(hashes)) == 8
    assert evm.w3.eth.get_transaction_count(sender.account.address) == 8
