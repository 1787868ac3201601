"""Rows of named cells from the text files that people keep tables in: separated values and JSON Lines."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gristmill_protocol.errors import BadData, TooLarge
from gristmill_trainer import findings
from gristmill_trainer.files import MAX_FILE_BYTES, NOTHING_CHARGED
from gristmill_trainer.findings import Finding, Repair, left_out

MAX_CELLS = 4_000_000  # that hold something; each takes some hundred bytes of memory
AGAIN = "Open it in a spreadsheet program and save it again as a CSV file."
_WINDOWS = "cp1252"


@dataclass(frozen=True)
class Records:
    """A table as it was read."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]  # (number, counted from 1 without the header; column -> cell)
    noticed: tuple[Finding, ...] = ()
    has_header: bool = True  # whether the first line names the columns

    def some(self, column: str, count: int) -> tuple[str, ...]:
        """The first values of a column."""
        found: list[str] = []
        for _, cells in self.rows:
            if len(found) == count:
                break
            if value := cells.get(column, "").strip():
                found.append(value)
        return tuple(found)


def read_separated(name: str, content: bytes, *, tabs: bool, header: bool) -> Records:
    """The rows of a CSV or TSV file.

    Raises:
        BadData: it holds no text, or a quotation mark that never closes.
        TooLarge: more than MAX_CELLS.
    """
    text, noticed = _decoded(name, content)
    delimiter = "\t" if tabs else max(",;\t", key=text.partition("\n")[0].count)
    return named(name, _lines(name, text, delimiter), noticed, header=header)


def read_json_lines(name: str, content: bytes) -> Records:
    """The objects of a JSON Lines file; lines that hold none are left out.

    Raises:
        BadData: not one line is an object.
        TooLarge: more than MAX_CELLS.
    """
    text, noticed = _decoded(name, content)
    rows, broken, cells = [], [], 0
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    for number, (line_number, line) in enumerate(lines, 1):
        record = _json_record(line)
        if record is None:
            broken.append(f"line {line_number}")
            continue
        rows.append((number, record))
        cells += len(record)
        _require_cells(name, cells)
    if broken and not rows:
        raise BadData(
            f"No line of {name!r} is a JSON object.",
            effect=NOTHING_CHARGED,
            todo='Write one object a line, such as {"text": "...", "label": "..."}.',
        )
    fix = "Correct those lines if they matter."
    noticed = [*noticed, *left_out(broken, f"a line of {name!r} that is broken", repair="rows", fix=fix)]
    columns = dict.fromkeys(column for _, record in rows for column in record)
    return Records(tuple(columns), tuple(rows), tuple(noticed), has_header=False)


def named(name: str, lines: Iterable[list[str]], noticed: list[Finding], *, header: bool) -> Records:
    """Rows under the names of their columns.

    Args:
        lines: all lines; empty ones are passed over.
        header: whether the first one has the names.
    """
    columns: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    ragged: list[str] = []
    cells, number = 0, 0
    for line in lines:
        if not any(cell.strip() for cell in line):
            continue
        if not columns:
            columns = _unique(line if header else [""] * len(line))
            if header:
                continue
        number += 1
        if any(cell.strip() for cell in line[len(columns) :]):
            ragged.append(f"row {number}")
            continue
        rows.append((number, {column: cell for column, cell in zip(columns, line, strict=False) if cell}))
        cells += len(rows[-1][1])
        _require_cells(name, cells + len(columns))
    why = f"more cells than there are columns ({len(columns)})"
    fix = "Put quotation marks around texts that hold a comma, or correct those rows."
    return Records(
        tuple(columns), tuple(rows), (*noticed, *left_out(ragged, why, repair="rows", fix=fix)), has_header=header
    )


def nameless(number: int) -> str:
    """What a column without a name is called.

    Args:
        number: counted from 1.
    """
    return f"column {number}"


def _decoded(name: str, content: bytes) -> tuple[str, list[Finding]]:
    """The text in a file, and a finding if it is not written in UTF-8."""
    line = 1
    try:
        if b"\0" not in content:
            return _readable(name, content.decode("utf-8-sig")), []
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
    text, encoding = _guessed(content)
    way = "an older way (Windows, Western European)" if encoding == _WINDOWS else "a rare way (UTF-16)"
    finding = Finding(
        "error",
        f"{name!r} was most likely saved in {way}, as line {line} shows.",
        place=f"line {line}",
        effect="Read the wrong way, letters such as ü and é turn into others.",
        fix='See that they are right in the examples, or save it again as "CSV UTF-8".',
        repair=Repair(findings.ENCODING, "The letters are right"),
    )
    return _readable(name, text), [finding]


def _guessed(content: bytes) -> tuple[str, str]:
    """The text by the likeliest of the older encodings, and its name."""
    wide = _wide(content)
    if wide is not None:
        try:
            return content.decode(wide).removeprefix("\ufeff"), "utf-16"
        except UnicodeDecodeError:
            pass
    return content.decode(_WINDOWS, errors="replace"), _WINDOWS


def _wide(content: bytes) -> str | None:
    """Which UTF-16 it may be: by its mark, or by the zeros that Western texts have in every other place."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16-le" if content[0] == 0xFF else "utf-16-be"
    start = content[:1_000]
    zeros = [start[0::2].count(0), start[1::2].count(0)]
    if 4 * max(zeros) < len(start):
        return None
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _readable(name: str, text: str) -> str:
    """The text itself, unless it is full of signs that no text has."""
    start = text[:10_000]
    strange = sum(char == "\ufffd" or (unicodedata.category(char) == "Cc" and char not in "\t\n\r\f") for char in start)
    if "\0" in text or 20 * strange > len(start):
        raise BadData(
            f"{name!r} holds no text that can be read.",
            effect=NOTHING_CHARGED,
            todo="See that it is the right file. " + AGAIN,
        )
    return text


def _lines(name: str, text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_FILE_BYTES)  # of the whole process; a text that we read is never longer
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            open_quote = "unexpected end" in str(err)
            what = (
                "a quotation mark opens that is never closed" if open_quote else "a quotation mark stands inside a cell"
            )
            raise BadData(
                f"{name!r} cannot be read: on line {start} {what}.",
                effect="Everything after it would be one cell. " + NOTHING_CHARGED,
                todo=f"Correct that line. Or: {AGAIN[0].lower()}{AGAIN[1:]}",
            ) from err


def _json_record(line: str) -> dict[str, str] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    # JSON can spell half a character (a lone surrogate), which no other format can hold.
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    return {
        key.encode(errors="replace").decode(): text.encode(errors="replace").decode() for key, text in texts.items()
    }


def _unique(names: list[str]) -> list[str]:
    """Column names, each there once; those without a name are numbered."""
    found: list[str] = []
    taken: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        plain = name.strip() or nameless(number)
        taken[plain] = taken.get(plain, 0) + 1
        found.append(plain if taken[plain] == 1 else f"{plain} ({taken[plain]})")
    return found


def _require_cells(name: str, cells: int) -> None:
    if cells > MAX_CELLS:
        raise TooLarge(
            f"{name!r} has more than {MAX_CELLS:,} cells.",
            effect=NOTHING_CHARGED,
            todo="Leave out columns that are not needed, or bring fewer rows.",
        )
