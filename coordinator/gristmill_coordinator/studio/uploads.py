"""Examples on their way in: whole files from a form, or a large one in pieces that go on where they broke off."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

import sqlalchemy as sa

from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.studio_tables import drafts
from gristmill_coordinator.studio import goals
from gristmill_coordinator.studio.drafts import Stage, folder, require_changeable, take
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import BadData, BadRequest, Conflict, NoSpace, TooLarge
from gristmill_trainer import catalog

_MAX_NAME_BYTES = 255  # of each part of a path, as file systems have it
_MAX_DEPTH = 6
_NOTHING = "Nothing of it was kept."
UPLOAD_ID = re.compile(r"[0-9a-f]{64}")


def files(studio: Studio, draft: Row) -> dict[str, int]:
    """What lies in a draft: path -> size in bytes."""
    root = _files(studio, draft)
    return {str(path.relative_to(root).as_posix()): _size(path) for path in sorted(root.rglob("*")) if path.is_file()}


def broken_off(studio: Studio, draft: Row) -> int:
    """Bytes of files that are not whole."""
    return sum(map(_size, _parts(studio, draft).glob("*")))


def source(studio: Studio, draft: Row) -> Path:
    """What to look at: the mended copy if there is one, the one file, the folder of all, or the example data.

    Raises:
        BadData: there is nothing.
    """
    if (mended := mended_copy(studio, draft)).exists():
        return mended
    found = list(files(studio, draft))
    if not found and draft.example:
        return catalog.example(goals.find(studio, draft.goal))
    if not found:
        raise BadData("There are no examples.", effect="Nothing was ordered or charged.", todo="Bring some first.")
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
        BadRequest: its name is none, or that of a folder.
        TooLarge, NoSpace: nothing of it is kept.
        Conflict: the examples are being looked at or used.
    """
    final = _inside(_files(studio, draft), name)
    part = _parts(studio, draft) / f"{os.getpid()}-{id(chunks):x}.part"
    try:
        with _explained(name):
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                async for chunk in chunks:
                    await _count(studio, draft, final, len(chunk))
                    file.write(chunk)
            await _take(studio, draft, part, final)
    finally:
        part.unlink(missing_ok=True)


async def offset(studio: Studio, draft: Row, upload_id: str, *, name: str, size: int) -> int:
    """How much of a large file is here; one that came whole is made to count, should it not yet.

    Raises:
        BadRequest, NoSpace, Conflict: as add_file().
    """
    final, part = _inside(_files(studio, draft), name), _part(studio, draft, upload_id)
    if part.exists():
        here = part.stat().st_size
        if here == size:
            with _explained(name):
                await _take(studio, draft, part, final, upload_id)
        return here
    mark = _mark(studio, draft, final)
    return size if _size(final) == size and mark.exists() and mark.read_text() == upload_id else 0


async def add_piece(
    studio: Studio, draft: Row, upload_id: str, *, name: str, size: int, at: int, chunks: AsyncIterable[bytes]
) -> int:
    """Take the next piece of a large file; how much of it is here then.

    Args:
        at: where the piece begins.
        size: of the whole; once it is there the file counts.
    Raises:
        Conflict: another piece is the next one, details["offset"] says which; or as add_file().
        BadRequest, TooLarge, NoSpace: as add_file().
    """
    final, part = _inside(_files(studio, draft), name), _part(studio, draft, upload_id)
    try:
        with _explained(name):
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                if file.tell() != at:
                    raise Conflict("Another piece of this file comes next.", effect=_NOTHING, offset=file.tell())
                async for chunk in chunks:
                    if file.tell() + len(chunk) > size:
                        what, todo = "More came than the file is long.", "Choose the file again."
                        raise BadRequest(what, effect=_NOTHING, todo=todo)
                    await _count(studio, draft, final, len(chunk))
                    file.write(chunk)
                here = file.tell()
            if here == size:
                await _take(studio, draft, part, final, upload_id)
    except BadRequest:
        part.unlink(missing_ok=True)
        raise
    return here


async def _count(studio: Studio, draft: Row, final: Path, more_bytes: int) -> None:
    """Let so many more bytes come.

    Until the limit is reached, what was replaced, refused or given up stays counted; then what is here is measured.

    Args:
        final: a file there is going to be replaced, and does not count.
    Raises:
        TooLarge: more than one set of examples may have.
        Conflict: the examples are being looked at or used.
    """
    most, one = studio.settings.max_upload_bytes, drafts.c
    allowed = most + _size(final)
    open_ = sa.and_(one.draft_id == draft.draft_id, one.job_id.is_(None), one.stage != Stage.LOOKING)
    counted = sa.update(drafts).where(open_, one.size_bytes + more_bytes <= allowed)
    async with studio.co.store.write() as tx:
        if await tx.run(counted.values(size_bytes=one.size_bytes + more_bytes)):
            return
        await require_changeable(tx, draft)
    here = await asyncio.to_thread(lambda: sum(files(studio, draft).values()) + broken_off(studio, draft))
    if here + more_bytes > allowed:
        raise TooLarge(
            f"These are more than {most / 1e9:.3g} GB, the most that is taken here.",
            effect=_NOTHING,
            todo="Bring fewer or smaller examples; a few hundred of each kind are often enough.",
        )
    async with studio.co.store.write() as tx:
        await tx.run(sa.update(drafts).where(open_).values(size_bytes=here + more_bytes))


async def _take(studio: Studio, draft: Row, part: Path, final: Path, upload_id: str = "") -> None:
    """Make a file that came whole one of the examples."""
    mark = _mark(studio, draft, final)

    def put() -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        if upload_id:
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(upload_id)
        os.replace(part, final)
        mended_copy(studio, draft).unlink(missing_ok=True)

    await take(studio, draft, put)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what the disk says to a file of this name into sentences."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as err:
        what = f"{name!r} does not fit: a file and a folder would have one name."
        raise BadRequest(what, effect=_NOTHING, todo="Give one of them another name.") from err
    except FileNotFoundError as err:  # in another tab
        raise Conflict("Your examples were taken out.", effect=_NOTHING, todo="Bring this file again.") from err
    except OSError as err:
        raise NoSpace("There is no room for this file.", effect=_NOTHING, todo="Try again later.") from err


def _inside(root: Path, name: str) -> Path:
    """Where a file of this name, as a browser tells it, may lie."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", ".")]
    good = parts and len(parts) <= _MAX_DEPTH and ".." not in parts
    if not good or any(not part.isprintable() or len(part.encode()) > _MAX_NAME_BYTES or ":" in part for part in parts):
        shown = "".join(letter for letter in name if letter.isprintable())[:60]
        raise BadRequest(
            f"A file cannot be called {shown!r} here.", effect=_NOTHING, todo="Give it a short, plain name."
        )
    return root.joinpath(*parts)


def _size(path: Path) -> int:
    """Bytes of a file; none if it is a folder, or not there any more."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _mark(studio: Studio, draft: Row, final: Path) -> Path:
    """Where it is written which upload a file came with, for those who did not hear that it came."""
    return folder(studio, draft.draft_id) / "marks" / sha256(os.fsencode(final)).hexdigest()


def _part(studio: Studio, draft: Row, upload_id: str) -> Path:
    if not UPLOAD_ID.fullmatch(upload_id):
        raise BadRequest("That is no upload.", effect=_NOTHING)
    return _parts(studio, draft) / upload_id


def _parts(studio: Studio, draft: Row) -> Path:
    return folder(studio, draft.draft_id) / "parts"


def _files(studio: Studio, draft: Row) -> Path:
    return folder(studio, draft.draft_id) / "files"
