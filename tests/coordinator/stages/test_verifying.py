"""Who verifies: bound before they speak, two of them now and then, nobody's friends; and what standing comes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.sampling import Policy
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.tables import audits, bans, nodes, standings
from gristmill_coordinator.store.verdicts import BAN_S
from gristmill_protocol.commitments import PPM, draw_seconds, draw_seed, draw_segments
from gristmill_protocol.jobs import JobState, JobView, WindowState

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    """Every sampled segment has two verifiers, unless a test says otherwise."""
    policy: Policy = getattr(request, "param", Policy(second_ppm=PPM))
    return Config(data_dir=tmp_path, anchor_every_s=0, retry_node_s=20, candidate_wait_s=5, sampling=policy)


one_verifier = pytest.mark.parametrize("config", [Policy(second_ppm=0)], indirect=True, ids=["one verifier"])


async def rows(world: World, query: sa.Select[Any]) -> list[Any]:
    async with world.co.store.read() as tx:
        return list(await tx.rows(query))


async def clean_windows(world: World, name: str) -> int:
    provider = world.machines[name].provider
    async with world.co.store.read() as tx:
        return (await job_rows.clean_windows(tx, [provider])).get(provider, 0)


async def until_sampled(world: World, job_id: str) -> JobView:
    return await world._until(job_id, lambda view: any(one.state is WindowState.SAMPLED for one in view.windows))


async def test_a_colluding_verifier_is_found_by_the_second(world: World) -> None:
    cheat = await world.add_machine("cheat", ask=50_000, train=lazy)
    friend = await world.add_machine("friend", ask=900_000, verify=lazy)
    await world.add_machine("willow", ask=900_000)
    job_id = (await world.submit()).job_id
    await world.until_event(job_id, "another machine is asked")

    await world.add_machine("oak", ask=900_000)
    await world.until_event(job_id, "'friend' had agreed with it, and checks no such work for 30 days.")
    await world.until_event(job_id, "conceded")

    assert [provider for provider, _ in world.chain.slashes] == [cheat.provider]
    banned = await rows(world, sa.select(bans))
    assert {one.provider for one in banned} == {cheat.provider, friend.provider}
    assert all(world.clock() < one.until_s <= world.clock() + BAN_S for one in banned)
    assert await clean_windows(world, "friend") == 0
    able = world.co.book.verifiers(
        numeric_class="ab" * 32, renter=world.renter_key, recipe="text-sorter", since_s=world.clock()
    )
    assert {one.node_id for one in able} <= {"node-willow", "node-oak"}


async def test_no_answer_is_asked_for_before_both_verifiers_are_bound(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    oak = await world.add_machine("oak", ask=900_000)
    elm = await world.add_machine("elm", ask=900_000, dawdles=True)
    job_id = (await world.submit()).job_id
    await until_sampled(world, job_id)

    for _ in range(10):
        await world.tick()

    assert oak.answers
    assert {one.outcome for one in (await world.job(job_id)).windows[0].audits} == {"pending"}
    elm.dawdles = False
    assert (await world.finish(job_id)).state is JobState.DONE


async def test_a_market_of_two_owners_does_without_second_verifiers(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)

    view = await world.finish((await world.submit()).job_id)

    assert view.state is JobState.DONE
    outcomes = {(one.why_drawn == "second", one.outcome) for one in view.windows[0].audits}
    assert outcomes == {(True, "unserved"), (False, "passed")}


@one_verifier
async def test_who_changes_its_mind_has_refused(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    fickle = await world.add_machine("fickle", ask=900_000, changes_mind=True)
    oak = await world.add_machine("oak", ask=800_000)

    view = await world.finish_signing((await world.submit()).job_id)

    assert view.state is JobState.DONE
    assert {one.verifier for one in view.windows[0].audits} == {oak.provider}
    refused = [one.refused for one in await rows(world, sa.select(audits)) if one.refused]
    assert refused
    assert all(set(one) == {fickle.node_id} for one in refused)
    [node] = await rows(world, sa.select(nodes).where(nodes.c.node_id == fickle.node_id))
    assert node.refused_s > 0


async def test_the_draw_can_be_recomputed_from_what_the_renter_sees(world: World) -> None:
    for name in ("willow", "oak", "elm"):
        await world.add_machine(name)
    job_id = (await world.submit(await world.spec(assurance=4))).job_id

    before = await until_sampled(world, job_id)
    [window] = (await world.finish(job_id)).windows

    assert window.basis is not None
    assert (window.samples_ppm, window.basis.assurance) == (4 * PPM, 4)
    assert window.basis.lock_usd_micros == window.basis.price_usd_micros == before.price_usd_micros
    seed = draw_seed(
        beacon=bytes.fromhex(window.beacon or ""), job_id=job_id, window_id=window.window_id,
        root=bytes.fromhex(window.root or ""),
    )  # fmt: skip
    drawn = draw_segments(
        seed,
        first_index=window.first_index,
        count=window.segments,
        samples_ppm=window.samples_ppm or 0,
        ends_job=True,
    )
    assert tuple(one.segment for one in window.audits if one.why_drawn in ("first", "last", "drawn")) == drawn
    seconds = draw_seconds(seed, drawn, second_ppm=window.basis.second_ppm)
    assert tuple(one.segment for one in window.audits if one.why_drawn == "second") == seconds == drawn
    # Who verifies is nobody's business before it has answered.
    assert {(one.verifier, one.verifier_name) for one in before.windows[0].audits} == {(0, "")}
    lines = await views.events(world.co, world.renter_key, job_id, 0)
    told = [one for one in lines if "re-run by" in one.text]
    assert len(told) == len(window.audits)


@one_verifier
async def test_a_standing_counts_windows_that_were_audited(world: World) -> None:
    willow = await world.add_machine("willow", ask=100)
    await world.add_machine("oak", ask=110)
    for machine in world.machines.values():
        machine.offer.flops_per_s = 500_000  # the job takes hours, so it has several windows
        await machine.connect(world.co)
    async with world.co.store.write() as tx:
        await tx.add(standings, {"provider": willow.provider, "clean_windows": 60})

    view = await world.finish((await world.submit(await world.spec(settings={"rounds": 55}))).job_id)

    audited = [one for one in view.windows if one.audits]
    assert {one.state for one in view.windows} == {WindowState.PAID}
    assert 0 < len(audited) <= len(view.windows)
    assert await clean_windows(world, "willow") == 60 + len(audited)
    full = [one for one in view.windows if one.segments == 40]
    assert all(740_000 < (one.samples_ppm or 0) <= 750_000 for one in full)  # the lock is rounded up
    async with world.co.store.read() as tx:
        assert await job_rows.locks(tx) == {}


@one_verifier
@pytest.mark.parametrize("friendly", [True, False])
async def test_work_for_oneself_earns_no_standing(world: World, friendly: bool) -> None:
    await world.add_machine("willow", ask=50_000, funder=world.renter.address if friendly else "")
    await world.add_machine("oak", ask=900_000)

    view = await world.finish((await world.submit()).job_id)

    assert view.state is JobState.DONE
    assert await clean_windows(world, "willow") == (not friendly)


async def test_a_network_or_a_funder_in_common_makes_no_verifier(world: World) -> None:
    await world.add_machine("willow", network="93.184.216.0/24", funder="0x" + "f1" * 20)
    await world.add_machine("neighbour", network="93.184.216.0/24")
    await world.add_machine("sibling", funder="0x" + "F1" * 20)
    for _ in range(2):  # one until the watcher has seen who paid
        await world.tick()

    assert world.co.book.related("node-willow", "node-neighbour")
    assert world.co.book.related("node-willow", "node-sibling")
    with pytest.raises(Exception, match="another owner's machine that can check the work"):
        await world.submit()
    await world.add_machine("oak")
    assert (await world.submit()).state is JobState.QUEUED


async def test_a_bond_that_leaves_or_is_topped_up_by_another_is_noticed(world: World) -> None:
    willow = await world.add_machine("willow")
    oak = await world.add_machine("oak")
    await world.tick()
    state = world.chain.state.providers[willow.provider]

    world.chain.state.providers[willow.provider] = replace(state, bonded_usd_micros=0, active=False)
    world.chain.emit("registry", "UnbondingRequested", provider=willow.provider, amount=1, unlockAt=2)
    payout = world.chain.state.providers[oak.provider].payout
    world.chain.emit("registry", "Bonded", **{"provider": willow.provider, "from": payout, "amount": 1})
    for _ in range(2):  # one until the watcher has seen it
        await world.tick()

    offer = world.co.book.get(willow.node_id)
    assert offer is not None
    assert offer.bonded_usd_micros == 0
    assert world.co.book.related(willow.node_id, oak.node_id)
