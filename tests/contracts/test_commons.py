"""Where fees and gifts go: the fund, the splitter and the royalty pools through their bindings, on a real EVM."""

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts.anvil import pass_time
from gristmill_contracts.commons import CommonsFund, FeeSplitter, Terms
from gristmill_contracts.deploy import COMMONS_BPS
from gristmill_contracts.ledger import TREASURY, Award
from gristmill_contracts.node import Sender
from gristmill_contracts.recipes import NewVersion, Share
from gristmill_contracts.roles import GRANT_DELAY_S, Authority, Held, Role
from gristmill_protocol.errors import Conflict
from gristmill_protocol.jobs import StatementLine

pytestmark = [pytest.mark.chain, pytest.mark.slow]


def payee(evm: Evm) -> int:
    return evm.ledger.added_id(evm.relayer.run(evm.ledger.add_payee(Account.create().address)))


def test_the_commons_give_after_the_granters_delay(evm: Evm) -> None:
    commons, authority = CommonsFund(evm.w3, evm.deployment.commons), Authority(evm.w3, evm.deployment.manager)
    granter, renter = evm.sender(), Account.create()
    evm.open_account(renter, 1)
    evm.relayer.run(evm.token.mint(commons.address, 500))  # a donation
    evm.relayer.run(authority.grant(Held(Role.GRANTER, granter.address, GRANT_DELAY_S)))
    grant = commons.grant([Award(renter.address, 500)], b"w" * 32)

    granter.run(authority.schedule(grant))
    with pytest.raises(Conflict, match="AccessManagerNotReady"):
        granter.run(authority.execute(grant))
    pass_time(evm.w3, GRANT_DELAY_S)
    granter.run(authority.execute(grant))

    assert evm.ledger.account(renter.address).balance_usd_micros == 501
    evm.relayer.run(authority.revoke(Role.GRANTER, granter.address))
    assert granter.address not in {held.account for held in authority.holders()}


def test_the_treasurys_fees_are_split(evm: Evm) -> None:
    splitter = FeeSplitter(evm.w3, evm.deployment.fee_splitter)
    before = splitter.terms()
    evm.relayer.run(evm.token.mint(splitter.address, 1_000))
    held = 1_000 + evm.ledger.payee(TREASURY).credit_usd_micros
    had = [evm.token.balance_usd_micros(who) for who in (evm.deployment.commons, before.maintainers)]

    evm.relayer.run(splitter.split())

    to_commons = held * COMMONS_BPS // 10_000
    assert evm.token.balance_usd_micros(evm.deployment.commons) == had[0] + to_commons
    assert evm.token.balance_usd_micros(before.maintainers) == had[1] + held - to_commons
    new = Terms(Account.create().address, 10_000)
    evm.relayer.run(splitter.set_terms(new))
    assert splitter.terms() == new
    evm.relayer.run(splitter.set_terms(before))


def test_a_royalty_reaches_all_authors_and_the_parent(evm: Evm) -> None:
    renter, author, second, parents = Account.create(), payee(evm), payee(evm), payee(evm)
    evm.open_account(renter, 10_000_000)
    parent = NewVersion(b"p" * 32, 300, 200, (Share(parents, 10_000),), fork_bps=1000)
    parent_id = evm.recipes.published_id(evm.relayer.run(evm.recipes.publish(parent)))
    fork = NewVersion(b"f" * 32, 500, 0, (Share(author, 7500), Share(second, 2500)), parent=parent_id)
    recipe = evm.recipes.published_id(evm.relayer.run(evm.recipes.publish(fork)))
    paid = StatementLine(provider=payee(evm), verifier=0, recipe=recipe, amount_usd_micros=10_000_000)
    statement = evm.sign_statement(renter, 1, paid)
    Sender(evm.w3, evm.operator).run(evm.ledger.settle(evm.deployment.coordinator_id, [statement]))

    evm.relayer.run(evm.recipes.pool(recipe).distribute())
    evm.relayer.run(evm.recipes.pool(parent_id).distribute())

    credits = [evm.ledger.payee(id_).credit_usd_micros for id_ in (author, second, parents)]
    assert credits == [337_500, 112_500, 50_000]
    to_parent = Award(evm.recipes.version(parent_id).payee, 50_000)
    assert evm.recipes.divide(recipe, 500_000) == [Award(author, 337_500), Award(second, 112_500), to_parent]
