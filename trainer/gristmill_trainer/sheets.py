"""Spreadsheets from strangers: the first sheet that holds anything, as a stream within limits; no formula is run."""

import datetime
import io
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill_protocol.errors import BadData, GristmillError, TooLarge
from gristmill_trainer.files import NOTHING_CHARGED, PACKINGS
from gristmill_trainer.findings import Finding
from gristmill_trainer.records import MAX_CELLS, Records, named

if TYPE_CHECKING:
    from openpyxl import Workbook

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_PART_BYTES = 8 * 1024 * 1024  # of what is neither a sheet nor its texts: it is read whole, at many times its size
MAX_COLUMNS = 1_000
_AGAIN = 'In the spreadsheet program, choose "Save as", then CSV or XLSX.'
_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of .xls files, and of .xlsx files with a password
_ERRORS = frozenset({"#N/A", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"})


def is_sheet(source: Path | bytes) -> bool:
    """Is it a spreadsheet, whatever its name says?"""
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            if file.read(len(_OLD)) == _OLD:
                return True
            archive = zipfile.ZipFile(file)
            return {"[Content_Types].xml", "xl/workbook.xml"} <= set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def read_sheet(name: str, content: bytes, *, header: bool) -> Records:
    """The rows of the first sheet that has any; cells hold what their formulas last gave.

    Raises:
        BadData: an old .xls, one with a password, or damaged.
        TooLarge: it unpacks to too much, or has too many columns or cells.
    """
    if content.startswith(_OLD):
        raise _refused(name, content)
    if not is_sheet(content):
        raise BadData(f"{name!r} is no spreadsheet, or a damaged one.", effect=NOTHING_CHARGED, todo=_AGAIN)
    merged = _require_small(name, content)
    try:
        title, more, lines, unknown = _cells(name, content)
    except GristmillError:
        raise
    except Exception as err:  # openpyxl lets out whatever a damaged file makes its parsers raise
        raise BadData(f"The spreadsheet {name!r} is damaged.", effect=NOTHING_CHARGED, todo=_AGAIN) from err
    return named(name, lines, _noticed(title, more, merged, unknown), header=header)


def _cells(name: str, content: bytes) -> tuple[str, int, list[list[str]], list[str]]:
    """The sheet's name, how many more have something on them, its lines, and the cells whose formula has no value."""
    book = _opened(content, data_only=True)
    used = [sheet.title for sheet in book.worksheets if _holds_anything(name, sheet)]
    if not used:
        return "", 0, [], []
    rows = list(_lines(name, book[used[0]]))
    # Reading the formulas takes as long again, and where there is no gap none lacks a value.
    gaps = any(None in row and any(value is not None for value in row) for row in rows)
    unknown = _without_value(name, rows, _opened(content, data_only=False)[used[0]]) if gaps else []
    return used[0], len(used) - 1, [[_text(value) for value in row] for row in rows], unknown


def _holds_anything(name: str, sheet: Any) -> bool:
    """Is there a value on it? Cells that are only coloured are there, too, and have none."""
    return any(value is not None for row in _lines(name, sheet) for value in row)


def _without_value(name: str, rows: list[tuple[Any, ...]], sheet: Any) -> list[str]:
    return [
        f"{_letters(at)}{number}"
        for number, (shown, written) in enumerate(zip(rows, _lines(name, sheet), strict=False), 1)
        for at, (value, formula) in enumerate(zip(shown, written, strict=False))
        if value is None and formula is not None
    ]


def _opened(content: bytes, *, data_only: bool) -> "Workbook":
    from openpyxl import load_workbook

    return load_workbook(io.BytesIO(content), read_only=True, data_only=data_only, keep_links=False)


def _lines(name: str, sheet: Any) -> Iterator[tuple[Any, ...]]:
    """The sheet's rows; a file can claim to have a billion cells in a few bytes, so they are counted."""
    sheet.reset_dimensions()  # they are only what the file says
    seen = 0
    for row in sheet.iter_rows(values_only=True):
        seen += max(1, len(row))
        if len(row) > MAX_COLUMNS and any(value is not None for value in islice(row, MAX_COLUMNS, None)):
            raise _too_large(name, f"has more than {MAX_COLUMNS:,} columns")
        if seen > 4 * MAX_CELLS:
            raise _too_large(name, f"reaches over more than {4 * MAX_CELLS:,} cells")
        yield row[:MAX_COLUMNS]


def _text(value: object) -> str:
    """A cell as a CSV file would have it."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() if value.is_integer():
            return str(int(value))
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
    text = str(value)
    return "" if text in _ERRORS else text


def _noticed(title: str, more: int, merged: bool, unknown: list[str]) -> list[Finding]:
    found = []
    if more:
        sentence = f"There are {more + 1} sheets; only {title!r} is read."
        found.append(Finding("note", sentence, place=title, fix="Move the sheet that matters to the front."))
    if merged:
        sentence = "Some cells are merged; only the first of each such group has a value."
        effect = "The other rows that a merged cell spans lack it."
        found.append(Finding("warning", sentence, effect=effect, fix="Unmerge them, and fill the cells in."))
    if unknown:
        count = f" (cells like that: {len(unknown)})" if len(unknown) > 1 else ""
        sentence = f"Cell {unknown[0]} is a formula without a value{count}."
        fix = "Open it in a spreadsheet program, save it and bring it again."
        found.append(Finding("warning", sentence, place=unknown[0], effect="It counts as empty.", fix=fix))
    return found


def _refused(name: str, content: bytes) -> BadData:
    if "EncryptedPackage".encode("utf-16-le") in content:
        what, todo = f"The spreadsheet {name!r} is protected by a password.", "Save it without a password."
    else:
        what, todo = f"{name!r} is a spreadsheet of the old kind (.xls), which is not read.", _AGAIN
    return BadData(what, effect=NOTHING_CHARGED, todo=todo)


def _require_small(name: str, content: bytes) -> bool:
    """Whether the file joins cells.

    Raises:
        TooLarge: it unpacks to too much.
        BadData: it is packed in an unusual way.
    """
    merged = False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
            raise _too_large(name, f"would unpack to more than {MAX_UNPACKED_BYTES // 1024**2} MB")
        for part in parts:
            if part.compress_type not in PACKINGS:
                raise BadData(f"The spreadsheet {name!r} is damaged.", effect=NOTHING_CHARGED, todo=_AGAIN)
            is_rows = part.filename.startswith("xl/worksheets/") or part.filename.endswith("/sharedStrings.xml")
            if not is_rows and part.filename.endswith((".xml", ".rels")) and part.file_size > MAX_PART_BYTES:
                raise _too_large(name, f"has a part {part.filename!r} of more than {MAX_PART_BYTES // 1024**2} MB")
            if part.filename.startswith("xl/worksheets/") and not merged:
                merged = _holds(archive, part, b"<mergeCell ")
    return merged


def _holds(archive: zipfile.ZipFile, part: zipfile.ZipInfo, wanted: bytes) -> bool:
    kept = b""
    try:
        with archive.open(part) as file:
            while block := file.read(1024 * 1024):
                if wanted in kept + block:
                    return True
                kept = block[-len(wanted) :]
    except (OSError, ValueError, RuntimeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False  # the reader will say so
    return False


def _letters(at: int) -> str:
    """The name of a column, counted from 0: A, B, ... Z, AA."""
    letters, at = "", at + 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _too_large(name: str, why: str) -> TooLarge:
    return TooLarge(f"{name!r} {why}.", effect=NOTHING_CHARGED, todo="Bring a smaller table, or save it as CSV.")
