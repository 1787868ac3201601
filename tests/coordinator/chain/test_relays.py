"""What others signed is handed in, and refused with the contract's reason, on the chain in memory and on a real one."""

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.chain_worlds import World
from gristmill_coordinator.chain.port import (
    AccountState,
    Call,
    DepositCall,
    Log,
    OpenCall,
    RequestWithdrawalCall,
    WithdrawCall,
)
from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol.consents import authorize_deposit, sign_opening, sign_withdrawal
from gristmill_protocol.errors import Conflict

DAY_S = 86_400


@pytest.fixture
def renter(world: World) -> LocalAccount:
    """A key that holds 10 USD of tokens, no gas, and has no account."""
    key: LocalAccount = Account.create()
    world.give(key.address, 10_000_000)
    return key


async def send(world: World, call: Call) -> list[Log]:
    """Send a call as the operator, in a block of its own; the Ledger's events."""
    chain = world.chain
    fees, gas = await chain.fees(), await chain.estimate(call)
    bid = Bid(2 * fees.base_fee_wei + fees.tip_wei, fees.tip_wei)
    signed = chain.sign(call, nonce=await chain.transaction_count(), gas=gas * 5 // 4, bid=bid)
    assert await chain.send(signed.raw) == ""
    world.mine()
    receipt = await chain.receipt(signed.hash)
    assert receipt is not None
    assert receipt.succeeded
    return [log for log in await chain.logs(receipt.block, receipt.block) if log.contract == "ledger"]


def opening(world: World, key: LocalAccount, owner: str | None = None, signer: LocalAccount | None = None) -> OpenCall:
    info = world.chain.info
    signed = sign_opening(
        signer or key, info.ledger_domain, owner=owner or key.address, coordinator=info.coordinator_id
    )
    return OpenCall(key=key.address, opening=signed)


async def deposit_of(world: World, key: LocalAccount, usd_micros: int, *, into: str | None = None) -> DepositCall:
    by = authorize_deposit(
        key,
        await world.chain.token_domain(),
        world.chain.info.collectors["erc3009"],
        key=key.address,
        amount_usd_micros=usd_micros,
        valid_before_s=world.now_s() + 3600,
    )
    return DepositCall(key=into or key.address, by=by)


def withdrawal(world: World, key: LocalAccount, usd_micros: int, request: int = 0) -> RequestWithdrawalCall:
    signed = sign_withdrawal(
        key, world.chain.info.ledger_domain, key=key.address, amount_usd_micros=usd_micros, request=request
    )
    return RequestWithdrawalCall(signed=signed)


async def test_without_gas_money_goes_in_and_comes_out(world: World, renter: LocalAccount) -> None:
    chain, coordinator = world.chain, world.chain.info.coordinator_id

    [opened] = await send(world, opening(world, renter))
    [deposited] = await send(world, await deposit_of(world, renter, 7_000_000))
    assert await chain.account(renter.address) == AccountState(7_000_000, renter.address, coordinator)
    assert await chain.tokens(renter.address) == 3_000_000
    [asked] = await send(world, withdrawal(world, renter, 5_000_000))
    state = await chain.account(renter.address)
    assert (state.balance_usd_micros, state.withdrawing_usd_micros, state.requests) == (2_000_000, 5_000_000, 1)
    assert state.unlock_at_s == asked.args["unlockAt"]
    with pytest.raises(Conflict, match="StillLocked"):
        await chain.estimate(WithdrawCall(key=renter.address))
    world.pass_time(DAY_S)
    [withdrawn] = await send(world, WithdrawCall(key=renter.address))

    assert await chain.tokens(renter.address) == 8_000_000
    assert await chain.account(renter.address) == AccountState(2_000_000, renter.address, coordinator, requests=1)
    names = [log.name for log in (opened, deposited, asked, withdrawn)]
    assert names == ["AccountOpened", "Deposited", "WithdrawalRequested", "Withdrawn"]
    assert deposited.args == {
        "key": renter.address, "from": chain.info.collectors["erc3009"], "amount": 7_000_000,
    }  # fmt: skip
    assert withdrawn.args == {"key": renter.address, "owner": renter.address, "amount": 5_000_000}


async def test_what_the_contracts_refuse_is_refused_before(world: World, renter: LocalAccount) -> None:
    chain, stranger = world.chain, Account.create()

    with pytest.raises(Conflict, match="NotSignedBy"):
        await chain.estimate(opening(world, renter, signer=stranger))
    with pytest.raises(Conflict, match="NotOpen"):
        await chain.estimate(await deposit_of(world, renter, 1_000_000))
    await send(world, opening(world, renter))
    with pytest.raises(Conflict, match="AlreadyOpen"):
        await chain.estimate(opening(world, renter))
    with pytest.raises(Conflict, match="ERC20InsufficientBalance"):
        await chain.estimate(await deposit_of(world, renter, 11_000_000))
    with pytest.raises(Conflict, match="ERC3009InvalidSignature"):
        await chain.estimate(await deposit_of(world, renter, 1_000_000, into=stranger.address))
    once = await deposit_of(world, renter, 1_000_000)
    await send(world, once)
    with pytest.raises(Conflict, match="ERC3009UsedAuthorization"):
        await chain.estimate(once)
    with pytest.raises(Conflict, match="NotSignedBy"):
        await chain.estimate(withdrawal(world, renter, 1_000_000, request=1))
    with pytest.raises(Conflict, match="NothingPending"):
        await chain.estimate(WithdrawCall(key=renter.address))


async def test_the_owner_and_not_the_key_withdraws(world: World, renter: LocalAccount) -> None:
    owner: LocalAccount = Account.create()
    await send(world, opening(world, renter, owner=owner.address))
    await send(world, await deposit_of(world, renter, 4_000_000))
    by_key = withdrawal(world, renter, 4_000_000)
    by_owner = sign_withdrawal(
        owner, world.chain.info.ledger_domain, key=renter.address, amount_usd_micros=4_000_000, request=0
    )

    with pytest.raises(Conflict, match="NotSignedBy"):
        await world.chain.estimate(by_key)
    await send(world, RequestWithdrawalCall(signed=by_owner))
    world.pass_time(DAY_S)
    await send(world, WithdrawCall(key=renter.address))

    assert await world.chain.tokens(owner.address) == 4_000_000
