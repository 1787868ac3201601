"""Tables of texts and answers: CSV and JSON Lines, with the two columns guessed when nobody names them."""

import csv
import io
import json
from dataclasses import dataclass

from gristmill_protocol.errors import BadData
from gristmill_trainer.files import NOTHING_CHARGED

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
TEXT_NAMES = ("text", "message", "content", "sentence", "body", "description", "comment", "review", "question", "title")
ANSWER_NAMES = ("label", "answer", "category", "class", "topic", "tag", "target", "type", "sentiment", "intent")


@dataclass(frozen=True)
class Row:
    place: str  # "row 12", counted from 1 without the header
    text: str
    answer: str


@dataclass(frozen=True)
class Table:
    """The usable rows of a table."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]  # places of rows that lack a text or an answer
    text_column: str
    answer_column: str


def is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def read_table(name: str, content: bytes, text_column: str | None, answer_column: str | None) -> Table:
    """The table in a file's content.

    Raises:
        BadData: wrong encoding, damaged, or its columns cannot be told apart.
    """
    records = _records(name, _decoded(name, content))
    if not records:
        raise BadData(f"{name!r} holds no rows.", effect=NOTHING_CHARGED, todo="Add rows with a text and an answer.")
    columns = list(dict.fromkeys(column for record in records for column in record))
    text_column, answer_column = _roles(name, records, columns, text_column, answer_column)
    rows, left_out = [], []
    for number, record in enumerate(records, start=1):
        row = Row(f"row {number}", record.get(text_column, "").strip(), record.get(answer_column, "").strip())
        if row.text and row.answer:
            rows.append(row)
        else:
            left_out.append(row.place)
    return Table(tuple(rows), tuple(left_out), text_column, answer_column)


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise BadData(
            f"{name!r} is not written in UTF-8: line {line} has the byte 0x{content[err.start]:02x}.",
            effect=NOTHING_CHARGED,
            todo='Save it again as "CSV UTF-8".',
        ) from err


def _records(name: str, text: str) -> list[dict[str, str]]:
    if name.lower().endswith((".jsonl", ".ndjson")):
        return [_json_record(name, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", strict=True)
    try:
        return [{key: value for key, value in record.items() if isinstance(key, str)} for record in reader]
    except csv.Error as err:
        raise BadData(
            f"{name!r} is damaged near line {reader.line_num}: {err}.",
            effect=NOTHING_CHARGED,
            todo="Check the quotes on that line.",
        ) from err


def _json_record(name: str, number: int, line: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadData(
            f"Line {number} of {name!r} is not a JSON object.",
            effect=NOTHING_CHARGED,
            todo='Write one object a line, such as {"text": "...", "label": "..."}.',
        )
    # JSON can spell half a character (a lone surrogate), which no other format can hold.
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    return {
        key.encode(errors="replace").decode(): text.encode(errors="replace").decode() for key, text in texts.items()
    }


def _roles(
    name: str, records: list[dict[str, str]], columns: list[str], text: str | None, answer: str | None
) -> tuple[str, str]:
    for column in (text, answer):
        if column is not None and column not in columns:
            raise _unclear(name, columns, f"has no column {column!r}")
    answer = answer or _named(columns, ANSWER_NAMES, text) or _fewest_values(records, columns, text)
    text = text or _named(columns, TEXT_NAMES, answer) or _longest(records, columns, answer)
    if answer is None or text is None or answer == text:
        raise _unclear(name, columns, "does not show which column holds the texts and which the answers")
    return text, answer


def _unclear(name: str, columns: list[str], reason: str) -> BadData:
    return BadData(
        f"{name!r} {reason}; its columns are {', '.join(map(repr, columns))}.",
        effect=NOTHING_CHARGED,
        todo='Name the two columns "text" and "label" in the first line.',
        columns=columns,
    )


def _named(columns: list[str], names: tuple[str, ...], taken: str | None) -> str | None:
    by_name = {column.strip().lower(): column for column in columns if column != taken}
    return next((by_name[name] for name in names if name in by_name), None)


def _fewest_values(records: list[dict[str, str]], columns: list[str], taken: str | None) -> str | None:
    """The column that repeats itself most, if each of its values stands for five rows or more."""
    counts = {column: len({record.get(column, "") for record in records}) for column in columns if column != taken}
    repeating = [column for column, count in counts.items() if 2 <= count <= len(records) // 5]
    return min(repeating, key=lambda column: counts[column], default=None)


def _longest(records: list[dict[str, str]], columns: list[str], taken: str | None) -> str | None:
    lengths = {column: sum(len(record.get(column, "")) for record in records) for column in columns if column != taken}
    return max(lengths, key=lambda column: lengths[column], default=None)
