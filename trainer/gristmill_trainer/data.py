"""A renter's data set: folders of files, a zip of that, or a table of texts; read safely, packed to the same bytes.

Torch-free: the SDK looks at the data before money is spent, the trainer reads the packed file with the same code.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.errors import BadData, NoSpace
from gristmill_protocol.jobs import ArtifactRef
from gristmill_trainer.files import NOTHING_CHARGED, Files, Read, bounded, open_folder, open_zip, wanted
from gristmill_trainer.findings import Finding
from gristmill_trainer.sheets import is_sheet
from gristmill_trainer.tables import Role, Table, is_table, read_table

LAYOUT = (
    "Make one folder per answer and put its files inside (a zip of that is fine too), or bring a table (CSV or XLSX) "
    "with a column of texts and a column of answers."
)
PLAIN_LAYOUT = "Bring a folder of files, or a zip of one."
_ROWS_NAME = "rows.jsonl"  # the single member of a packed table
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format knows no earlier time
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Example:
    """One thing to learn from."""

    place: str  # where a person finds it: "cats/01.png" or "row 12"
    answer: str
    content: bytes  # of the file, or the text in UTF-8


@dataclass(frozen=True)
class DataView:
    """An opened data set. Files are read one at a time as they are asked for; tables are held whole."""

    source: str
    answers: dict[str, int]  # examples per answer, sorted by name
    size_bytes: int  # of all contents
    guesses: tuple[Role, ...]  # which column of a table plays which part; empty for files
    noticed: tuple[Finding, ...]  # when it was opened; rows that are left out, for instance
    _places: tuple[tuple[str, str], ...] = field(repr=False)  # (place, answer) in canonical order
    _opener: Callable[[], AbstractContextManager[Read]] = field(repr=False)

    @staticmethod
    def open(
        path: str | Path,
        *,
        text_column: str | None = None,
        answer_column: str | None = None,
        plain: bool = False,
        repairs: Collection[str] = (),
    ) -> "DataView":
        """Look at a folder with one sub-folder per answer, a zip of that, or a table (CSV, TSV, JSON Lines, XLSX).

        Args:
            text_column: name of the table's column with the texts; guessed when not given.
            answer_column: name of the column with the answers; guessed when not given.
            plain: take files as they lie in a folder or a zip, without answers.
            repairs: ways of reading a table that somebody agreed to (findings.ENCODING, findings.HEADER).
        Raises:
            BadData: there is nothing usable at that path; the message says why.
            TooLarge: more or larger files than are read.
        """
        path = Path(path)
        if not path.exists():
            raise BadData(f"There is nothing at {str(path)!r}.", effect=NOTHING_CHARGED, todo="Check the path.")
        path = path if plain else _only_file(path)
        files = _files(path, plain=plain)
        if not plain and len(files.sizes) == 1 and is_table(name := next(iter(files.sizes))):
            with files.opener() as read:
                table = read_table(name.rpartition("/")[2], read(name), text_column, answer_column, repairs=repairs)
            return _of_table(path.name, table)
        return _of_files(path.resolve().name, files, plain=plain)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Example]:
        """The examples in canonical order: files by the bytes of their names, rows as they stand."""
        with self._opener() as read:
            for place, answer in self._places:
                yield Example(place, answer, read(place))

    def at(self, places: Iterable[str]) -> Iterator[Example]:
        """The examples at these places; those that are not there are passed over."""
        answers = dict(self._places)
        with self._opener() as read:
            for place in places:
                if place in answers:
                    yield Example(place, answers[place], read(place))

    def first(self, count: int, *, answers: int) -> list[str]:
        """The places of the first few examples of each of the first few answers."""
        found: dict[str, list[str]] = {answer: [] for answer in list(self.answers)[:answers]}
        for place, answer in self._places:
            if answer in found and len(found[answer]) < count:
                found[answer].append(place)
        return [place for places in found.values() for place in places]

    @property
    def roles(self) -> dict[str, str]:
        """Which column of a table plays which part; empty for files."""
        return {role.name: role.column for role in self.guesses}

    @property
    def is_table(self) -> bool:
        return bool(self.guesses)

    def pack(
        self, dest: str | Path, *, leaves_out: Collection[str] = (), renames: Mapping[str, str] | None = None
    ) -> ArtifactRef:
        """Write the data set as one file whose bytes depend only on the examples, and return its address.

        Args:
            leaves_out: places of examples that are not written.
            renames: answer -> what it is called in the file.
        Raises:
            NoSpace: it could not be written; nothing is left behind.
            TooLarge: a table that packs to more than is ever read.
        """
        dest = Path(dest)
        partial = dest.with_name(dest.name + ".part")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for name, content in self._members(leaves_out, renames or {}):
                    archive.writestr(_member(name), content)
            os.replace(partial, dest)
        except OSError as err:
            raise NoSpace(
                f"The data could not be packed into {str(dest)!r}: {err.strerror}.",
                effect=NOTHING_CHARGED,
                todo="Free some disk space, or name another folder.",
            ) from err
        finally:
            partial.unlink(missing_ok=True)
        return file_ref(dest)

    def _members(self, leaves_out: Collection[str], renames: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        kept = [(place, answer) for place, answer in self._places if place not in leaves_out]
        with self._opener() as read:
            if not self.is_table:
                for name, place in _renamed(kept, renames).items():
                    yield name, read(place)
                return
            rows = ({"answer": renames.get(answer, answer), "text": read(place).decode()} for place, answer in kept)
            content = b"".join(canonical_json(row) + b"\n" for row in rows)
        # What could not be opened again is refused here, before it is uploaded.
        yield _ROWS_NAME, bounded(lambda: content, len(content), self.source)


def file_ref(path: Path) -> ArtifactRef:
    """The content address of a file."""
    digest, size_bytes = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return ArtifactRef(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _only_file(path: Path) -> Path:
    """The file in a folder that holds nothing else, as when one table or zip was dropped; else the path itself."""
    if not path.is_dir():
        return path
    inside = [one for one in path.iterdir() if wanted(one.name)]
    return inside[0] if len(inside) == 1 and inside[0].is_file() and not inside[0].is_symlink() else path


def _files(path: Path, *, plain: bool) -> Files:
    if path.is_dir():
        return open_folder(path, unwrap=not plain)
    if not path.stat().st_size:
        todo = "Save it again, and see that it is the right file."
        raise BadData(f"{path.name!r} is empty.", effect=NOTHING_CHARGED, todo=todo)
    if zipfile.is_zipfile(path) and (plain or not is_sheet(path)):
        return open_zip(path, unwrap=not plain)
    if plain or not (is_table(path.name) or is_sheet(path)):
        what = f"{path.name!r} is neither a folder, a zip nor a table."
        raise BadData(what, effect=NOTHING_CHARGED, todo=PLAIN_LAYOUT if plain else LAYOUT)
    name = path.name if is_table(path.name) else f"{path.name}.xlsx"
    size_bytes = path.stat().st_size
    return Files({name: size_bytes}, lambda: nullcontext(lambda _: bounded(path.read_bytes, size_bytes, name)))


def _of_files(source: str, files: Files, *, plain: bool) -> DataView:
    if not files.sizes:
        todo = PLAIN_LAYOUT if plain else LAYOUT
        raise BadData(f"{source!r} holds no files.", effect=NOTHING_CHARGED, todo=todo)
    inner = [] if plain else [name for name in files.sizes if name.lower().endswith(".zip")]
    if inner:
        raise BadData(
            f"There is another zip in {source!r}: {inner[0]!r}.",
            effect="What is in it would not be seen. " + NOTHING_CHARGED,
            todo="Unpack it, and make one zip of plain folders, one per answer.",
        )
    loose = [] if plain else [name for name in files.sizes if "/" not in name]
    if loose:
        raise BadData(
            f"{loose[0]!r} lies outside any answer's folder (files like that: {len(loose)}).",
            effect=NOTHING_CHARGED,
            todo=LAYOUT,
        )
    places = sorted(files.sizes, key=str.encode)
    answers = ["" if plain else place.partition("/")[0] for place in places]
    return DataView(
        source=source,
        answers={} if plain else _count(answers),
        size_bytes=sum(files.sizes.values()),
        guesses=(),
        noticed=(),
        _places=tuple(zip(places, answers, strict=True)),
        _opener=files.opener,
    )


def _of_table(source: str, table: Table) -> DataView:
    texts = {row.place: row.text.encode() for row in table.rows}
    return DataView(
        source=source,
        answers=_count([row.answer for row in table.rows]),
        size_bytes=sum(map(len, texts.values())),
        guesses=table.roles,
        noticed=table.noticed,
        _places=tuple((row.place, row.answer) for row in table.rows),
        _opener=lambda: nullcontext(texts.__getitem__),
    )


def _renamed(kept: list[tuple[str, str]], renames: Mapping[str, str]) -> dict[str, str]:
    """Name in the file -> place, by name; a file that joins another answer's folder gets a name that is free there."""
    names = {place: place for place, answer in kept if answer not in renames}
    for place, answer in kept:
        if answer in renames:
            wanted_name = f"{renames[answer]}/{place.partition('/')[2]}"
            name, number = wanted_name, 2
            while name in names:
                path = PurePosixPath(wanted_name)
                name, number = str(path.with_stem(f"{path.stem} ({number})")), number + 1
            names[name] = place
    return dict(sorted(names.items(), key=lambda item: item[0].encode()))


def _count(answers: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(answers).items()))


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EARLIEST)
    member.create_system = 3  # Unix, wherever it is packed
    member.external_attr = 0o644 << 16
    return member
