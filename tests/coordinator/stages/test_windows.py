"""Long jobs: windows are committed, checked and accepted while the work goes on."""

import pytest

from fakes.machine import Machine, honest, lazy
from fakes.world import World
from gristmill_coordinator.stages import intake
from gristmill_protocol.jobs import AttemptState, JobState, JobView, WindowState

pytestmark = pytest.mark.slow

SLOW = 500_000  # flops per second: the job takes hours, so it has several windows


async def long_job(world: World) -> JobView:
    for machine in world.machines.values():
        machine.offer.flops_per_s = SLOW
        await machine.connect(world.co)
    return await world.submit(await world.spec(settings={"rounds": 20}))


def from_step(step: int, late: Machine) -> None:
    """Have a machine cheat only from a step on."""
    late.train = lambda state, at: (lazy if at >= step else honest)(state, at)


async def test_windows_are_accepted_while_the_machine_runs_on(world: World) -> None:
    await world.add_machine("willow", ask=100)
    await world.add_machine("oak", ask=110)
    job_id = (await long_job(world)).job_id

    early = await world._until(job_id, lambda view: view.steps_accepted > 0)
    view = await world.finish(job_id)

    assert early.state is JobState.RUNNING
    assert early.steps_accepted < early.steps_done
    assert view.state is JobState.DONE
    assert len(view.windows) > 2
    assert {one.state for one in view.windows} == {WindowState.PAID}
    assert len(view.attempts) == 1
    assert view.bill is not None
    assert view.bill.paid_usd_micros == view.price_usd_micros


async def test_a_late_cheat_is_paid_for_the_windows_that_held(world: World) -> None:
    cheat = await world.add_machine("cheat", ask=100)
    await world.add_machine("willow", ask=110)
    await world.add_machine("oak", ask=115)
    submitted = await long_job(world)
    from_step(60, cheat)

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert view.attempts[0].state is AttemptState.FAILED
    assert 0 < view.attempts[1].step_from <= 60
    assert {WindowState.PAID, WindowState.VOID} == {one.state for one in view.windows}
    assert len(world.chain.slashes) == 1
    assert world.chain.credits[cheat.provider] > 0
    assert view.attempts[0].attempt_id in cheat.told_to_stop


async def test_a_stopped_long_job_pays_windows_and_the_rest_that_is_proven(world: World) -> None:
    await world.add_machine("willow", ask=100)
    await world.add_machine("oak", ask=110)
    submitted = await long_job(world)
    await world.until_steps(submitted.job_id, 50)

    await intake.stop(world.co, world.renter_key, submitted.job_id)
    view = await world.finish(submitted.job_id)

    assert view.state is JobState.STOPPED
    assert view.steps_accepted >= 50
    assert view.bill is not None
    assert view.bill.paid_usd_micros == view.price_usd_micros * view.steps_accepted // view.steps_total


async def test_what_was_not_uploaded_is_lost_with_the_machine(world: World) -> None:
    await world.add_machine("willow", ask=100, uploads=False, dies_after=50)
    await world.add_machine("oak", ask=110)
    await world.add_machine("elm", ask=115)
    submitted = await long_job(world)

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert view.attempts[0].state is AttemptState.LOST
    assert view.attempts[1].step_from in {0, 40}
