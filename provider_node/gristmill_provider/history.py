"""What a node remembers of its machine: what went wrong, during which work, and when it earned nothing and why."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gristmill_protocol.errors import NotFound
from gristmill_protocol.incidents import Incident

_REMEMBER_S = 90 * 86_400
# Spans are written once a minute: one that was not for longer than this had ended, and the node was off.
GAP_S = 180

SCHEMA = """
CREATE TABLE IF NOT EXISTS incidents (
    at_s REAL NOT NULL,                     -- unix time
    kind TEXT NOT NULL,                     -- IncidentKind
    text TEXT NOT NULL,
    work_id TEXT NOT NULL                   -- attempt or audit that ran; one row for each, '' if nothing ran
);
CREATE TABLE IF NOT EXISTS spans (          -- what the device was at
    from_s REAL PRIMARY KEY,
    to_s REAL NOT NULL,                     -- as far as it is known
    cause TEXT NOT NULL,                    -- rules.Cause, "working", "no_work" or "not_connected"
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Recorded(Incident):
    """An incident, and the work that ran; "": none."""

    work_id: str


@dataclass(frozen=True)
class Span:
    """A time during which the device was at the same thing.

    Args:
        cause: "working", or why it was idle, in one word.
        reason: the same for a person.
    """

    from_s: float
    to_s: float
    cause: str
    reason: str


class History:
    """The rows of a journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @staticmethod
    def open(path: Path) -> "History":
        """The rows of the journal at path, whether its node runs or not; close() lets go of it.

        Raises:
            NotFound: no such file.
        """
        if not path.exists():
            raise NotFound(
                f"There is no journal at {path}.",
                effect="Nothing is known.",
                todo="Start the node once: gristmill-node up.",
            )
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript(SCHEMA)
        return History(db)

    def close(self) -> None:
        self._db.close()

    def record(self, incident: Incident, work_ids: Collection[str] = ()) -> None:
        """Keep an incident with the work that was at hand."""
        row = (incident.at_s, incident.kind, incident.text)
        with self._db:
            self._db.executemany(
                "INSERT INTO incidents VALUES (?, ?, ?, ?)", [(*row, work_id) for work_id in work_ids or ("",)]
            )

    def incidents(self, *, work_id: str | None = None, since_s: float = 0) -> list[Recorded]:
        """What happened, oldest first."""
        rows = self._db.execute(
            "SELECT kind, at_s, text, work_id FROM incidents"
            " WHERE at_s >= ? AND (? IS NULL OR work_id = ?) ORDER BY at_s",
            (since_s, work_id, work_id),
        )
        return [Recorded(kind=kind, at_s=int(at_s), text=text, work_id=work) for kind, at_s, text, work in rows]

    def note(self, cause: str, reason: str, now_s: float) -> None:
        """Say what the device is at now: the last span grows, or another begins."""
        last = self._db.execute("SELECT from_s, to_s, cause, reason FROM spans ORDER BY rowid DESC LIMIT 1").fetchone()
        if last is not None and (last[2], last[3]) == (cause, reason) and 0 <= now_s - last[1] <= GAP_S:
            self._db.execute("UPDATE spans SET to_s = ? WHERE from_s = ?", (now_s, last[0]))
            return
        with self._db:
            self._db.execute("BEGIN")
            if last is not None and 0 <= now_s - last[1] <= GAP_S:
                self._db.execute("UPDATE spans SET to_s = ? WHERE from_s = ?", (now_s, last[0]))
            self._db.execute("INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?)", (now_s, now_s, cause, reason))

    def spans(self, since_s: float = 0) -> list[Span]:
        """What the device was at, oldest first; between two that do not touch, the node did not run."""
        rows = self._db.execute("SELECT * FROM spans WHERE to_s >= ? ORDER BY from_s", (since_s,))
        return [Span(*row) for row in rows]

    def mark(self, name: str) -> str:
        """A value kept under a name; "": none."""
        row = self._db.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def set_mark(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def forget_old(self, now_s: float) -> None:
        self._db.execute("DELETE FROM incidents WHERE at_s < ?", (now_s - _REMEMBER_S,))
        self._db.execute("DELETE FROM spans WHERE to_s < ?", (now_s - _REMEMBER_S,))
