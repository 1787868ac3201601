"""Tables of texts and answers, with the two columns guessed when nobody names them, and what is odd about them."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gristmill_protocol.errors import BadData
from gristmill_trainer import findings, sheets
from gristmill_trainer.files import NOTHING_CHARGED
from gristmill_trainer.findings import Finding, Repair, left_out
from gristmill_trainer.records import Records, read_json_lines, read_separated

SEPARATED, LINES, SHEETS = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".xlsx", ".xls")
SUFFIXES = SEPARATED + LINES + SHEETS
TEXT_NAMES = ("text", "message", "content", "sentence", "body", "description", "comment", "review", "question", "title")
ANSWER_NAMES = ("label", "answer", "category", "class", "topic", "tag", "target", "type", "sentiment", "intent")
NAMED, GUESSED = 0.9, 0.5  # how sure a column is by its name, and by what is in it
_SHOWN = 3  # values of a column


@dataclass(frozen=True)
class Row:
    place: str  # "row 12", counted from 1 without the header
    text: str
    answer: str


@dataclass(frozen=True)
class Role:
    """Which column plays a part, and how sure that is."""

    name: str  # "text" or "answer"
    column: str
    confidence: float  # 1: somebody said so
    candidates: Mapping[str, tuple[str, ...]]  # every column that it could be, with some of its values


@dataclass(frozen=True)
class Table:
    """The usable rows of a table, and what was noticed when they were read."""

    rows: tuple[Row, ...]
    roles: tuple[Role, Role]  # text, answer
    noticed: tuple[Finding, ...]


def is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def read_table(
    name: str, content: bytes, text: str | None, answer: str | None, *, repairs: Collection[str] = ()
) -> Table:
    """The table in a file's content.

    Args:
        text, answer: the names of the two columns, where they are not to be guessed.
        repairs: findings.ENCODING or HEADER, where somebody agreed to read it that way.
    Raises:
        BadData: damaged, or its columns cannot be told apart.
        TooLarge: more cells than are read.
    """
    records = _records(name, content, header=findings.HEADER not in repairs)
    if not records.rows:
        raise BadData(f"{name!r} holds no rows.", effect=NOTHING_CHARGED, todo="Add rows with a text and an answer.")
    roles = _roles(name, records, text, answer)
    rows, incomplete = [], []
    for number, cells in records.rows:
        row = Row(f"row {number}", *(cells.get(role.column, "").strip() for role in roles))
        if row.text and row.answer:
            rows.append(row)
        else:
            incomplete.append(row.place)
    noticed = [
        *(one for one in records.noticed if one.repair is None or one.repair.id not in repairs),
        *_no_header(rows, records, roles),
        *_mixed(rows, roles[1].column),
        *left_out(incomplete, "no text or no answer", repair="rows"),
    ]
    return Table(tuple(rows), roles, tuple(noticed))


def _records(name: str, content: bytes, *, header: bool) -> Records:
    lower = name.lower()
    if lower.endswith(SHEETS) or sheets.is_sheet(content):
        return sheets.read_sheet(name, content, header=header)
    if lower.endswith(LINES):
        return read_json_lines(name, content)
    return read_separated(name, content, tabs=lower.endswith(".tsv"), header=header)


def _no_header(rows: list[Row], records: Records, roles: tuple[Role, Role]) -> list[Finding]:
    """A first line whose answer is one of the answers names no columns."""
    text, answer = (role.column for role in roles)
    if not records.has_header or answer.casefold() not in {row.answer.casefold() for row in rows}:
        return []
    return [
        Finding(
            "warning",
            f"The first line looks like an example: {answer!r} is one of the answers.",
            place="line 1",
            effect=f"It is taken for the names of the columns, {text!r} and {answer!r}, and not learnt from.",
            fix="Let it count as an example, or write names above the columns.",
            repair=Repair(findings.HEADER, "Count it as an example"),
        )
    ]


def _mixed(rows: list[Row], column: str) -> list[Finding]:
    """Answers that are partly words and partly numbers."""
    numbers = [row for row in rows if _is_number(row.answer)]
    if not numbers or len(numbers) == len(rows):
        return []
    few = numbers if 2 * len(numbers) <= len(rows) else [row for row in rows if not _is_number(row.answer)]
    kind = "a number" if few is numbers else "no number"
    count = f" (rows like that: {len(few)})" if len(few) > 1 else ""
    return [
        Finding(
            "warning",
            f"The answers in {column!r} are mixed: in {few[0].place} it is {kind}, {few[0].answer!r}{count}.",
            place=few[0].place,
            effect="Each of them is learnt as an answer of its own.",
            fix="See that this is the right column, and that no cells have slipped.",
        )
    ]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+([.,]\d+)*", text) is not None


def _roles(name: str, records: Records, text: str | None, answer: str | None) -> tuple[Role, Role]:
    columns = records.columns
    for column in (text, answer):
        if column is not None and column not in columns:
            raise _unclear(name, records, f"has no column {column!r}")
    found = _named(columns, ANSWER_NAMES, text)
    guessed_answer = answer or found or _fewest_values(records, text)
    answer_sure = 1.0 if answer else NAMED if found else GUESSED
    found = _named(columns, TEXT_NAMES, guessed_answer)
    guessed_text = text or found or _longest(records, guessed_answer)
    text_sure = 1.0 if text else NAMED if found else GUESSED
    if guessed_answer is None or guessed_text is None or guessed_answer == guessed_text:
        raise _unclear(name, records, "does not show which column holds the texts and which the answers")
    candidates = {column: records.some(column, _SHOWN) for column in columns}
    return Role("text", guessed_text, text_sure, candidates), Role("answer", guessed_answer, answer_sure, candidates)


def _unclear(name: str, records: Records, reason: str) -> BadData:
    return BadData(
        f"{name!r} {reason}; its columns are {', '.join(map(repr, records.columns))}.",
        effect=NOTHING_CHARGED,
        todo='Name the two columns "text" and "label" in the first line.',
        columns={column: list(records.some(column, _SHOWN)) for column in records.columns},
    )


def _named(columns: tuple[str, ...], names: tuple[str, ...], taken: str | None) -> str | None:
    by_name = {column.strip().lower(): column for column in columns if column != taken}
    return next((by_name[name] for name in names if name in by_name), None)


def _fewest_values(records: Records, taken: str | None) -> str | None:
    """The column that repeats itself most, if each of its values stands for five rows or more."""
    rows = [cells for _, cells in records.rows]
    counts = {column: len({cells.get(column, "") for cells in rows}) for column in records.columns if column != taken}
    repeating = [column for column, count in counts.items() if 2 <= count <= len(rows) // 5]
    return min(repeating, key=lambda column: counts[column], default=None)


def _longest(records: Records, taken: str | None) -> str | None:
    lengths = {
        column: sum(len(cells.get(column, "")) for _, cells in records.rows)
        for column in records.columns
        if column != taken
    }
    return max(lengths, key=lambda column: lengths[column], default=None)
