"""A provider's way onto a real chain, step by step, wherever it was broken off."""

import subprocess
import threading
from collections.abc import Iterator

import pytest
from conftest import Require
from eth_account import Account

from fakes.evm import Evm, have_anvil, open_market
from gristmill_contracts.anvil import CHAIN_ID, anvil_command, give_gas, listening_at
from gristmill_contracts.deploy import MINIMUM_BOND_USD_MICROS
from gristmill_protocol.api import InfoView
from gristmill_protocol.errors import BadSettings, ChainUnavailable, Unavailable
from gristmill_protocol.money import format_usd
from gristmill_provider.joining import GAS, Enrolment, registration_of

pytestmark = [pytest.mark.chain, pytest.mark.slow]
ELSEWHERE = 8453  # not the id of local chains, where money is made


@pytest.fixture(scope="module")
def evm(require: Require) -> Iterator[Evm]:
    require(have_anvil(), "the EVM node is missing: run `make contracts`")
    command = [str(ELSEWHERE) if word == str(CHAIN_ID) else word for word in anvil_command()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rpc_url = next(address for line in process.stdout if (address := listening_at(line)))
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        yield open_market(rpc_url)
        process.terminate()
        drain.join()


def told(evm: Evm, **changes: object) -> InfoView:
    """What a coordinator says of itself."""
    where = evm.deployment
    return InfoView(
        version="0", url="http://127.0.0.1:1", chain_id=where.chain_id, ledger=where.ledger, registry=where.registry,
        token=where.token, coordinator=where.coordinator_id, recipes={}, max_artifact_bytes=1,
    ).model_copy(update=changes)  # fmt: skip


def begun(evm: Evm) -> Enrolment:
    return Enrolment.begin(evm.rpc_url, Account.create(), told(evm), None)


def endow(evm: Evm, joining: Enrolment) -> None:
    give_gas(evm.w3, joining.sender.address)
    evm.relayer.run(evm.token.mint(joining.sender.address, MINIMUM_BOND_USD_MICROS))


def added(evm: Evm, joining: Enrolment) -> Enrolment:
    return Enrolment(joining.sender, joining.contracts, joining.add())


def test_what_is_missing_is_said_to_the_last_coin(evm: Evm) -> None:
    joining = begun(evm)

    with pytest.raises(Unavailable) as short:
        joining.await_money(print, wait=False)

    said = short.value.what
    assert f"{joining.sender.address} on chain {ELSEWHERE} still needs" in said
    assert f"{format_usd(MINIMUM_BOND_USD_MICROS)} USD for the bond, as the token {evm.deployment.token}" in said
    assert "of the chain's own coin for gas" in said


def test_it_goes_on_by_itself_once_the_money_is_there(evm: Evm, monkeypatch: pytest.MonkeyPatch) -> None:
    joining, said = begun(evm), list[str]()
    monkeypatch.setattr("time.sleep", lambda _: endow(evm, joining))

    joining.await_money(said.append, wait=True)

    assert len(said) == 1
    assert not joining.lack()


def test_a_provider_is_registered_bonded_and_known_by_its_key(evm: Evm) -> None:
    joining = begun(evm)
    endow(evm, joining)
    before = evm.w3.eth.get_balance(joining.sender.address)

    joining = added(evm, joining)
    joining.finish()

    seen = registration_of(evm.rpc_url, joining.contracts, joining.provider_id or 0)
    assert evm.registry.is_active(seen.provider_id)
    assert (seen.node_key, seen.bonded_usd_micros) == (joining.sender.address, seen.minimum_usd_micros)
    spent_wei = before - evm.w3.eth.get_balance(joining.sender.address)
    assert spent_wei < GAS * evm.w3.eth.gas_price


def test_what_was_done_is_not_done_again(evm: Evm) -> None:
    joining = begun(evm)
    endow(evm, joining)
    joining = added(evm, joining)
    joining.finish("")
    sent = evm.w3.eth.get_transaction_count(joining.sender.address)

    again = Enrolment.begin(evm.rpc_url, joining.sender.account, joining.contracts, joining.provider_id)
    assert again.lack().bond_usd_micros == 0
    again.finish("")

    assert evm.w3.eth.get_transaction_count(joining.sender.address) == sent


def test_a_bond_that_was_cut_is_filled_up(evm: Evm) -> None:
    joining = begun(evm)
    endow(evm, joining)
    joining = added(evm, joining)
    joining.finish()
    provider = joining.provider_id or 0
    joining.sender.run(evm.registry.request_unbonding(provider, 1_000_000))

    assert joining.lack().bond_usd_micros == 1_000_000
    evm.relayer.run(evm.token.mint(joining.sender.address, 1_000_000))
    joining.finish()

    assert evm.registry.is_active(provider)


def test_it_is_paid_where_its_owner_says(evm: Evm) -> None:
    purse, joining = Account.create().address, begun(evm)
    endow(evm, joining)
    joining = added(evm, joining)

    joining.finish(purse)
    joining.finish(purse)

    provider = joining.provider_id or 0
    assert evm.ledger.payee(provider).payout == purse
    assert evm.registry.is_active(provider)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"chain_id": 1}, BadSettings, f"is on chain {ELSEWHERE}; the coordinator settles on 1"),
        ({"registry": "0x" + "12" * 20}, ChainUnavailable, "knows no contract"),
    ],
)
def test_another_chain_is_not_touched(evm: Evm, changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Enrolment.begin(evm.rpc_url, Account.create(), told(evm, **changes), None)


def test_a_node_that_is_gone_is_said(evm: Evm) -> None:
    with pytest.raises(ChainUnavailable, match="does not answer"):
        Enrolment.begin("http://127.0.0.1:1", Account.create(), told(evm), None)
