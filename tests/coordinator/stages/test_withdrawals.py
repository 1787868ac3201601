"""Money that leaves an account: what jobs earned is settled before, and the rest is paid after 24 hours."""

import pytest

from fakes import relays
from fakes.world import World
from gristmill_coordinator import accounts, views
from gristmill_coordinator.chain.port import RequestWithdrawalCall
from gristmill_coordinator.stages import relaying
from gristmill_protocol.consents import sign_withdrawal
from gristmill_protocol.jobs import JobState
from gristmill_protocol.wallet import RelayView

pytestmark = pytest.mark.slow

BALANCE = 1_000_000_000
DAY_S = 86_400


async def withdraw(world: World, usd_micros: int) -> RelayView:
    account = await world.chain.account(world.renter.address)
    signed = sign_withdrawal(
        world.renter,
        world.chain.info.ledger_domain,
        key=world.renter.address,
        amount_usd_micros=usd_micros,
        request=account.requests,
    )
    return await relaying.withdraw(world.co, signed)


async def live(world: World, ticks: int, seconds: float = 1.0) -> None:
    for _ in range(ticks):
        await world.tick(seconds)


async def test_a_job_that_the_rest_does_not_cover_is_stopped_and_paid_within_the_day(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=200_000)
    job_id = (await world.submit()).job_id
    await world.until_steps(job_id, 8)
    asked_s = world.clock.now_s

    await withdraw(world, BALANCE)
    view = await world.finish(job_id)

    assert view.state is JobState.STOPPED
    assert 0 < view.steps_accepted < view.steps_total
    assert view.bill is not None
    assert view.bill.paid_usd_micros > 0
    assert world.clock.now_s < asked_s + DAY_S / 2
    story = [line.text for line in await views.events(world.co, world.renter_key, job_id, 0)]
    assert any("You asked to withdraw 1000.00 USD, and what is left does not cover" in line for line in story)
    await live(world, 6, DAY_S / 3)
    assert await world.chain.tokens(world.renter.address) == BALANCE - view.bill.paid_usd_micros
    assert (await world.chain.account(world.renter.address)).balance_usd_micros == 0


async def test_a_job_that_the_rest_covers_runs_on(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=200_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 8)

    await withdraw(world, BALANCE - submitted.cap_usd_micros)
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE


async def test_the_newest_jobs_are_stopped_first(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=200_000)
    older = await world.submit(request_id="request-1")
    world.clock.now_s += 1
    newer = await world.submit(request_id="request-2")
    await live(world, 3)

    await withdraw(world, BALANCE - older.cap_usd_micros - newer.cap_usd_micros // 2)
    await world.finish(newer.job_id)

    assert (await world.job(newer.job_id)).state is JobState.STOPPED
    assert (await world.finish(older.job_id)).state is JobState.DONE


async def test_a_job_of_which_nothing_is_verified_costs_nothing(world: World) -> None:
    willow = await world.add_machine("willow")
    await world.add_machine("oak")
    job_id = (await world.submit()).job_id
    for machine in (willow, world.machines["oak"]):
        await machine.vanish(world.co)

    await withdraw(world, BALANCE)
    view = await world.finish(job_id)

    assert view.reason.startswith("You asked to withdraw")
    assert view.reason.endswith("Nothing was verified before; nothing is charged.")
    assert view.bill is None


async def test_a_withdrawal_that_we_did_not_relay_is_not_ours_to_pay_out(world: World) -> None:
    signed = sign_withdrawal(
        world.renter, world.chain.info.ledger_domain, key=world.renter.address, amount_usd_micros=1_000_000, request=0
    )
    relays.carry_out(world.chain, RequestWithdrawalCall(signed=signed))

    await live(world, 6, DAY_S / 3)

    account = await accounts.account(world.co, world.renter_key)
    assert account.withdrawing_usd_micros == 1_000_000
    assert account.withdrawal_at_s < world.clock.now_s


async def test_a_withdrawal_that_is_taken_back_is_not_paid(world: World) -> None:
    await withdraw(world, 5_000_000)
    await live(world, 4)
    await withdraw(world, 0)

    await live(world, 6, DAY_S / 3)

    assert await world.chain.tokens(world.renter.address) == 0
    kinds = [one.kind for one in (await accounts.history(world.co, world.renter_key, "", 2)).movements]
    assert kinds == ["withdrawal_cancelled", "withdrawal_asked"]
