"""A disk of a few megabytes that can be filled to the last byte."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self) -> None:
        with self._filler.open("ab") as file:
            for step_bytes in (1024**2, 4096):
                while self._grows(file.fileno(), step_bytes):
                    pass

    def make_room(self) -> None:
        self._filler.unlink()

    def _grows(self, file: int, step_bytes: int) -> bool:
        try:
            os.posix_fallocate(file, os.fstat(file).st_size, step_bytes)
        except OSError as err:
            if err.errno != errno.ENOSPC:
                raise
            return False
        return True


@contextmanager
def small_disk(root: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mounted over a folder; it needs root."""
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", root], check=True)
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)
