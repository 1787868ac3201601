"""A node that is killed at any moment, as by a power cut, has lost nothing when it is back, and left nothing behind.

`make test` kills it a few times, `make kills` fifty.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from docker.errors import DockerException

from fakes import trainer
from fakes.node_process import served, start_node, written
from fakes.provider_side import FakeArtifacts, ScriptedCoordinator, lease, ref, task
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_provider.config import NodeConfig
from gristmill_provider.docker_runner import NODE_LABEL
from gristmill_provider.runner import ProcessRunner
from gristmill_provider.task_dirs import clear_tasks

KILLS = int(os.environ.get("GRISTMILL_KILLS", "4"))
STARTING_S, WORKING_S = 4.0, 1.5  # a life lasts at most so long, from its start or from its greeting; a job takes one
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 30 * KILLS)]

IMAGE = "python:3.11-slim-bookworm"
STEPS, SEGMENT_STEPS = 40, 4
ENDS = {"FINISHED", "FAILED", "YIELDED"}


@dataclass
class Tended:
    """What a coordinator does: it gives out a lease, and after an end that is none another one from the last state."""

    coordinator: ScriptedCoordinator
    image: str = ""
    jobs: dict[str, list[str]] = field(default_factory=dict)  # job -> its attempts

    async def job(self, job_id: str) -> None:
        attempts = self.jobs.setdefault(job_id, [])
        while not attempts or self.ends(attempts[-1]) != ["FINISHED"]:
            attempts.append(f"{job_id}_attempt_{len(attempts) + 1}")
            await self._lease(job_id, attempts[-1])
            await self.coordinator.until(lambda: bool(self.ends(attempts[-1])))

    def ends(self, attempt_id: str) -> list[str]:
        return [state for state in self.coordinator.states(attempt_id) if state in ENDS]

    def records(self, job_id: str) -> list[SegmentRecord]:
        reports = self.coordinator.bodies("segment")
        signed = [SignedRecord.model_validate_json(report.signed_record_json).record for report in reports]
        return [record for record in signed if record.job_id == job_id]

    async def _lease(self, job_id: str, attempt_id: str) -> None:
        """Offer it until the node answers: one that is killed first has never heard of it."""
        records = self.records(job_id)
        step = records[-1].step_to if records else 0
        state = ref(trainer.state_file(7, step)) if step else None
        wanted = task(
            attempt_id, job_id=job_id, settings={"step_s": 0.02}, steps=STEPS, segment_steps=SEGMENT_STEPS,
            step_from=step, segment_index=len(records), state=state,
        )  # fmt: skip
        while not self._heard(attempt_id):
            lives = len(self.coordinator.greetings)
            self.coordinator.say(lease=lease(wanted, image=self.image))
            await self.coordinator.until(
                lambda lives=lives: self._heard(attempt_id) or len(self.coordinator.greetings) > lives  # type: ignore[misc]
            )

    def _heard(self, attempt_id: str) -> bool:
        accepted = {reply.attempt_id for reply in self.coordinator.bodies("lease_reply") if reply.accepted}
        return attempt_id in accepted or bool(self.coordinator.states(attempt_id))


@dataclass
class Mortal:
    """A node that is killed so many times, at random moments, and then left to live."""

    file: Path
    coordinator: ScriptedCoordinator
    kills: int
    docked: bool = False
    after: Callable[[], None] = lambda: None  # what else happens while it is dead

    async def live(self, tended: Tended) -> None:
        """Work through jobs until all kills are over, then leave in order."""
        self._node = await start_node(self.file, docked=self.docked)
        try:
            async with asyncio.TaskGroup() as tasks:
                dying = tasks.create_task(self._die())
                number = 0
                while not dying.done() or number == 0:
                    number += 1
                    await tended.job(f"job_{number}")
            self._node.terminate()
            assert await self._node.wait() == 0
        finally:
            with suppress(ProcessLookupError):
                self._node.kill()

    async def _die(self) -> None:
        random = Random(self.kills)
        for number in range(self.kills):
            if number % 3 == 0:
                await asyncio.sleep(random.uniform(0, STARTING_S))
            else:
                lives = len(self.coordinator.greetings)
                await self.coordinator.until(lambda lives=lives: len(self.coordinator.greetings) > lives)  # type: ignore[misc]
                await asyncio.sleep(random.uniform(0, WORKING_S))
            self._node.kill()
            await self._node.wait()
            self.after()
            self._node = await start_node(self.file, docked=self.docked)


def require_whole(tended: Tended) -> None:
    """Each job was done to its end, each step by one signed record, each of which was receipted at most once."""
    for job_id, attempts in tended.jobs.items():
        assert [len(tended.ends(attempt)) for attempt in attempts] == [1] * len(attempts), "an attempt had two ends"
        assert tended.ends(attempts[-1]) == ["FINISHED"]
        records = tended.records(job_id)
        assert [(record.index, record.step_from) for record in records] == [
            (index, index * SEGMENT_STEPS) for index in range(STEPS // SEGMENT_STEPS)
        ]
        assert all(one.state_root == other.state_root_prev for one, other in pairwise(records))
        assert records[-1].state_root == trainer.state_root(7, STEPS)
    receipts = [(receipt.attempt_id, receipt.number) for receipt in tended.coordinator.bodies("receipt")]
    assert len(set(receipts)) == len(receipts)


def require_nothing_left(state_dir: Path) -> None:
    assert list((state_dir / "tasks").iterdir()) == []
    assert str(state_dir) not in Path("/proc/self/mountinfo").read_text()
    loops = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert [path for path in loops if str(state_dir) in path] == []
    assert processes_in(state_dir) == []


def processes_in(state_dir: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(state_dir) in process.cwd() or str(state_dir) in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.fixture
def tended(coordinator: ScriptedCoordinator) -> Tended:
    return Tended(coordinator)


@pytest.fixture
def image(engine: Any, tmp_path: Path) -> str:
    """The fake trainer where the real one is."""
    context = tmp_path / "image"
    context.mkdir()
    shutil.copy(trainer.__file__, context / "__main__.py")
    copied = "COPY __main__.py /usr/lib/fake/gristmill_trainer/"
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\n{copied}\nENV PYTHONPATH=/usr/lib/fake\n")
    return str(engine.images.build(path=str(context), rm=True)[0].id)


async def test_a_node_that_is_killed_loses_no_job(tended: Tended, artifacts: FakeArtifacts, config: NodeConfig) -> None:
    with served(artifacts) as url:
        file = written(config, coordinator_url=url)
        await Mortal(file, tended.coordinator, KILLS).live(tended)

    require_whole(tended)
    require_nothing_left(config.state_dir)


@pytest.mark.docker
async def test_a_node_of_containers_that_is_killed_leaves_nothing_behind(
    tended: Tended,
    artifacts: FakeArtifacts,
    config: NodeConfig,
    image: str,
    engine: Any,
    request: pytest.FixtureRequest,
) -> None:
    tended.image = image
    random = Random(1)

    def reboot_sometimes() -> None:
        if random.random() < 0.5:
            for container in containers(engine, config):
                with suppress(DockerException):
                    container.kill()

    def clear() -> None:
        """Or pytest cannot delete its folder."""
        asyncio.run(clear_tasks(ProcessRunner(), config.state_dir / "tasks"))

    request.addfinalizer(clear)
    with served(artifacts) as url:
        file = written(config, coordinator_url=url, backend="docker", image=image)
        await Mortal(file, tended.coordinator, max(2, KILLS // 4), docked=True, after=reboot_sometimes).live(tended)

    require_whole(tended)
    require_nothing_left(config.state_dir)
    assert containers(engine, config) == []


def containers(engine: Any, config: NodeConfig) -> list[Any]:
    named = config.state_dir / "node_id"
    if not named.exists():
        return []
    return list(engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={named.read_text()}"}))
