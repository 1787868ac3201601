"""A job's files, brought home: each is checked against its hash, and none appears before all have come."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from gristmill_protocol.errors import BadData, NoSpace, WrongHash
from gristmill_protocol.jobs import ArtifactRef
from gristmill_trainer.data import file_ref

Fetch = Callable[[ArtifactRef, BinaryIO], None]  # fills the empty file


def download(outputs: Mapping[str, ArtifactRef], dest: Path, fetch: Fetch) -> Path:
    """All outputs in the folder dest; files of other names there stay as they are.

    Raises:
        WrongHash: what came is not what the job made; nothing was written.
        NoSpace: the disk is full; nothing was written.
        Unavailable: the connection was lost for good; nothing was written.
    """
    finals = [_inside(dest, name) for name in outputs]
    with _full_disk_explained(dest), _arriving(dest) as folder:
        wholes = [_fetched(ref, folder / str(number), fetch) for number, ref in enumerate(outputs.values())]
        for whole, final in zip(wholes, finals, strict=True):
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole, final)
    return dest


def _inside(dest: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise BadData(f"The job names a file {name!r}, which would lie outside {dest}.", effect="Nothing was written.")
    return dest.joinpath(*path.parts)


def _fetched(ref: ArtifactRef, path: Path, fetch: Fetch) -> Path:
    with path.open("xb") as file:
        fetch(ref, file)
    came = file_ref(path)
    if came != ref:
        raise WrongHash(
            f"A file came with the hash {came.sha256[:12]}…, not {ref.sha256[:12]}… as the job recorded.",
            effect="Nothing was written.",
            todo="Try again; if it stays wrong, the coordinator's copy is damaged.",
        )
    return path


@contextmanager
def _arriving(dest: Path) -> Iterator[Path]:
    """A folder inside dest, so that moving a file out of it is one step of the same file system."""
    existed = dest.exists()
    dest.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".arriving-", dir=dest))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(dest.iterdir()):
            dest.rmdir()


@contextmanager
def _full_disk_explained(dest: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(
            f"The disk of {dest} is full.", effect="Nothing was written.", todo="Make room, or name another folder."
        ) from err
