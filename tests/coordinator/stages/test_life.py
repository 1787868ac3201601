"""Whole lives of jobs, through every stage, with scripted machines."""

from functools import partial

import pytest
import sqlalchemy as sa

from fakes.machine import honest, lazy
from fakes.world import World
from gristmill_coordinator import accounts, views
from gristmill_coordinator.stages import intake, settlement
from gristmill_coordinator.store.tables import standings
from gristmill_protocol.incidents import Incident
from gristmill_protocol.jobs import AttemptState, JobState, WindowState
from gristmill_protocol.money import FEE_BPS

pytestmark = pytest.mark.slow


async def test_an_honest_job_is_run_checked_and_paid(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000)
    oak = await world.add_machine("oak", ask=200_000)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert view.steps_accepted == view.steps_total
    assert [one.state for one in view.attempts] == [AttemptState.FINISHED]
    assert {one.state for one in view.windows} == {WindowState.PAID}
    assert view.bill is not None
    assert view.bill.paid_usd_micros == submitted.price_usd_micros
    assert world.chain.credits[willow.provider] == view.bill.provider_usd_micros
    assert world.chain.credits[oak.provider] == view.bill.verifier_usd_micros
    assert view.bill.treasury_usd_micros == submitted.price_usd_micros * FEE_BPS // 10_000
    assert view.scorecard == {"accuracy": 0.97}
    assert await world.co.store.allowed(view.outputs["model.bin"].sha256, f"renter:{world.renter_key}")
    await world.tick()
    assert willow.released == [view.attempts[0].attempt_id]


async def test_a_cheat_is_slashed_and_another_machine_finishes(world: World) -> None:
    cheat = await world.add_machine("cheat", ask=50_000, train=lazy)
    willow = await world.add_machine("willow", ask=60_000)
    oak = await world.add_machine("oak", ask=60_000)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert [one.provider for one in view.attempts] == [cheat.provider, view.attempts[-1].provider]
    assert view.attempts[-1].provider in (willow.provider, oak.provider)
    assert [one.state for one in view.windows] == [WindowState.VOID, WindowState.PAID]
    assert [one.provider for one in view.slashes] == [cheat.provider]
    assert cheat.provider not in world.chain.credits
    assert world.chain.slashes == [(cheat.provider, 100_000_000)]


async def test_a_wrong_verifier_hurts_nobody_but_itself(world: World) -> None:
    willow = await world.add_machine("willow", ask=50_000)
    wrong = await world.add_machine("wrong", ask=900_000, verify=lazy)
    others = [await world.add_machine(name, ask=800_000) for name in ("oak", "elm")]
    submitted = await world.submit()

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert view.slashes == ()
    assert world.chain.credits[willow.provider] > 0
    assert wrong.provider not in world.chain.credits
    if wrong.audits_done:
        assert any(world.chain.credits.get(one.provider, 0) > 0 for one in others)


async def test_work_that_nobody_can_reproduce_is_not_paid_and_not_slashed(world: World) -> None:
    await world.add_machine("willow", ask=50_000, train=lazy)
    await world.add_machine("oak", ask=900_000)
    await world.add_machine("elm", ask=900_000, verify=lambda state, step: honest(state + b"!", step))
    submitted = await world.submit()

    await world.until_event(submitted.job_id, "cannot be reproduced")

    assert world.chain.slashes == []
    assert world.chain.credits == {}


async def test_a_job_that_repeats_nowhere_fails_and_says_why(world: World) -> None:
    for name, ask in (("willow", 50_000), ("oak", 60_000), ("elm", 70_000)):
        odd = partial(differently, name.encode())
        await world.add_machine(name, ask=ask, train=odd, verify=odd)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.FAILED
    assert "does not repeat bit for bit" in view.reason
    assert (view.slashes, view.disputes, view.bill) == ((), (), None)


def differently(salt: bytes, state: bytes, step: int) -> bytes:
    return honest(state + salt, step)


async def test_a_lost_machine_is_replaced_from_the_last_verified_step(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, dies_after=10)
    oak = await world.add_machine("oak", ask=120_000)
    elm = await world.add_machine("elm", ask=140_000)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert [one.state for one in view.attempts] == [AttemptState.LOST, AttemptState.FINISHED]
    assert view.attempts[1].step_from == 20
    assert view.attempts[1].provider == oak.provider
    assert view.bill is not None
    assert submitted.price_usd_micros < view.bill.paid_usd_micros <= submitted.cap_usd_micros
    paid = {provider for provider, credit in world.chain.credits.items() if credit}
    assert {willow.provider, oak.provider} <= paid <= {0, 2, willow.provider, oak.provider, elm.provider}


