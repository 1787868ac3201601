"""Room of a fixed size for what an attempt writes: a file with its own ext4 in it, mounted over the folder.

It needs root. Without, the folder is a plain one, and an attempt could fill the disk; the log says so.
"""

import os
import shutil
import subprocess
from pathlib import Path

import structlog

from gristmill_protocol.errors import NoSpace
from gristmill_provider.sandbox import USER_ID

logger = structlog.get_logger(__name__)

_TIMEOUT_S = 30


def make_room(folder: Path, size_bytes: int) -> bool:
    """Mount size_bytes of room over an existing, empty folder; False: it stays plain.

    Raises:
        NoSpace: the disk has less than that.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise NoSpace(
            f"The disk has {_gib(free_bytes)} left, and an attempt may write {_gib(size_bytes)}.",
            effect="It was not started.",
            todo="The node's owner has to make room, or lower work_gib.",
        )
    image = folder.with_suffix(".ext4")
    try:
        if os.geteuid() != 0:
            raise PermissionError("only root can mount")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        owner = f"root_owner={USER_ID}:{USER_ID}"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "20000", "-E", owner, str(image))
        _run("mount", "-o", "loop,nosuid,nodev,noexec", str(image), str(folder))
    except (OSError, subprocess.SubprocessError) as err:
        logger.warning("work_folder_unlimited", folder=str(folder), reason=str(err))
        image.unlink(missing_ok=True)
        # Made by us, so that we can delete what the container's user puts there.
        for part in (folder, folder / "states", folder / "result"):
            part.mkdir(exist_ok=True)
            part.chmod(0o777)
        return False
    return True


def take_back(folder: Path) -> None:
    """Unmount what make_room mounted and delete it; nothing happens where it mounted nothing."""
    if folder.is_mount():
        _run("umount", "--lazy", str(folder))
    folder.with_suffix(".ext4").unlink(missing_ok=True)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
