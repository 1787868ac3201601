"""Task folders of a node that is not root, with what real containers leave in them."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill_protocol.errors import Unavailable
from gristmill_provider.config import Limits
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.runner import ProcessRunner
from gristmill_provider.sandbox import USER_ID
from gristmill_provider.task_dirs import clear_tasks, new_task_dir, remove_task_dir

IMAGE = "python:3.11-slim-bookworm"
NOBODY = 65534
SOCKET = Path("/var/run/docker.sock")

# As the recipe `script` does, and as a job may that means harm: closed folders, and some deeper than Python goes.
LEAVES = """
import os, shutil
os.chdir("/work/out")
shutil.rmtree("result")
for place in ("result", "work/closed"):
    os.makedirs(place)
    open(f"{place}/file", "w").close()
os.chmod("work/closed", 0)
os.symlink("/work/task.json", "work/link")
for _ in range(2000):
    os.mkdir("deep")
    os.chdir("deep")
"""


@pytest.fixture
def tasks_dir() -> Iterator[Path]:
    """A folder of an account that is not root, which this process has while the test runs; it may use the engine."""
    before = os.geteuid(), os.getegid()
    if before[0] == 0:
        if SOCKET.exists():
            os.setegid(SOCKET.stat().st_gid)
        os.seteuid(NOBODY)
    made = Path(tempfile.mkdtemp())
    try:
        yield made
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        shutil.rmtree(made)


@pytest.fixture
def shallow() -> Iterator[None]:
    """Python goes no deeper than it does where no library has changed that."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture
async def left(engine: Any, tasks_dir: Path) -> AsyncIterator[DockerRunner]:
    """A runner that has run a job in the folder `probe` and left its files there."""
    limits = Limits(memory_gib=0.25, pids=64, work_gib=0.02, keep_free_gib=0)
    runner = DockerRunner(
        node_id="node_of_task_tests", image=IMAGE, limits=limits, gpu_uuid=None, command=("python", "-c", LEAVES)
    )
    await runner.open()
    run = await runner.start(await new_task_dir(runner, tasks_dir, "probe"), "probe")
    ended = await run.wait()
    await run.close()
    assert ended.code == 0, ended
    work = tasks_dir / "probe" / "out" / "work"
    assert work.stat().st_uid == USER_ID
    with pytest.raises(PermissionError):
        (work / "link").unlink()
    yield runner
    await runner.close()


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
async def test_what_a_job_leaves_is_deleted_without_root(left: DockerRunner, tasks_dir: Path) -> None:
    assert await remove_task_dir(left, tasks_dir / "probe")

    assert os.listdir(tasks_dir) == []


@pytest.mark.docker
@pytest.mark.slow
async def test_what_an_earlier_life_left_is_deleted_without_root(left: DockerRunner, tasks_dir: Path) -> None:
    await clear_tasks(left, tasks_dir)

    assert os.listdir(tasks_dir) == []


@pytest.mark.docker
@pytest.mark.slow
async def test_a_folder_is_empty_whatever_was_left_under_its_name(left: DockerRunner, tasks_dir: Path) -> None:
    folder = await new_task_dir(left, tasks_dir, "probe")

    assert list((folder / "out").iterdir()) == []


async def test_what_cannot_be_deleted_is_told(
    tasks_dir: Path, capsys: pytest.CaptureFixture[str], require: Callable[[bool, str], None]
) -> None:
    require(os.getuid() == 0, "only root can make files of another account")
    folder = await new_task_dir(ProcessRunner(), tasks_dir, "probe")
    (folder / "out" / "result").mkdir()
    (folder / "out" / "result" / "file").touch()
    os.seteuid(0)
    os.chown(folder / "out" / "result", USER_ID, USER_ID)
    os.seteuid(NOBODY)

    assert not await remove_task_dir(ProcessRunner(), folder)
    with pytest.raises(Unavailable, match="sudo rm -r"):
        await new_task_dir(ProcessRunner(), tasks_dir, "probe")

    told = "".join(capsys.readouterr())
    assert "task_folder_not_removed" in told
    assert "Permission denied" in told