async def test_an_owner_who_returns_is_paid_for_what_is_proven(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, leaves_after=7)
    await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert [one.state for one in view.attempts] == [AttemptState.YIELDED, AttemptState.FINISHED]
    assert world.chain.credits[willow.provider] > 0
    assert view.slashes == ()


async def test_an_owner_who_returns_loses_no_standing(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, leaves_after=7)
    await world.add_machine("oak", ask=120_000)
    first = await world.finish((await world.submit()).job_id)

    async with world.co.store.read() as tx:
        standing = await tx.row(sa.select(standings).where(standings.c.provider == willow.provider))
    again = await world.until_steps((await world.submit(request_id="request-2")).job_id, 1)

    assert first.attempts[0].state is AttemptState.YIELDED
    assert standing is not None
    assert (standing.clean_windows, standing.frauds) == (1, 0)
    assert again.attempts[0].provider == willow.provider


async def test_what_happened_to_a_machine_is_told_to_the_renter(world: World) -> None:
    xid = Incident(kind="xid", at_s=1_700_000_000, text="The graphics driver reported error Xid 79.")
    await world.add_machine("willow", ask=100_000, leaves_after=7, incidents=(xid,))
    await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()

    await world.finish(submitted.job_id)

    told = [event.text for event in await views.events(world.co, world.renter_key, submitted.job_id, 0)]
    assert told.count("The machine of provider 'willow': The graphics driver reported error Xid 79.") == 1


async def test_a_machine_that_declines_is_not_asked_again_at_once(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, accepts=False)
    oak = await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert [one.provider for one in view.attempts] == [willow.provider, oak.provider]
    assert view.attempts[0].reason == "Its owner is gaming."


async def test_a_job_the_renter_broke_fails_without_a_charge(world: World) -> None:
    await world.add_machine("willow", fails_with="Row 3 has no label.")
    await world.add_machine("oak")
    submitted = await world.submit()

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.FAILED
    assert "Row 3 has no label." in view.reason
    assert len(view.attempts) == 1
    assert view.bill is None
    assert world.chain.credits == {}
    assert (await accounts.account(world.co, world.renter_key)).reserved_usd_micros == 0


async def test_a_stopped_job_pays_for_the_verified_part_only(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 5)

    await intake.stop(world.co, world.renter_key, submitted.job_id)
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.STOPPED
    assert [one.state for one in view.attempts] == [AttemptState.YIELDED]
    assert 0 < view.steps_accepted < view.steps_total
    assert view.bill is not None
    assert 0 < view.bill.paid_usd_micros < submitted.price_usd_micros
    assert view.outputs == {}
    assert world.chain.credits[willow.provider] == view.bill.provider_usd_micros


async def test_a_job_that_is_stopped_before_it_starts_costs_nothing(world: World) -> None:
    await world.add_machine("willow")
    await world.add_machine("oak")
    submitted = await world.submit()

    await intake.stop(world.co, world.renter_key, submitted.job_id)
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.STOPPED
    assert view.attempts == ()
    assert view.bill is None


async def test_a_second_move_asks_the_renter_to_sign_and_keeps_the_result_until_then(world: World) -> None:
    await world.add_machine("willow", ask=100_000, dies_after=5)
    await world.add_machine("oak", ask=110_000, dies_after=5)
    await world.add_machine("elm", ask=115_000)
    await world.add_machine("ash", ask=900_000)
    submitted = await world.submit()

    view = await world.until_wanted(submitted.job_id)

    assert view.state is JobState.SETTLING
    assert view.signature_wanted is not None
    assert view.outputs == {}
    signed = world.sign(view.signature_wanted)
    await settlement.add_statement(world.co, world.renter_key, submitted.job_id, signed)
    await settlement.add_statement(world.co, world.renter_key, submitted.job_id, signed)
    done = await world.finish(submitted.job_id)
    assert done.state is JobState.DONE
    assert done.bill is not None
    assert done.bill.paid_usd_micros == view.signature_wanted.total_usd_micros <= submitted.cap_usd_micros
    assert set(done.outputs) == {"model.bin"}


