"""A renter's data set: folders of files, a zip of that, or a table of texts; read safely, packed to the same bytes.

Torch-free: the SDK looks at the data before money is spent, the trainer reads the packed file with the same code.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.errors import BadData, NoSpace
from gristmill_protocol.jobs import ArtifactRef
from gristmill_trainer.files import NOTHING_CHARGED, Files, Read, bounded, open_folder, open_zip
from gristmill_trainer.tables import Table, is_table, read_table

LAYOUT = (
    "Make one folder per answer and put its files inside (a zip of that is fine too), or bring a CSV table with a "
    "column of texts and a column of answers."
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
    roles: dict[str, str]  # which column of a table plays which part; empty for files
    left_out: tuple[str, ...]  # places of a table's rows without a text or an answer
    _places: tuple[tuple[str, str], ...] = field(repr=False)  # (place, answer) in canonical order
    _opener: Callable[[], AbstractContextManager[Read]] = field(repr=False)

    @staticmethod
    def open(
        path: str | Path, *, text_column: str | None = None, answer_column: str | None = None, plain: bool = False
    ) -> "DataView":
        """Look at a folder with one sub-folder per answer, a zip of that, or a CSV or JSON Lines table.

        Args:
            text_column: name of the table's column with the texts; guessed when not given.
            answer_column: name of the column with the answers; guessed when not given.
            plain: take files as they lie in a folder or a zip, without answers.
        Raises:
            BadData: there is nothing usable at that path; the message says why.
            TooLarge: more or larger files than are read.
        """
        path = Path(path)
        if not path.exists():
            raise BadData(f"There is nothing at {str(path)!r}.", effect=NOTHING_CHARGED, todo="Check the path.")
        if path.is_dir():
            return _of_files(str(path), open_folder(path, unwrap=not plain), plain=plain)
        if zipfile.is_zipfile(path):
            files = open_zip(path, unwrap=not plain)
            if plain or len(files.sizes) != 1 or not is_table(name := next(iter(files.sizes))):
                return _of_files(str(path), files, plain=plain)
            with files.opener() as read:
                return _of_table(str(path), read_table(name, read(name), text_column, answer_column))
        if is_table(path.name) and not plain:
            content = bounded(path.read_bytes, path.stat().st_size, path.name)
            return _of_table(str(path), read_table(path.name, content, text_column, answer_column))
        what = f"{path.name!r} is neither a folder, a zip nor a table."
        raise BadData(what, effect=NOTHING_CHARGED, todo=PLAIN_LAYOUT if plain else LAYOUT)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Example]:
        """The examples in canonical order: files by the bytes of their names, rows as they stand."""
        with self._opener() as read:
            for place, answer in self._places:
                yield Example(place, answer, read(place))

    @property
    def is_table(self) -> bool:
        return bool(self.roles)

    def pack(self, dest: str | Path) -> ArtifactRef:
        """Write the data set as one file whose bytes depend only on the examples, and return its address.

        Raises:
            NoSpace: it could not be written; nothing is left behind.
            TooLarge: a table that packs to more than is ever read.
        """
        dest = Path(dest)
        partial = dest.with_name(dest.name + ".part")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for name, content in self._members():
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

    def _members(self) -> Iterator[tuple[str, bytes]]:
        if not self.is_table:
            yield from ((example.place, example.content) for example in self)
            return
        rows = ({"answer": example.answer, "text": example.content.decode()} for example in self)
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


def _of_files(source: str, files: Files, *, plain: bool) -> DataView:
    if not files.sizes:
        todo = PLAIN_LAYOUT if plain else LAYOUT
        raise BadData(f"{source!r} holds no files.", effect=NOTHING_CHARGED, todo=todo)
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
        roles={},
        left_out=(),
        _places=tuple(zip(places, answers, strict=True)),
        _opener=files.opener,
    )


def _of_table(source: str, table: Table) -> DataView:
    texts = {row.place: row.text.encode() for row in table.rows}
    return DataView(
        source=source,
        answers=_count([row.answer for row in table.rows]),
        size_bytes=sum(map(len, texts.values())),
        roles={"text": table.text_column, "answer": table.answer_column},
        left_out=table.left_out,
        _places=tuple((row.place, row.answer) for row in table.rows),
        _opener=lambda: nullcontext(texts.__getitem__),
    )


def _count(answers: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(answers).items()))


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EARLIEST)
    member.create_system = 3  # Unix, wherever it is packed
    member.external_attr = 0o644 << 16
    return member
