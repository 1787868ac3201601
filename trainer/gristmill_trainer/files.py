"""Files named "answer/name" from a folder or a zip that a stranger may have made: no way out of it, no bombs."""

import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from gristmill_protocol.errors import BadData, TooLarge

MAX_FILES = 1_000_000
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_TOTAL_BYTES = 64 * 1024 * 1024 * 1024
MAX_EXPANSION = 200  # a zip may unpack to this many times its size: blank pictures reach 100, bombs start at 1,000
FREE_EXPANSION_BYTES = 256 * 1024 * 1024  # below this nobody is hurt
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of files in a zip; others can ask for gigabytes of memory
NOTHING_CHARGED = "Nothing was ordered or charged."

# What desktops leave behind.
IGNORED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Files:
    """Names with their sizes in bytes, and how to open a reader for them."""

    sizes: dict[str, int]
    opener: Callable[[], AbstractContextManager[Read]]


def open_folder(root: Path, *, unwrap: bool = True) -> Files:
    """The files below a folder; links are not followed, hidden files not seen.

    Args:
        unwrap: leave out folders around everything.
    Raises:
        BadData: a name that cannot be packed.
        TooLarge: too much of it.
    """
    sizes: dict[str, int] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if wanted(name))
        for name in filter(wanted, names):
            path = Path(folder, name)
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                sizes[_checked(path.relative_to(root).as_posix())] = info.st_size
    prefix = _wrapper(sizes) if unwrap else ""

    def read(name: str) -> bytes:
        path = root / (prefix + name)
        return bounded(path.read_bytes, path.stat().st_size, name)

    return Files(_limited(_unwrapped(sizes, prefix), root.name), lambda: nullcontext(read))


def open_zip(path: Path, *, unwrap: bool = True) -> Files:
    """The files in a zip.

    Args:
        unwrap: leave out folders around everything.
    Raises:
        BadData: it is damaged, encrypted, or names a place outside itself.
        TooLarge: it would unpack to too much.
    """
    with _archive(path) as archive:
        # Not is_dir(): it fails where there is no name at all.
        members = [one for one in archive.infolist() if one.filename[-1:] != "/" and _wanted_path(one.filename)]
    for member in members:
        if member.flag_bits & 0x1:
            raise _bad_zip(path, "it is protected by a password")
        if member.compress_type not in PACKINGS:
            raise _bad_zip(path, f"{member.filename!r} is packed in an unusual way")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _bad_zip(path, f"{member.filename!r} is a link to another place")
    sizes = {_checked(member.filename): member.file_size for member in members}
    if len(sizes) != len(members):
        raise _bad_zip(path, "two of its files have the same name")
    total = sum(sizes.values())
    if total > max(FREE_EXPANSION_BYTES, MAX_EXPANSION * path.stat().st_size):
        raise TooLarge(
            f"{path.name!r} would unpack to {megabytes(total)}, more than {MAX_EXPANSION} times its size.",
            effect=NOTHING_CHARGED,
            todo="Bring the files in a folder instead.",
        )
    prefix = _wrapper(sizes) if unwrap else ""

    @contextmanager
    def opened() -> Iterator[Read]:
        with _archive(path) as archive:
            yield lambda name: bounded(lambda: archive.read(prefix + name), sizes[prefix + name], name)

    return Files(_limited(_unwrapped(sizes, prefix), path.name), opened)


def bounded(read: Callable[[], bytes], size_bytes: int, name: str) -> bytes:
    """What read() gives, unless the file is too large or cannot be read.

    Raises:
        BadData: unreadable or damaged.
        TooLarge: more than MAX_FILE_BYTES.
    """
    if size_bytes > MAX_FILE_BYTES:
        raise TooLarge(
            f"{name!r} has {megabytes(size_bytes)}; a file may have {megabytes(MAX_FILE_BYTES)}.",
            effect=NOTHING_CHARGED,
            todo="Make it smaller or leave it out.",
        )
    try:
        return read()
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as err:
        raise BadData(
            f"{name!r} cannot be read: {err}.", effect=NOTHING_CHARGED, todo="Replace it or leave it out."
        ) from err


def megabytes(size_bytes: int) -> str:
    """A size for people, rounded up."""
    return f"{-(-size_bytes // 1_000_000):,} MB"


def wanted(name: str) -> bool:
    """Is it more than what desktops leave behind?"""
    return not name.startswith(".") and name not in IGNORED


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as err:
        raise _bad_zip(path, str(err)) from err
    with archive:
        yield archive


def _bad_zip(path: Path, reason: str) -> BadData:
    return BadData(
        f"The zip {path.name!r} cannot be used: {reason}.",
        effect=NOTHING_CHARGED,
        todo="Make it again from plain folders, one per answer.",
    )


def _wanted_path(name: str) -> bool:
    # "." and ".." are kept here so that _checked refuses them instead of their being skipped in silence.
    return all(wanted(part) or part in (".", "..") for part in name.split("/"))


def _checked(name: str) -> str:
    """The name itself, if every part of it is a plain one.

    Raises:
        BadData: it is absolute, leads out of its root, or cannot be written in UTF-8.
    """
    parts = name.split("/")
    odd_part = any(part in ("", ".", "..") for part in parts) or re.fullmatch("[A-Za-z]:", parts[0])
    if odd_part or "\\" in name or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise BadData(
            f"The file name {name!r} is not allowed: it leads elsewhere, or has signs that names should not have.",
            effect=NOTHING_CHARGED,
            todo="Rename it to plain letters and digits.",
        )
    return name


def _wrapper(names: dict[str, int]) -> str:
    """The folders around everything, with their slash, when there are more levels than answers need."""
    prefix = ""
    while names and all(name.startswith(prefix) and name[len(prefix) :].count("/") >= 2 for name in names):
        inner = {name[len(prefix) :].partition("/")[0] for name in names}
        if len(inner) > 1:
            break
        prefix += inner.pop() + "/"
    return prefix


def _unwrapped(sizes: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): size for name, size in sizes.items()}


def _limited(sizes: dict[str, int], source: str) -> dict[str, int]:
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise TooLarge(
            f"{source!r} holds {len(sizes):,} files with {megabytes(sum(sizes.values()))}.",
            effect=NOTHING_CHARGED,
            todo=f"Bring at most {MAX_FILES:,} files with {megabytes(MAX_TOTAL_BYTES)}.",
        )
    return sizes
