"""Examples on their way in: whole files from a form, or a large one in pieces that go on where they broke off."""

import os
import re
import shutil
from collections.abc import AsyncIterable
from pathlib import Path, PurePosixPath

import sqlalchemy as sa

from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.studio_tables import drafts
from gristmill_coordinator.studio import goals
from gristmill_coordinator.studio.drafts import Stage, folder
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import BadRequest, Conflict, NoSpace, TooLarge
from gristmill_trainer import catalog

_MAX_NAME = 200
_MAX_DEPTH = 6
_NOTHING = "Nothing of it was kept."
UPLOAD_ID = re.compile(r"[0-9a-f]{64}")


def files(studio: Studio, draft: Row) -> dict[str, int]:
    """What lies in a draft: path -> size in bytes."""
    root = _files(studio, draft)
    return {
        str(path.relative_to(root).as_posix()): path.stat().st_size
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def source(studio: Studio, draft: Row) -> Path:
    """What to look at: the mended copy if there is one, the one file, the folder of all, or the example data."""
    if (mended := mended_copy(studio, draft)).exists():
        return mended
    found = list(files(studio, draft))
    if not found and draft.example:
        return catalog.example(goals.find(studio, draft.goal))
    root = _files(studio, draft)
    return root / found[0] if len(found) == 1 and "/" not in found[0] else root


def mended_copy(studio: Studio, draft: Row) -> Path:
    """Where the copy lies in which something was repaired."""
    return folder(studio, draft.draft_id) / "mended" / "examples.zip"


def clear(studio: Studio, draft: Row) -> None:
    """Delete what was brought."""
    shutil.rmtree(folder(studio, draft.draft_id), ignore_errors=True)


async def add_file(studio: Studio, draft: Row, name: str, chunks: AsyncIterable[bytes]) -> None:
    """Take a whole file; one of that name is replaced.

    Raises:
        BadRequest: its name is none.
        TooLarge, NoSpace: nothing of it is kept.
    """
    final = _inside(_files(studio, draft), name)
    part = _parts(studio, draft) / f"{os.getpid()}-{id(chunks):x}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _disk_explained(), part.open("wb") as file:
            async for chunk in chunks:
                await _count(studio, draft, len(chunk))
                file.write(chunk)
        _put(part, final)
        mended_copy(studio, draft).unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)


def offset(studio: Studio, draft: Row, upload_id: str) -> int:
    """How much of a large file is here."""
    path = _part(studio, draft, upload_id)
    return path.stat().st_size if path.exists() else 0


async def add_piece(
    studio: Studio, draft: Row, upload_id: str, *, name: str, size: int, at: int, chunks: AsyncIterable[bytes]
) -> int:
    """Take the next piece of a large file; how much of it is here then.

    Args:
        at: where the piece begins.
        size: of the whole; once it is there the file counts.
    Raises:
        Conflict: another piece is the next one; details["offset"] says which.
        BadRequest, TooLarge, NoSpace: as add_file().
    """
    final, part = _inside(_files(studio, draft), name), _part(studio, draft, upload_id)
    part.parent.mkdir(parents=True, exist_ok=True)
    with _disk_explained(), part.open("ab") as file:
        if file.tell() != at:
            raise Conflict("Another piece of this file comes next.", effect=_NOTHING, offset=file.tell())
        async for chunk in chunks:
            if file.tell() + len(chunk) > size:
                raise BadRequest("More came than the file is long.", effect=_NOTHING, todo="Choose the file again.")
            await _count(studio, draft, len(chunk))
            file.write(chunk)
        here = file.tell()
    if here == size:
        _put(part, final)
        mended_copy(studio, draft).unlink(missing_ok=True)
    return here


async def _count(studio: Studio, draft: Row, size_bytes: int) -> None:
    """Raises:
    TooLarge: more than one set of examples may have.
    Conflict: the draft was started.
    """
    most, one = studio.settings.max_upload_bytes, drafts.c
    mine = sa.and_(one.draft_id == draft.draft_id, one.job_id.is_(None), one.stage != Stage.LOOKING)
    counted = sa.update(drafts).where(mine, one.size_bytes + size_bytes <= most)
    async with studio.co.store.write() as tx:
        if await tx.run(counted.values(size_bytes=one.size_bytes + size_bytes)):
            return
        fits = await tx.row(sa.select(one.draft_id).where(mine))
    if fits is None:
        raise Conflict("These examples are being used already.", effect=_NOTHING, todo="Begin anew with other ones.")
    raise TooLarge(
        f"These are more than {most / 1e9:.3g} GB, the most that is taken here.",
        effect=_NOTHING,
        todo="Bring fewer or smaller examples; a few hundred of each kind are often enough.",
    )


class _disk_explained:
    """Turns a full disk into a sentence."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, err: BaseException | None, _trace: object) -> None:
        if isinstance(err, OSError):
            raise NoSpace("There is no room for this file.", effect=_NOTHING, todo="Try again later.") from err


def _inside(root: Path, name: str) -> Path:
    """Where a file of this name, as a browser tells it, may lie."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", ".")]
    good = parts and len(parts) <= _MAX_DEPTH and ".." not in parts
    if not good or any(len(part) > _MAX_NAME or not part.isprintable() or ":" in part for part in parts):
        shown = "".join(letter for letter in name if letter.isprintable())[:60]
        raise BadRequest(
            f"A file cannot be called {shown!r} here.", effect=_NOTHING, todo="Give it a short, plain name."
        )
    return root.joinpath(*parts)


def _put(part: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, final)


def _part(studio: Studio, draft: Row, upload_id: str) -> Path:
    if not UPLOAD_ID.fullmatch(upload_id):
        raise BadRequest("That is no upload.", effect=_NOTHING)
    return _parts(studio, draft) / upload_id


def _parts(studio: Studio, draft: Row) -> Path:
    return folder(studio, draft.draft_id) / "parts"


def _files(studio: Studio, draft: Row) -> Path:
    return folder(studio, draft.draft_id) / "files"
