"""Disputes from the accusation to the end: conceded, unanswered, contested and found either way, undecided."""

import json

import pytest

from fakes.machine import Machine, honest, lazy
from fakes.world import World
from gristmill_coordinator import views
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.jobs import DisputeView, JobState

pytestmark = pytest.mark.slow

BONDED = 100_000_000
STAKE = 10_000_000  # of it in question for a fraud
BOND = 1_000_000
DAY_S = 86_400


async def accused(world: World, pleads: str = "concede") -> tuple[Machine, str]:
    """A cheat that is found out, and its job."""
    cheat = await world.add_machine("cheat", ask=50_000, train=lazy, pleads=pleads)
    await world.add_machine("willow", ask=60_000)
    await world.add_machine("oak", ask=60_000)
    submitted = await world.submit(await world.spec(settings={"rounds": 1}))
    await world.until_event(submitted.job_id, "is challenged on chain")
    return cheat, submitted.job_id


async def closed(world: World, job_id: str) -> DisputeView:
    for _ in range(40):
        [dispute] = (await world.job(job_id)).disputes
        if dispute.closed:
            return dispute
        await world.tick()
    raise AssertionError(f"still open: {dispute.course}")


async def story(world: World, job_id: str) -> list[str]:
    return [line.text for line in await views.events(world.co, world.renter_key, job_id, 0)]


async def test_who_concedes_loses_the_stake_in_question(world: World) -> None:
    cheat, job_id = await accused(world)
    before = (await world.chain.account(world.renter.address)).balance_usd_micros

    dispute = await closed(world, job_id)

    assert "conceded and lost 10.00 USD of its bond; 5.00 USD of it went to your account" in dispute.course
    assert world.chain.slashes == [(cheat.provider, STAKE)]
    assert (await world.chain.account(world.renter.address)).balance_usd_micros - before == STAKE // 2
    assert world.chain.credits[world.chain.info.challenger_payee] == BOND + STAKE * 15 // 100


async def test_the_accused_is_told_what_shows_the_fault(world: World) -> None:
    cheat, job_id = await accused(world, pleads="")
    await world.tick(61)  # it is told again, in case it did not hear

    await world.tick()

    first, *_, last = cheat.accusations
    assert first == last
    opened = world.chain.state.disputes[first.dispute_id]
    assert sha256_json(json.loads(first.documents_json)) == opened.evidence
    assert (first.amount_usd_micros, first.answer_by_s) == (STAKE, opened.deadline_s)
    assert first.attempt_id == (await world.job(job_id)).attempts[0].attempt_id


async def test_who_is_silent_for_a_day_loses_as_well(world: World) -> None:
    cheat, job_id = await accused(world, pleads="")
    assert (await world.finish(job_id)).state is JobState.DONE  # the job does not wait for it
    assert world.chain.slashes == []

    world.clock.now_s += DAY_S
    dispute = await closed(world, job_id)

    assert "did not answer in time" in dispute.course
    assert world.chain.slashes == [(cheat.provider, STAKE)]


async def test_the_accused_keeps_its_states_and_gets_no_work_meanwhile(world: World) -> None:
    cheat, _ = await accused(world, pleads="")

    cheat.cut()  # it connects again: its stake is locked, whatever its bond says
    await world.tick()

    offer = world.co.book.get(cheat.node_id)
    assert offer is not None
    assert offer.bonded_usd_micros == 0
    assert cheat.released == []


async def test_drawn_machines_run_it_blindly_and_rule_by_what_comes_out(world: World) -> None:
    cheat, job_id = await accused(world, pleads="answer")
    other = await world.add_machine("alder", ask=900_000, verify=lambda state, step: honest(state + b"!", step))
    judges = [await world.add_machine(name, ask=900_000) for name in ("rowan", "hazel")]
    world.chain.state.seats += [one.provider for one in (other, *judges)]

    dispute = await closed(world, job_id)

    assert "was found guilty" in dispute.course
    assert world.chain.slashes == [(cheat.provider, STAKE)]
    assert world.chain.credits[world.chain.info.challenger_payee] == BOND + BOND // 2 + STAKE * 15 // 100
    assert world.chain.state.disputes[1].guilty == tuple(one.provider for one in judges)
    assert any("differ after it" in line for line in await story(world, job_id))
    assert other.hearings[1] != judges[0].hearings[1]  # it agrees with nobody, and says nothing


