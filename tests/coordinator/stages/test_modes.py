"""Jobs that are judged as a whole: replicated, or paid by their outcome. Honest machines, and those that cheat."""

from collections.abc import Callable

import pytest

from fakes.machine import CLASS, Machine, honest, lazy
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.stages import intake, metering
from gristmill_protocol.errors import BadRequest, NoOfferFits
from gristmill_protocol.jobs import AttemptState, JobSpec, JobState, WindowState
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.v1 import provider_pb2 as pb

pytestmark = pytest.mark.slow

OTHER_CLASS = bytes(reversed(bytes.fromhex(CLASS)))


def otherwise(by: bytes) -> Callable[[bytes, int], bytes]:
    """A step that comes out differently on this machine."""
    return lambda state, step: honest(state + by, step)


async def owners(world: World, **flags: dict[str, object]) -> list[Machine]:
    """Machines of so many owners, the first the cheapest; every other one of another numeric class."""
    machines = []
    for number, (name, options) in enumerate(flags.items()):
        machine = await world.add_machine(name, ask=100_000 + 10_000 * number, **options)
        if number % 2:
            machine.offer.numeric_class = OTHER_CLASS
            await machine.connect(world.co)
        machines.append(machine)
    return machines


async def outcome(world: World, threshold: int = 900_000, **changes: object) -> JobSpec:
    held_out = await world.upload(b"text,label\nnever seen,a\n")
    return await world.spec(
        settings={"rounds": 1}, mode=Mode.OUTCOME, held_out=held_out, threshold=threshold, **changes
    )


async def story(world: World, job_id: str) -> str:
    return " ".join(event.text for event in await views.events(world.co, world.renter_key, job_id, 0))


# Replicate


async def test_a_script_is_replicated_and_everybody_who_ran_it_is_paid_its_ask(world: World) -> None:
    willow, oak, elm = await owners(world, willow={}, oak={}, elm={})
    submitted = await world.submit(await world.script())

    view = await world.finish(submitted.job_id)

    assert (view.mode, view.guarantee) == (Mode.REPLICATE, GUARANTEES[Mode.REPLICATE])
    assert view.state is JobState.DONE
    assert [one.state for one in view.windows] == [WindowState.PAID]
    assert [(one.why_drawn, one.outcome) for one in view.windows[0].audits] == [("replica", "passed")] * 2
    assert view.bill is not None
    assert view.bill.paid_usd_micros == submitted.price_usd_micros
    for machine in (willow, oak, elm):  # six minutes and the start-up of a quarter of one, at its own ask
        assert world.chain.credits[machine.provider] >= machine.offer.ask_usd_micros_per_gpu_hour * 375 // 3600
    assert view.bill.provider_usd_micros == world.chain.credits[willow.provider]
    assert view.bill.verifier_usd_micros == sum(world.chain.credits[one.provider] for one in (oak, elm))


async def test_the_quote_says_what_is_paid_and_for_how_long(world: World) -> None:
    await owners(world, willow={}, oak={}, elm={}, ash={})

    quote = await intake.quote(world.co, world.renter_key, await world.script())

    assert len(quote.replicas) == 2
    assert quote.price_usd_micros == quote.candidates[0].price_usd_micros + sum(
        one.price_usd_micros for one in quote.replicas
    )
    assert {one.provider for one in quote.replicas}.isdisjoint(one.provider for one in quote.candidates)
    assert "3 owners' machines" in quote.verification
    assert "6 minutes" in quote.verification


async def test_wrong_outputs_are_outvoted_and_the_next_machine_needs_no_new_replicas(world: World) -> None:
    cheat, *others = await owners(world, cheat={"train": lazy}, willow={}, oak={}, elm={})
    submitted = await world.submit(await world.script())

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert [one.state for one in view.windows] == [WindowState.VOID, WindowState.PAID]
    assert "2 of the 3 machines that ran it agree on another result." in view.windows[0].reason
    assert view.attempts[0].provider == cheat.provider
    assert cheat.provider not in world.chain.credits
    assert view.slashes == ()
    assert sum(one.audits_done for one in others) == 2
    assert {one.provider for one in others} <= set(world.chain.credits)


