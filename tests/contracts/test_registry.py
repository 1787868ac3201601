"""Referees' seats, locks and the guard of the Registry through its bindings, on a real EVM."""

import pytest
from eth_account import Account

from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import pass_time
from gristmill_contracts.ledger import Award
from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Seat, Stake
from gristmill_contracts.roles import Authority, Held, Role
from gristmill_protocol.errors import Conflict

pytestmark = [pytest.mark.chain, pytest.mark.slow]

BOND = 20_000_000


@pytest.fixture
def provider(evm: Evm) -> Sender:
    sender = evm.sender()
    evm.relayer.run(evm.token.mint(sender.address, BOND))
    return sender


@pytest.fixture
def id_(evm: Evm, provider: Sender) -> int:
    return onboarding.register_provider(provider, evm.deployment, node_key=provider.address, bond_usd_micros=BOND)


def test_a_referee_takes_a_seat_and_leaves_it(evm: Evm, provider: Sender, id_: int) -> None:
    enlisted = provider.run(evm.registry.enlist(id_))

    seats = evm.registry.seats()
    assert Seat(id_, enlisted["blockNumber"]) in seats
    provider.run(evm.registry.resign(id_))
    assert evm.registry.seats()[[seat.provider for seat in seats].index(id_)] == Seat(0, 0)


def test_stake_stays_while_it_is_locked(evm: Evm, provider: Sender, id_: int) -> None:
    locker = evm.sender()
    evm.relayer.run(Authority(evm.w3, evm.deployment.manager).grant(Held(Role.LOCKER, locker.address, 0)))
    locker.run(evm.registry.lock(id_, 5))
    provider.run(evm.registry.request_unbonding(id_, BOND))
    pass_time(evm.w3, 14 * 24 * 3600)

    assert evm.registry.stake(id_).locked_usd_micros == 5
    with pytest.raises(Conflict, match="DisputesOpen"):
        provider.run(evm.registry.withdraw(id_))
    locker.run(evm.registry.unlock(id_, 5))
    provider.run(evm.registry.withdraw(id_))

    assert evm.registry.stake(id_) == Stake(0, 0, 0, 0)
    assert evm.token.balance_usd_micros(provider.address) == BOND


def test_a_slash_goes_to_whom_it_names(evm: Evm, id_: int) -> None:
    renter, authority = Account.create(), Authority(evm.w3, evm.deployment.manager)
    evm.open_account(renter, 1)
    slash = evm.registry.slash(id_, [Award(renter.address, 7)], b"e" * 32)
    with pytest.raises(Conflict, match="AccessManagedUnauthorized"):
        evm.relayer.run(slash)

    evm.relayer.run(authority.grant(Held(Role.SLASHER, evm.relayer.address, 0)))
    evm.relayer.run(slash)
    evm.relayer.run(authority.revoke(Role.SLASHER, evm.relayer.address))

    assert evm.ledger.account(renter.address).balance_usd_micros == 8
    assert evm.registry.stake_of(id_) == BOND - 7


def test_the_guard_stops_bonds_and_the_admin_sets_the_least(evm: Evm, provider: Sender, id_: int) -> None:
    least = evm.registry.minimum_bond_usd_micros()

    evm.relayer.run(evm.registry.set_paused(True))
    assert evm.registry.paused()
    with pytest.raises(Conflict, match="Paused"):
        provider.run(evm.registry.bond(id_, 0))
    evm.relayer.run(evm.registry.set_paused(False))
    assert not evm.registry.paused()
    evm.relayer.run(evm.registry.set_minimum_bond(BOND + 1))
    assert not evm.registry.is_active(id_)
    evm.relayer.run(evm.registry.set_minimum_bond(least))
    assert evm.registry.is_active(id_)
