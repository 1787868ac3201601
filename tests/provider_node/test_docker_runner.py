"""Real containers on a real engine, under the flags that every attempt gets."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from fakes import trainer
from fakes.provider_side import DATA, RENTER, ScriptedCoordinator, lease, task
from gristmill_protocol.errors import MissingPart, Unavailable
from gristmill_protocol.progress import Finished, TrainerEvent
from gristmill_provider.config import Limits, NodeConfig
from gristmill_provider.docker_runner import NODE_LABEL, DockerRunner, knows_card, require_toolkit
from gristmill_provider.runner import Ended, Run
from gristmill_provider.volume import take_back

pytestmark = [pytest.mark.docker, pytest.mark.slow]

IMAGE = "python:3.11-slim-bookworm"
TRAINER_IMAGE = f"gristmill-trainer:{version('gristmill')}"
NODE = "node_of_docker_tests"
LIMITS = Limits(memory_gib=0.25, pids=64, work_gib=0.02, cpus=1)


@pytest.fixture(autouse=True)
def _nothing_left(engine: Any) -> Iterator[None]:
    yield
    left = engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={NODE}"})
    for container in left:
        container.remove(force=True)
    assert left == [], "a container was left behind"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "tasks" / "attempt_1"
    for part in (made / "input", made / "out"):
        part.mkdir(parents=True)
    (made / "input" / "data").write_bytes(DATA)
    (made / "task.json").write_text(task().model_dump_json())
    shutil.copy(trainer.__file__, made / "input")
    yield made
    take_back(made / "out")  # or pytest cannot delete the folder of a test that failed


def runner_of(*command: str) -> DockerRunner:
    return DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid=None, command=command)


Start = Callable[[], Awaitable[Run]]


@pytest.fixture
async def start(engine: Any, folder: Path) -> AsyncIterator[Start]:
    """Starts the fake trainer in a container, where it finds itself among its inputs."""
    runners = []

    async def begin() -> Run:
        runners.append(runner_of("python", "/work/input/trainer.py"))
        await runners[-1].open()
        return await runners[-1].start(folder, "run")

    yield begin
    for runner in runners:
        await runner.close()
    mounted = (folder / "out").is_mount()
    take_back(folder / "out")
    assert not mounted, "a work folder was left mounted"


async def finish(run: Run) -> tuple[list[TrainerEvent], Ended]:
    try:
        return [event async for event in run.events()], await run.wait()
    finally:
        await run.close()


async def test_a_container_runs_the_trainer_and_leaves_its_files(start: Start, folder: Path) -> None:
    run = await start()
    try:
        events = [event async for event in run.events()]
        ended = await run.wait()
        content = (folder / "out" / "states" / "2.safetensors").read_bytes()
    finally:
        await run.close()

    kinds = [event.event for event in events if event.event != "progress"]
    assert kinds == ["started", "segment", "segment", "segment", "finished"]
    assert ended.code == 0
    assert content == trainer.state_file(7, 10)
    assert not (folder / "out").is_mount()
    assert not (folder / "out.ext4").exists()


async def test_a_container_is_the_nodes_own_as_long_as_it_runs(engine: Any, folder: Path) -> None:
    (folder / "task.json").write_text(task(settings={"hold_at": 2}).model_dump_json())
    runner = runner_of("python", "/work/input/trainer.py")
    await runner.open()
    run = await runner.start(folder, "run")
    try:
        [pid] = runner.pids
        [container] = engine.containers.list(filters={"label": f"{NODE_LABEL}={NODE}"})
        assert pid == container.attrs["State"]["Pid"]
        await run.stop(1)
    finally:
        await run.close()
        await runner.close()

    assert runner.pids == frozenset()


async def test_a_container_is_the_nodes_own_until_it_is_gone(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "task.json").write_text(task(settings={"hold_at": 2}).model_dump_json())
    remove, seen = Container.remove, []
    runner = runner_of("python", "/work/input/trainer.py")

    def watched(container: Any, **options: Any) -> None:
        remove(container, **options)
        seen.append(len(runner.pids))

    monkeypatch.setattr(Container, "remove", watched)
    await runner.open()
    run = await runner.start(folder, "run")
    await run.close()
    await runner.close()

    assert seen == [1]
    assert runner.pids == frozenset()


async def test_a_container_that_is_not_wanted_any_more_while_it_starts_is_removed(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "task.json").write_text(task(settings={"hold_at": 2}).model_dump_json())
    start, loop, at_it = Container.start, asyncio.get_running_loop(), asyncio.Event()

    def watched(container: Any) -> None:
        loop.call_soon_threadsafe(at_it.set)
        start(container)

    monkeypatch.setattr(Container, "start", watched)
    runner = runner_of("python", "/work/input/trainer.py")
    await runner.open()
    starting = asyncio.create_task(runner.start(folder, "run"))
    await at_it.wait()
    starting.cancel()
    await asyncio.wait([starting], timeout=0.01)
    starting.cancel()  # a node that leaves may cancel what was cancelled before

    with pytest.raises(asyncio.CancelledError):
        await starting

    left = engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={NODE}"})
    assert (left, runner.pids, (folder / "out").is_mount()) == ([], frozenset(), False)
    await runner.close()


async def test_a_stopped_container_saves_and_leaves(start: Start, folder: Path) -> None:
    (folder / "task.json").write_text(task(settings={"hold_at": 6}).model_dump_json())
    run = await start()
    events = []
    async for event in run.events():
        events.append(event.event)
        if events[-2:] == ["segment", "progress"]:
            await run.stop(10)
    ended = await run.wait()
    await run.close()

    assert [kind for kind in events if kind != "progress"] == ["started", "segment", "segment", "stopped"]
    assert ended.code == 75


async def test_training_code_finds_what_it_is_used_to(
    engine: Any, folder: Path, require: Callable[[bool, str], None]
) -> None:
    require(bool(engine.images.list(TRAINER_IMAGE)), f"no image {TRAINER_IMAGE}: run `make image`")
    shutil.copy(Path(trainer.__file__).with_name("torch_at_work.py"), folder / "input")
    program = ("python", "/work/input/torch_at_work.py")
    limits = LIMITS.model_copy(update={"memory_gib": 2})
    runner = DockerRunner(node_id=NODE, image=TRAINER_IMAGE, limits=limits, gpu_uuid=None, command=program)
    await runner.open()

    [event], _ = await finish(await runner.start(folder, "run"))

    await runner.close()
    assert isinstance(event, Finished)
    assert event.scorecard == {"loaded": 2016.0, "reduced": 3.0, "gradients": True}


async def test_a_container_that_does_not_leave_is_killed(start: Start, folder: Path) -> None:
    held = task(settings={"hold_at": 5, "ignore_sigterm": True})
    (folder / "task.json").write_text(held.model_dump_json())
    run = await start()
    async for event in run.events():
        if event.event == "segment":
            await run.stop(1)

    assert (await run.wait()).code == 137
    await run.close()


async def test_what_an_earlier_life_left_is_removed(engine: Any, start: Start, folder: Path) -> None:
    (folder / "task.json").write_text(task(settings={"hold_at": 2}).model_dump_json())
    before = await start()

    later = runner_of("true")
    await later.open()
    await later.close()

    assert engine.containers.list(all=True, filters={"label": f"{NODE_LABEL}={NODE}"}) == []
    await before.close()


async def test_a_container_that_cannot_be_started_is_removed(
    engine: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_toolkit(tmp_path, monkeypatch, "NVIDIA Container Toolkit CLI version 1.18.0")
    runner = DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid="GPU-none-like-that", command=("true",))
    await runner.open()

    with pytest.raises(Unavailable, match="could not be started"):
        await runner.start(folder, "run")

    await runner.close()
    assert not (folder / "out").is_mount()


async def test_output_that_is_no_event_is_refused(start: Start, folder: Path) -> None:
    (folder / "task.json").write_text(task(settings={"babble_at": 0}).model_dump_json())

    with pytest.raises(Unavailable, match="hello"):
        await finish(await start())


async def test_a_missing_engine_says_what_to_do() -> None:
    runner = DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid=None, url="tcp://127.0.0.1:1")

    with pytest.raises(MissingPart, match="Start or update Docker"):
        await runner.open()
    await runner.close()


async def test_a_node_runs_an_attempt_in_a_container(
    engine: Any, coordinator: ScriptedCoordinator, config: NodeConfig, running: Callable[..., Any], tmp_path: Path
) -> None:
    image, _ = engine.images.build(path=str(_context(tmp_path)), rm=True)
    docked = config.model_copy(update={"backend": "docker", "image": image.id, "own_renters": (RENTER.address,)})
    runner = DockerRunner(
        node_id=NODE, image=image.id, limits=LIMITS, gpu_uuid=None, command=("python", "/opt/trainer.py")
    )

    async with running(docked, runner=runner):
        coordinator.say(lease=lease(image=image.id))
        finished = await coordinator.expect_state("FINISHED")

    assert coordinator.states() == ["PREPARING", "RUNNING", "FINISHED"]
    assert len(coordinator.bodies("segment")) == 3
    assert finished.finished_json
    assert list((config.state_dir / "tasks").iterdir()) == []


async def test_a_runtime_that_the_engine_does_not_have_is_named(engine: Any) -> None:
    runner = DockerRunner(node_id=NODE, image=IMAGE, limits=LIMITS, gpu_uuid=None, runtime="none")

    with pytest.raises(MissingPart, match=r"has no runtime 'none'.*/etc/docker/daemon\.json"):
        await runner.open()
    await runner.close()


def test_a_card_is_asked_for_by_the_device_interface_if_that_knows_it(tmp_path: Path) -> None:
    spec = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0"}, {"name": "GPU-fa4e0001"}]}
    (tmp_path / "nvidia.json").write_text(json.dumps(spec))

    assert knows_card(["/none", str(tmp_path)], "GPU-fa4e0001")
    assert not knows_card([str(tmp_path)], "GPU-fa4e0002")
    assert not knows_card([], "GPU-fa4e0001")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.7", "is 1.17.7; 1.17.8 or newer"),
        ("", "is missing; 1.17.8 or newer"),
        ("NVIDIA Container Toolkit CLI version 1.18.0", None),
    ],
)
def test_an_old_container_toolkit_is_refused(
    said: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_toolkit(tmp_path, monkeypatch, said)

    if problem is None:
        require_toolkit()
    else:
        with pytest.raises(MissingPart, match=problem):
            require_toolkit()


def pretend_toolkit(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """A program in the container toolkit's place that says what it is asked for; none if there is nothing to say."""
    if said:
        (folder / "nvidia-ctk").write_text(f"#!/bin/sh\necho '{said}'\n")
        (folder / "nvidia-ctk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")


def _context(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    folder.mkdir()
    shutil.copy(trainer.__file__, folder / "trainer.py")
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY trainer.py /opt/\n")
    return folder