async def test_a_renter_who_is_gone_pays_what_the_ladder_covers(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, dies_after=5)
    await world.add_machine("oak", ask=110_000, dies_after=5)
    await world.add_machine("elm", ask=115_000)
    await world.add_machine("ash", ask=900_000)
    submitted = await world.submit()
    wanted = (await world.until_wanted(submitted.job_id)).signature_wanted

    world.clock.now_s += world.config.signature_grace_s + 1
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert wanted is not None
    assert view.bill is not None
    assert 0 < view.bill.paid_usd_micros < wanted.total_usd_micros
    assert world.chain.credits[willow.provider] > 0


@pytest.mark.parametrize("serves", [True, False])
async def test_states_that_were_not_uploaded_are_asked_for(world: World, serves: bool) -> None:
    willow = await world.add_machine("willow", ask=50_000, uploads=False, serves_states=serves)
    await world.add_machine("oak", ask=900_000)
    await world.add_machine("elm", ask=900_000)
    submitted = await world.submit()

    if serves:
        view = await world.finish(submitted.job_id)
        assert [one.state for one in view.windows] == [WindowState.PAID]
        assert len(view.attempts) == 1
    else:
        await world.until_event(submitted.job_id, "conceded")
        assert willow.provider not in world.chain.credits
        assert world.chain.slashes == [(willow.provider, 5_000_000)]


async def test_a_job_without_any_verifier_waits_and_says_why(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    oak = await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 20)
    await oak.vanish(world.co)

    for _ in range(60):
        await world.tick()

    view = await views.job(world.co, world.renter_key, submitted.job_id)
    assert view.state is JobState.CHECKING
    assert [one.reason for one in view.windows] == ["It waits for another owner's machine that can check it."]
    oak.silent = False
    assert (await world.finish(submitted.job_id)).state is JobState.DONE


async def test_a_poor_account_is_paid_from_when_it_is_filled_again(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    world.chain.open_account(world.renter.address, 1)

    await world.until_event(submitted.job_id, "balance is too low")

    world.chain.open_account(world.renter.address, 1_000_000)
    view = await world.finish(submitted.job_id)
    assert view.state is JobState.DONE
    account = await world.chain.account(world.renter.address)
    assert account.balance_usd_micros == 1_000_000 - submitted.price_usd_micros


async def test_work_goes_on_while_the_chain_is_away(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    world.chain.reachable = False

    await world.until_steps(submitted.job_id, 25)
    for _ in range(20):
        await world.tick()

    assert (await views.job(world.co, world.renter_key, submitted.job_id)).state is JobState.CHECKING
    world.chain.reachable = True
    assert (await world.finish(submitted.job_id)).state is JobState.DONE


async def test_nobody_is_lost_because_of_our_outage(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 5)

    world.clock.now_s += 3_600
    await world.start()
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert [one.state for one in view.attempts] == [AttemptState.FINISHED]


async def test_a_node_has_time_to_find_back_to_a_restarted_coordinator(world: World) -> None:
    willow = await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 5)

    await world.start()
    world.machines.pop("willow")
    for _ in range(30):  # the longest pause between two tries of a node
        await world.tick()
    world.machines["willow"] = willow
    view = await world.finish(submitted.job_id)

    assert [one.state for one in view.attempts] == [AttemptState.FINISHED]


async def test_a_node_that_never_finds_back_is_lost(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    await world.add_machine("birch", ask=950_000)
    submitted = await world.submit()
    await world.until_steps(submitted.job_id, 5)

    await world.start()
    world.machines.pop("willow")
    view = await world.finish_signing(submitted.job_id)

    assert [one.state for one in view.attempts] == [AttemptState.LOST, AttemptState.FINISHED]


async def test_one_verifiers_word_alone_takes_no_bond(world: World) -> None:
    await world.add_machine("cheat", ask=50_000, train=lazy)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()

    await world.until_event(submitted.job_id, "did not match")
    for _ in range(10):  # the other drawn segments are answered
        await world.tick()
    world.clock.now_s += world.config.audit_timeout_s
    await world.until_event(submitted.job_id, "no second one to confirm it")

    assert world.chain.slashes == []
    view = await world.job(submitted.job_id)
    assert (view.steps_accepted, view.slashes, view.state.ended) == (0, (), False)
