"""Free space for what a node must not lose."""

import shutil
from pathlib import Path

from gristmill_protocol.errors import NoSpace
from gristmill_provider.exit_codes import ExitCode, NodeEnded

_LEAST_BYTES = 200 * 10**6  # the journal, and the states of a small job


def free_bytes(place: Path) -> int:
    """Of the disk that a folder is on, or will be on."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def require_room(state_dir: Path) -> None:
    """Raises:
    NodeEnded: the disk is so full that what the node signs could not be kept.
    """
    free = free_bytes(state_dir)
    if free < _LEAST_BYTES:
        full = NoSpace(
            f"The disk of {state_dir} has {free // 10**6} MB left; a node needs {_LEAST_BYTES // 10**6} MB.",
            effect="It was not started: what it signs could not be kept.",
            todo="Make room (docker system prune frees some), or name another state_dir.",
        )
        raise NodeEnded(ExitCode.DISK, full)