async def test_referees_clear_what_two_verifiers_framed(world: World) -> None:
    accused_ = await world.add_machine("willow", ask=50_000, pleads="answer")
    await world.add_machine("oak", ask=60_000, verify=lazy)
    await world.add_machine("elm", ask=60_000, verify=lazy)
    job_id = (await world.submit(await world.spec(settings={"rounds": 1}))).job_id
    await world.until_event(job_id, "is challenged on chain")
    judges = [await world.add_machine(name, ask=900_000) for name in ("rowan", "hazel", "alder")]
    world.chain.state.seats += [one.provider for one in judges]

    dispute = await closed(world, job_id)

    assert "no fault" in dispute.course
    assert world.chain.slashes == []
    assert world.chain.credits[accused_.provider] == BOND + BOND // 2
    offer = world.co.book.get(accused_.node_id)  # and it is welcome again
    assert offer is not None
    assert (offer.bonded_usd_micros, offer.banned_until_s) == (BONDED, 0.0)


async def test_without_referees_or_arbiter_nobody_loses(world: World) -> None:
    cheat, job_id = await accused(world, pleads="answer")

    await world.until_event(job_id, "an arbiter may")
    world.clock.now_s += 3 * DAY_S
    dispute = await closed(world, job_id)

    assert "Nobody decided" in dispute.course
    assert world.chain.slashes == []
    assert world.chain.credits[cheat.provider] == world.chain.credits[world.chain.info.challenger_payee] == BOND


async def test_a_dispute_waits_for_the_operators_bond_and_collects_it(world: World) -> None:
    us, operator = world.chain.info.challenger_payee, world.chain.operator.address.lower()
    world.chain.state.tokens[operator] = 0
    await world.add_machine("cheat", ask=50_000, train=lazy)
    await world.add_machine("willow", ask=60_000)
    await world.add_machine("oak", ask=60_000)
    job_id = (await world.submit(await world.spec(settings={"rounds": 1}))).job_id
    await world.finish(job_id)
    [waiting] = (await world.job(job_id)).disputes
    assert "once the coordinator can post its bond" in waiting.course

    world.chain.state.credits[us] = BOND
    world.clock.now_s += 600

    assert (await closed(world, job_id)).tx is not None
    assert world.chain.slashes[0][1] == STAKE


async def test_withholding_states_twice_is_fraud(world: World) -> None:
    await world.add_machine("willow", ask=50_000, uploads=False, serves_states=False)
    await world.add_machine("oak", ask=900_000)
    await world.add_machine("elm", ask=900_000)
    first = await world.submit()
    await closed_after(world, first.job_id)
    assert [amount for _, amount in world.chain.slashes] == [STAKE // 20]

    second = await world.submit(request_id="request-2")
    await closed_after(world, second.job_id)

    assert [amount for _, amount in world.chain.slashes] == [STAKE // 20, STAKE]


async def test_a_state_that_nobody_can_start_from_is_the_providers_fault(world: World) -> None:
    """Else it would be a way out: verifiers can't run a faked segment whose start is garbage."""
    await world.add_machine("cheat", ask=50_000, train=lazy, spoils=True)
    honest = [await world.add_machine(name, ask=900_000) for name in ("oak", "elm")]
    job_id = (await world.submit()).job_id

    await closed_after(world, job_id)

    window = (await world.job(job_id)).windows[0]
    assert "is not the one that the record names" in window.reason
    assert [amount for _, amount in world.chain.slashes] == [STAKE // 20]
    offers = [world.co.book.get(one.node_id) for one in honest]
    assert all(offer is not None and offer.refused_s == 0 for offer in offers)


async def closed_after(world: World, job_id: str) -> DisputeView:
    await world.until_event(job_id, "is challenged on chain")
    return await closed(world, job_id)
