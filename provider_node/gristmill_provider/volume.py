"""Room of a fixed size for what an attempt writes: a file with its own ext4 in it, mounted over the folder.

It needs root. Without, the folder is a plain one, and an attempt could fill the disk; the log says so.
"""

import os
import shutil
import subprocess
from pathlib import Path
from threading import Lock

import structlog

from gristmill_protocol.errors import NoSpace
from gristmill_provider.sandbox import USER_ID

logger = structlog.get_logger(__name__)

_TIMEOUT_S = 30
_SETTING_ASIDE = Lock()  # or two runs would be promised the same room


def make_room(folder: Path, size_bytes: int, *, keep_free_bytes: int) -> bool:
    """Mount size_bytes of room over an existing, empty folder; False: it stays plain.

    Args:
        keep_free_bytes: of the disk it is on.

    Raises:
        NoSpace: the disk has less than both together.
    """
    image = folder.with_suffix(".ext4")
    try:
        with _SETTING_ASIDE:
            _set_aside(image, size_bytes, keep_free_bytes)
        owner = f"root_owner={USER_ID}:{USER_ID}"
        # Discarding would give back what was set aside.
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "20000", "-E", f"{owner},nodiscard", str(image))
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


def _set_aside(image: Path, size_bytes: int, keep_free_bytes: int) -> None:
    """Make a file whose room nobody else can take any more."""
    _require_room(image.parent, size_bytes, keep_free_bytes)
    if os.geteuid() != 0:
        raise PermissionError("only root can mount")
    try:
        # The system call alone: the C library's posix_fallocate writes every byte where a disk does not have it.
        _run("fallocate", "--length", str(size_bytes), str(image))
    except (OSError, subprocess.SubprocessError) as err:
        image.unlink(missing_ok=True)
        _require_room(image.parent, size_bytes, keep_free_bytes)  # it may have filled up meanwhile
        logger.warning("work_folder_not_set_aside", file=str(image), reason=str(err))
        with image.open("wb") as file:
            file.truncate(size_bytes)


def _require_room(folder: Path, size_bytes: int, keep_free_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes + keep_free_bytes:
        raise NoSpace(
            f"The disk has {_gib(free_bytes)} left, an attempt may write {_gib(size_bytes)}, "
            f"and {_gib(keep_free_bytes)} of it stay free.",
            effect="It was not started.",
            todo="The node's owner has to make room, or lower work_gib or keep_free_gib.",
        )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