async def test_a_wrong_replica_is_not_paid(world: World) -> None:
    willow, wrong, oak = await owners(world, willow={}, wrong={"verify": lazy}, oak={})
    submitted = await world.submit(await world.script())

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert sorted(one.outcome for one in view.windows[0].audits) == ["mismatch", "passed"]
    assert wrong.provider not in world.chain.credits
    assert {willow.provider, oak.provider} <= set(world.chain.credits)
    assert view.bill is not None
    assert view.bill.paid_usd_micros < submitted.price_usd_micros


async def test_a_colluding_minority_gets_nothing(world: World) -> None:
    bad = {"train": lazy, "verify": lazy}
    machines = await owners(world, cheat=bad, friend=bad, willow={}, oak={}, elm={}, ash={}, fir={})
    cheat, friend, *good = machines
    submitted = await world.submit(await world.script(replicas=5))

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert not {cheat.provider, friend.provider} & set(world.chain.credits)
    assert view.attempts[-1].provider in {one.provider for one in good}
    assert len([one for one in good if one.provider in world.chain.credits]) >= 3


async def test_without_a_majority_nobody_is_paid_and_nobody_is_slashed(world: World) -> None:
    await owners(world, willow={}, oak={"verify": otherwise(b"!")}, elm={"verify": otherwise(b"?")})
    submitted = await world.submit(await world.script())

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.FAILED
    assert "not reproducible" in view.reason
    assert "gristmill lint" in view.reason
    assert len(view.attempts) == 1
    assert world.chain.credits == {}
    assert view.slashes == ()


async def test_a_replica_that_is_gone_is_replaced_by_one_that_is_not_dearer(world: World) -> None:
    machines = await owners(world, willow={}, oak={}, elm={})
    submitted = await world.submit(await world.script())
    await world.add_machine("dear", ask=900_000)
    await machines[2].vanish(world.co)
    ash = await world.add_machine("ash", ask=90_000)

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert ash.provider in world.chain.credits
    assert world.machines["dear"].audits_done == 0


async def test_two_of_three_decide_when_nobody_else_can_run_it(world: World) -> None:
    world.config = world.config.model_copy(update={"retry_node_s": 0.0})
    await world.start()
    willow, oak, _ = await owners(world, willow={}, oak={}, elm={"checks": False})
    submitted = await world.submit(await world.script())

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.DONE
    assert sorted(one.outcome for one in view.windows[0].audits) == ["passed", "unserved"]
    assert {willow.provider, oak.provider} == {payee for payee, credit in world.chain.credits.items() if credit} - {0}


async def test_too_few_owners_is_said_before_anything_is_paid(world: World) -> None:
    await owners(world, willow={}, oak={})

    with pytest.raises(NoOfferFits, match="It takes machines of 3 owners; those of 2 can do this job now"):
        await intake.quote(world.co, world.renter_key, await world.script())


async def test_what_a_script_says_meanwhile_is_shown_now_and_then(world: World) -> None:
    willow, *_ = await owners(world, willow={}, oak={}, elm={})
    job_id = (await world.submit(await world.script())).job_id
    await world.until_event(job_id, "is asked to run it")
    attempt_id = (await world.job(job_id)).attempts[0].attempt_id
    for number in range(20):
        world.clock.now_s += 1.5
        said = pb.Progress(attempt_id=attempt_id, step=0, metrics_json=f'{{"loss": {number}}}')
        await metering.progress_reported(world.co, willow.node_id, said)

    lines = [one.text for one in await views.events(world.co, world.renter_key, job_id, 0) if one.kind == "progress"]
    assert lines == [f"loss {number}" for number in range(0, 20, 2)]


# Outcome


