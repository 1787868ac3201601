"""The coordinator may be killed at any line: whatever it was doing is done once, by the next process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from fakes.crashing import CrashingStore, Died
from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator import certificates, serve, views
from gristmill_coordinator.config import Config
from gristmill_protocol.certificate import CertificateStatement, Envelope, require_signed
from gristmill_protocol.errors import NotFinished
from gristmill_protocol.jobs import AttemptState, JobState, JobView, WindowState

pytestmark = pytest.mark.slow

When = Literal["before", "after"]


@pytest.fixture(params=["before", "after"])
async def dying(request: pytest.FixtureRequest, tmp_path: Path, config: Config) -> AsyncIterator[World]:
    """A world whose coordinator dies at every place that writes, once: before or after the commit."""
    died: set[str] = set()
    when: When = request.param
    world = World(
        tmp_path,
        f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}",
        config,
        wrap=lambda store: CrashingStore(store, died, when),
    )
    await world.start()
    yield world
    await world.stop()
    assert len(died) > 20, died
    assert len([place for place in died if place.startswith(("sender.py", "watcher.py", "settlement.py"))]) > 8, died


async def survive(world: World, action: Callable[[], Awaitable[object]]) -> None:
    """Do it; when the coordinator dies on the way, start it again and do it again, as its caller would."""
    for _ in range(20):
        try:
            await action()
        except Died:
            world.clock.now_s += world.config.claim_s
            await world.start()
        else:
            return
    raise AssertionError("it dies for ever")


async def live(world: World, job_id: str) -> JobView:
    """As World.finish, for a coordinator that dies; what was disputed is decided, too."""
    for _ in range(400):
        view = await world.job(job_id)
        if view.state.ended and all(one.closed for one in view.disputes):
            return view
        await tick(world)
    raise AssertionError(f"still {view.state}: {view.reason}")


async def tick(world: World) -> None:
    world.clock.now_s += 1
    world.chain.mine()
    for machine in world.machines.values():
        await survive(world, lambda machine=machine: machine.work(world.co))  # type: ignore[misc]
    for step in serve.STAGES.values():
        await survive(world, lambda step=step: step(world.co))  # type: ignore[misc]


async def certified(world: World, job_id: str) -> CertificateStatement:
    """What the job's certificate says, from a coordinator that dies while it is made."""
    for _ in range(100):
        try:
            envelope = Envelope.read(await certificates.certificate(world.co, world.renter_key, job_id))
        except NotFinished:
            await tick(world)
        else:
            statement = CertificateStatement.read(envelope.content())
            require_signed(envelope, envelope.content(), statement.signers())
            return statement
    raise AssertionError("no certificate is issued")


async def begin(world: World, *, cheat: bool = False) -> str:
    for name, ask in (("willow", 100_000), ("oak", 110_000), ("elm", 120_000)):
        train = {"train": lazy} if cheat and name == "willow" else {}
        await survive(world, lambda name=name, ask=ask, train=train: add(world, name, ask, train))  # type: ignore[misc]
    submitted: list[JobView] = []

    async def submit() -> None:
        for machine in world.machines.values():
            await machine.work(world.co)
        known = await views.jobs(world.co, world.renter_key)
        submitted.append(known[0] if known else await world.submit())

    await survive(world, submit)
    return submitted[-1].job_id


async def add(world: World, name: str, ask: int, flags: dict[str, object]) -> None:
    if name in world.machines:
        await world.machines[name].work(world.co)
    else:
        await world.add_machine(name, ask=ask, **flags)


async def test_an_honest_job_is_paid_exactly_once(dying: World) -> None:
    job_id = await begin(dying)

    view = await live(dying, job_id)

    assert view.state is JobState.DONE
    assert [one.state for one in view.attempts] == [AttemptState.FINISHED]
    assert view.bill is not None
    spent = 1_000_000_000 - (await dying.chain.account(dying.renter.address)).balance_usd_micros
    assert spent == view.bill.paid_usd_micros == view.price_usd_micros
    assert [one.signed for one in (await certified(dying, job_id)).predicate.asked] == [True]


async def test_a_cheat_is_slashed_exactly_once(dying: World) -> None:
    job_id = await begin(dying, cheat=True)

    view = await live(dying, job_id)

    assert view.state is JobState.DONE
    assert [one.state for one in view.windows] == [WindowState.VOID, WindowState.PAID]
    assert [one.amount_usd_micros for one in view.slashes] == [10_000_000]
    assert len(dying.chain.slashes) == 1
