"""Jobs that machines of other kinds check, with real training on three kinds of machines, all of them in this process:
as it is, without oneDNN, with two threads.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from fakes.training_machine import (
    RECIPE,
    Change,
    TrainingMachine,
    faster,
    other_roots,
    pictures,
    steps_skipped,
    without_onednn,
)
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.sampling import Policy
from gristmill_coordinator.stages import intake
from gristmill_coordinator.store import tables
from gristmill_protocol.errors import NoOfferFits
from gristmill_protocol.jobs import JobSpec, JobState, JobView, WindowState
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.environment import pin_environment

# A new provider's window has one sample then, and in this mode two.
ONE_SAMPLE = Policy(cost_ppm=666_666, margin_ppm=0, colluding_ppm=0)

pin_environment()
pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path, anchor_every_s=0, retry_node_s=20, candidate_wait_s=5, sampling=ONE_SAMPLE)


@pytest.fixture
def add(world: World) -> Callable[..., object]:
    async def machine(name: str, kind: str, **flags: object) -> TrainingMachine:
        world.co.recipe_ids[RECIPE] = world.recipe_id
        change = {"B": without_onednn}.get(kind)
        kinds: dict[str, object] = {} if change is None else {"change": change}
        made = TrainingMachine.on(
            world.chain, name, kind=kind, **{"threads": 2 if kind == "C" else 1, **kinds, **flags}
        )  # fmt: skip
        world.machines[name] = made
        await made.connect(world.co)
        return made

    return machine


async def spec(world: World, **changes: object) -> JobSpec:
    """Eight steps on twenty pictures."""
    view = DataView.open(pictures(world.root / "pictures", each=10))
    packed = world.root / "data"
    ref = view.pack(packed)
    await world.co.artifacts.put_bytes(packed.read_bytes())
    await world.co.store.grant(ref.sha256, f"renter:{world.renter_key}")
    return JobSpec.model_validate(
        {
            "recipe": RECIPE,
            "settings": {"quality": "quick", "rounds": 4, "batch": 8},
            "data": ref,
            "stats": catalog.find(RECIPE).check(view).stats,
            "budget_usd_micros": 100_000_000,
            **changes,
        }
    )


async def sigma(world: World, job_id: str) -> dict[str, float]:
    async with world.co.store.read() as tx:
        found: dict[str, float] = await tx.value(sa.select(tables.jobs.c.sigma).where(tables.jobs.c.job_id == job_id))
    return found


async def story(world: World, view: JobView) -> str:
    return "\n".join(line.text for line in await views.events(world.co, world.renter_key, view.job_id, 0))


async def test_honest_work_is_checked_by_two_other_kinds_and_paid(world: World, add: Callable[..., object]) -> None:
    willow = await add("willow", "A", ask=50_000)
    await add("oak", "B")
    await add("elm", "C")
    submitted = await world.submit(await spec(world))

    view = await world.finish_signing(submitted.job_id)

    assert (view.state, view.mode, view.guarantee) == (JobState.DONE, Mode.TOLERANCE, GUARANTEES[Mode.TOLERANCE])
    assert {one.state for one in view.windows} == {WindowState.PAID}
    checkers: dict[int, set[str]] = {}
    for one in view.windows[0].audits:
        checkers.setdefault(one.segment, set()).add(one.verifier_name)
    assert len(checkers) == 2 + 2  # the first and the last, and twice the usual one
    assert all(names == {"oak", "elm"} for names in checkers.values())
    assert {one.outcome for one in view.windows[0].audits} == {"passed"}
    apart = await sigma(world, view.job_id)
    assert 0 < apart["first_moment"] < 1e-4
    assert world.chain.credits[willow.provider] > 0


@pytest.mark.parametrize(
    "cheat",
    [steps_skipped, partial(faster, 1.01)],
    ids=["skipped steps", "lr + 1 %"],
)
async def test_a_cheat_is_not_paid_and_not_fined(world: World, add: Callable[..., object], cheat: Change) -> None:
    cheating = await add("cheat", "A", ask=50_000, change=cheat)
    await add("oak", "B")
    await add("elm", "C")
    submitted = await world.submit(await spec(world))

    await world.until_event(submitted.job_id, "farther away than rounding explains")

    assert cheating.provider not in world.chain.credits
    assert world.chain.slashes == []
    view = await world.job(submitted.job_id)
    assert (view.windows[0].state, view.steps_accepted, view.slashes) == (WindowState.VOID, 0, ())


async def test_another_state_than_the_one_committed_to_is_not_served(world: World, add: Callable[..., object]) -> None:
    cheating = await add("cheat", "A", ask=50_000, change=other_roots)
    await add("oak", "B")
    await add("elm", "C")
    submitted = await world.submit(await spec(world))

    await world.until_event(submitted.job_id, "is not the one that the record names")

    assert cheating.provider not in world.chain.credits
    assert (await world.job(submitted.job_id)).windows[0].state is WindowState.VOID


async def test_a_machine_of_the_same_kind_overrules_the_others(world: World, add: Callable[..., object]) -> None:
    willow = await add("willow", "A", ask=50_000)
    ash = await add("ash", "A", ask=900_000)
    for name, kind in (("oak", "B"), ("elm", "C")):
        await add(name, kind, change=partial(faster, 1.01), ask=900_000)
    submitted = await world.submit(await spec(world, mode=Mode.TOLERANCE))

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert ash.audits_done == 4
    assert "came out too far" in await story(world, view)
    assert world.chain.credits[willow.provider] > 0
    assert world.chain.slashes == []


async def test_a_job_on_which_honest_kinds_differ_too_much_says_so(world: World, add: Callable[..., object]) -> None:
    willow = await add("willow", "A", ask=50_000)
    await add("oak", "B", change=partial(faster, 1.2))
    await add("elm", "C")
    submitted = await world.submit(await spec(world))

    view = await world.finish(submitted.job_id)

    assert view.state is JobState.FAILED
    assert "too far apart to check one another" in view.reason
    assert willow.provider not in world.chain.credits
    assert world.chain.slashes == []


async def test_a_verifier_without_its_state_is_replaced(world: World, add: Callable[..., object]) -> None:
    await add("willow", "A", ask=50_000)
    empty = await add("oak", "B")
    for name in ("elm", "ash"):
        await add(name, "C")
    empty.uploads = False
    submitted = await world.submit(await spec(world, mode=Mode.TOLERANCE))

    view = await world.finish_signing(submitted.job_id)

    assert view.state is JobState.DONE
    assert {one.verifier_name for one in view.windows[0].audits} == {"elm", "ash"}


async def test_the_quote_says_how_it_will_be_checked(world: World, add: Callable[..., object]) -> None:
    await add("willow", "A", ask=50_000)
    await add("ash", "A", ask=60_000)
    wanted = await spec(world, settings={"quality": "quick", "rounds": 200, "batch": 8})

    thin = await intake.quote(world.co, world.renter_key, wanted)
    with pytest.raises(NoOfferFits, match="two other owners' machines of another kind"):
        await intake.quote(world.co, world.renter_key, wanted.model_copy(update={"mode": Mode.TOLERANCE}))
    for name, kind in (("oak", "B"), ("elm", "C")):
        await add(name, kind, ask=900_000)
    asked = await intake.quote(world.co, world.renter_key, wanted.model_copy(update={"mode": Mode.TOLERANCE}))

    assert thin.mode is Mode.BITWISE
    assert thin.verification.endswith("Only 2 owners have machines of this kind.")
    assert asked.mode is Mode.TOLERANCE
    assert "two other owners' machines of another kind" in asked.verification
    assert asked.plan.segment_steps == 5 < thin.plan.segment_steps
    assert asked.plan.window_segments * 5 >= asked.plan.steps
