"""Task folders: one for each run, deleted with all that the run left in it.

Where a run's work folder is a plain one (volume.py says when), a container leaves files of another account in it. Only
that account may delete them, so a container of the same kind does.
"""

import asyncio
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import structlog

from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_provider.runner import Runner
from gristmill_provider.volume import take_back

logger = structlog.get_logger(__name__)


async def new_task_dir(runner: Runner, tasks_dir: Path, name: str) -> Path:
    """An empty task folder; another user than ours may enter it, once it is shown to a container.

    Raises:
        Unavailable: an earlier one of that name cannot be deleted.
    """
    folder = tasks_dir / name
    if not await remove_task_dir(runner, folder):
        raise Unavailable(f"{folder} is left of an earlier run.", todo=f"Delete it: sudo rm -r {folder}")
    for part in (folder, folder / "input", folder / "out"):
        part.mkdir(parents=True)
        part.chmod(0o755)
    return folder


async def clear_tasks(runner: Runner, tasks_dir: Path) -> None:
    """Remove the folders of an earlier life, and what is mounted in them; nothing may run in them any more."""
    for folder in await asyncio.to_thread(_folders, tasks_dir):
        await remove_task_dir(runner, folder)


async def remove_task_dir(runner: Runner, folder: Path) -> bool:
    """Delete a task folder whose runs are over; False: something stays, which the log tells the owner."""
    if await asyncio.to_thread(_deleted, folder):
        return True
    try:
        await runner.empty(folder)
        await asyncio.to_thread(shutil.rmtree, folder)
    except (GristmillError, OSError, RecursionError) as err:
        logger.warning("task_folder_not_removed", folder=str(folder), reason=str(err))
        return False
    return True


def _folders(tasks_dir: Path) -> list[Path]:
    tasks_dir.mkdir(parents=True, exist_ok=True)
    return list(tasks_dir.iterdir())


def _deleted(folder: Path) -> bool:
    """Whether it is gone, after all of it was deleted that we may delete."""
    with suppress(OSError, subprocess.SubprocessError):
        take_back(folder / "out")
    with suppress(RecursionError):  # of folders in folders without end, which a job may make
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