async def test_a_model_that_is_good_enough_is_paid_without_a_replay_and_its_provider_saw_nothing_hidden(
    world: World,
) -> None:
    willow, *_ = await owners(world, willow={}, oak={}, elm={})
    spec = await outcome(world)
    submitted = await world.submit(spec)

    view = await world.finish(submitted.job_id)

    assert (view.mode, view.guarantee) == (Mode.OUTCOME, GUARANTEES[Mode.OUTCOME])
    assert view.state is JobState.DONE
    assert [(one.why_drawn, one.outcome) for one in view.windows[0].audits] == [("measurement", "passed")] * 2
    assert view.bill is not None
    assert view.bill.paid_usd_micros == submitted.price_usd_micros
    assert world.chain.credits[willow.provider] == view.bill.provider_usd_micros
    assert spec.held_out is not None
    assert not await world.co.store.allowed(spec.held_out.sha256, f"node:{willow.node_id}")


async def test_who_never_trained_fails_the_hidden_examples_and_another_machine_does_the_job(world: World) -> None:
    cheat, *_ = await owners(world, cheat={"train": lazy}, willow={}, oak={}, elm={})
    submitted = await world.submit(await outcome(world))

    view = await world.finish_signing(submitted.job_id)

    assert view.windows[0].reason == "It gets 20 % of the hidden examples right; 90 % was asked for."
    assert cheat.provider not in world.chain.credits
    assert view.slashes == ()
    assert view.state is JobState.DONE


async def test_a_threshold_that_two_owners_miss_ends_the_job_with_the_number(world: World) -> None:
    await owners(world, willow={}, oak={}, elm={}, ash={})
    submitted = await world.submit(await outcome(world, threshold=935_000))

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.FAILED
    assert "It gets 93 % of the hidden examples right; 93.5 % was asked for." in view.reason
    assert len(view.attempts) == 2
    assert world.chain.credits == {}


async def test_where_measurements_differ_a_third_one_decides(world: World) -> None:
    await owners(world, willow={}, oak={"verify": lazy}, elm={})
    submitted = await world.submit(await outcome(world))
    await world.until_event(submitted.job_id, "The measurements contradict one another")
    await world.add_machine("ash")

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert sorted(one.outcome for one in view.windows[0].audits) == ["mismatch", "passed", "passed"]


async def test_a_model_that_is_not_finished_is_not_judged(world: World) -> None:
    await owners(world, willow={"leaves_after": 3}, oak={}, elm={}, ash={})
    submitted = await world.submit(await outcome(world))

    view = await world.finish_signing(submitted.job_id)

    assert [one.state for one in view.attempts] == [AttemptState.YIELDED, AttemptState.FINISHED]
    assert view.attempts[1].step_from == 0
    assert view.state is JobState.DONE


# What a job can't have


@pytest.mark.parametrize("mode", [Mode.BITWISE, Mode.OUTCOME, Mode.TOLERANCE, Mode.REPUTATION])
async def test_a_script_can_only_be_replicated(mode: Mode, world: World) -> None:
    await owners(world, willow={}, oak={}, elm={})

    with pytest.raises(BadRequest) as refused:
        await intake.quote(world.co, world.renter_key, await world.script(mode=mode))

    assert mode.value in refused.value.what
    assert refused.value.effect == "Nothing was started or charged."
    assert refused.value.todo == "Choose replicate."


async def test_outcome_needs_hidden_examples_and_a_threshold(world: World) -> None:
    await owners(world, willow={}, oak={}, elm={})
    wanted = await outcome(world)
    for wrong in ({"held_out": None}, {"threshold": None}, {"mode": Mode.BITWISE}, {"held_out": wanted.data}):
        with pytest.raises(BadRequest) as refused:
            await intake.quote(world.co, world.renter_key, wanted.model_copy(update=wrong))
        assert refused.value.todo


async def test_steps_are_not_replicated_as_a_whole(world: World) -> None:
    with pytest.raises(BadRequest, match="Only jobs that are not made of steps"):
        await intake.quote(world.co, world.renter_key, await world.spec(mode=Mode.REPLICATE))
