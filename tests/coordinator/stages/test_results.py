"""What is handed over at a job's end has to be what its training gives."""

from typing import Any

import pytest
import sqlalchemy as sa

from fakes.machine import Machine, lazy
from fakes.world import World
from gristmill_coordinator.store.tables import bans, disputes, standings, windows
from gristmill_protocol.jobs import JobState, JobView

pytestmark = pytest.mark.slow

BOUGHT = {"model.bin": b"a model from somewhere else"}
NOT_ITS_OWN = "Work of 'cheat' does not count: What it handed over is not what its training gives."


async def rows(world: World, query: sa.Select[Any]) -> list[Any]:
    async with world.co.store.read() as tx:
        return list(await tx.rows(query))


async def known_cheat(world: World, **flags: Any) -> Machine:
    cheat = await world.add_machine("cheat", ask=50_000, **flags)
    async with world.co.store.write() as tx:
        await tx.add(standings, {"provider": cheat.provider, "clean_windows": 7})
    return cheat


async def short_job(world: World) -> JobView:
    return await world.submit(await world.spec(settings={"rounds": 2}))


@pytest.mark.parametrize("flags", [{"makes": BOUGHT}, {"scorecard": {"accuracy": 1.0}}], ids=["model", "score"])
async def test_honest_training_does_not_pay_for_another_result(world: World, flags: dict[str, Any]) -> None:
    cheat = await known_cheat(world, **flags)
    for name in ("oak", "elm"):
        await world.add_machine(name, ask=900_000)
    job_id = (await short_job(world)).job_id

    await world.until_event(job_id, NOT_ITS_OWN)
    view = await world.finish(job_id)

    assert view.state is JobState.DONE
    assert [one.provider_name == "cheat" for one in view.attempts] == [True, False]
    assert cheat.provider not in world.chain.credits
    [standing] = await rows(world, sa.select(standings).where(standings.c.provider == cheat.provider))
    assert (standing.clean_windows, standing.frauds) == (0, 0)
    assert await rows(world, sa.select(disputes)) == []
    assert await rows(world, sa.select(bans)) == []


async def test_a_wrong_result_takes_two_to_say_so(world: World) -> None:
    await known_cheat(world, makes=BOUGHT)
    await world.add_machine("oak", ask=900_000)
    job_id = (await short_job(world)).job_id

    await world.until_event(job_id, "another machine is asked")
    world.clock.now_s += world.config.audit_timeout_s
    await world.until_event(job_id, "One machine got another result, and there was no second one to confirm it.")

    [window] = await rows(world, sa.select(windows).where(windows.c.finding != ""))
    assert (window.finding, window.ends_job) == ("unconfirmed", True)


async def test_a_verifier_that_invents_another_result_is_overruled(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    liar = await world.add_machine("liar", ask=900_000, makes=BOUGHT)
    job_id = (await short_job(world)).job_id
    await world.until_event(job_id, "another machine is asked")
    await world.add_machine("oak", ask=900_000)

    view = await world.finish_signing(job_id)

    assert view.state is JobState.DONE
    assert [one.provider_name for one in view.attempts] == ["willow"]
    [standing] = await rows(world, sa.select(standings).where(standings.c.provider == liar.provider))
    assert standing.clean_windows == 0


async def test_skipped_steps_are_fraud_whatever_is_handed_over(world: World) -> None:
    await known_cheat(world, train=lazy, makes=BOUGHT)
    for name in ("oak", "elm"):
        await world.add_machine(name, ask=900_000)
    job_id = (await short_job(world)).job_id

    await world.until_event(job_id, "Work of 'cheat' does not count: Segment")

    assert len(await rows(world, sa.select(disputes))) == 1


async def test_the_last_segment_is_always_run_again(world: World) -> None:
    for name in ("willow", "oak"):
        await world.add_machine(name)

    view = await world.finish((await short_job(world)).job_id)

    whys = {one.segment: one.why_drawn for window in view.windows for one in window.audits}
    assert whys[0] == "first"
    assert whys[view.windows[-1].first_index + view.windows[-1].segments - 1] == "last"
