"""The same lives on Postgres: the stages know no database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator.config import Config
from gristmill_protocol.jobs import JobState, WindowState

pytestmark = pytest.mark.slow


@pytest.fixture
async def anywhere(tmp_path: Path, config: Config, database_url: str) -> AsyncIterator[World]:
    world = World(tmp_path, database_url, config)
    await world.start()
    yield world
    await world.stop()


async def test_a_cheat_is_found_and_another_machine_is_paid(anywhere: World) -> None:
    await anywhere.add_machine("cheat", ask=50_000, train=lazy)
    await anywhere.add_machine("willow", ask=60_000, leaves_after=5)
    await anywhere.add_machine("oak", ask=60_000)
    job_id = (await anywhere.submit()).job_id

    view = await anywhere.finish_signing(job_id)

    assert view.state is JobState.DONE
    assert view.windows[0].state is WindowState.VOID
    assert {one.state for one in view.windows[1:]} == {WindowState.PAID}
    assert len(anywhere.chain.slashes) == 1
    assert view.bill is not None
    spent = 1_000_000_000 + 5_000_000 - (await anywhere.chain.account(anywhere.renter.address)).balance_usd_micros
    assert spent == view.bill.paid_usd_micros
