"""What anybody may know of a job's checks: enough to draw again, nothing of whom or what it is about."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator import evidence
from gristmill_coordinator.config import Config
from gristmill_protocol.api import AuditsView
from gristmill_protocol.errors import NotFound
from gristmill_protocol.evidence import check_window
from gristmill_protocol.jobs import JobState, WindowState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    config = Config(data_dir=tmp_path, anchor_every_s=0, retry_node_s=20, candidate_wait_s=5)
    world = World(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}", config)
    await world.start()
    yield world
    await world.stop()


async def life(world: World) -> list[AuditsView]:
    """What anybody sees at each moment of a job's life; everything in it holds each time."""
    job_id = (await world.submit()).job_id
    seen = []
    for _ in range(200):
        view = await evidence.view(world.co, job_id)
        found = [finding for window in view.windows for finding in check_window(job_id, window)]
        assert [finding.text for finding in found if finding.mark == "wrong"] == []
        seen.append(view)
        job = await world.job(job_id)
        if job.state.ended:
            assert job.state is JobState.DONE
            return seen
        await world.tick()
    raise AssertionError("it does not end")


async def test_what_is_public_holds_at_every_moment_and_names_nobody_before_the_verdict(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)

    seen = await life(world)

    states = {window.state for view in seen for window in view.windows}
    assert {WindowState.OPEN, WindowState.COMMITTED, WindowState.SAMPLED, WindowState.PAID} <= states
    for view in seen:
        text = view.model_dump_json().lower()
        assert "willow" not in text
        assert world.renter_key not in text
        if any(window.state is WindowState.SAMPLED for window in view.windows):
            assert "oak" not in text
            assert all(window.audits == () and window.drawn for window in view.windows)
    [window] = seen[-1].windows
    assert {audit.segment for audit in window.audits} == set(window.drawn)
    assert window.basis is not None
    assert window.basis.second_ppm == world.config.sampling.second_ppm
    final_root = (await world.job(seen[-1].job_id)).final_state_root
    assert final_root is not None
    assert final_root not in seen[-1].model_dump_json()


async def test_a_dispute_is_not_seen_before_its_verdict(world: World) -> None:
    await world.add_machine("cheat", ask=50_000, train=lazy)
    for name in ("oak", "elm", "ash"):
        await world.add_machine(name, ask=100_000)

    seen = await life(world)

    assert WindowState.DISPUTED not in {window.state for view in seen for window in view.windows}
    assert seen[-1].windows[0].state is WindowState.VOID
    assert {audit.outcome for audit in seen[-1].windows[0].audits} >= {"mismatch"}


async def test_an_unknown_job_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await evidence.view(world.co, "job_none")
