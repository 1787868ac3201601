"""What the node was accused of, and what it takes to check that by itself: the tasks that it took on."""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Replayed
from gristmill_protocol.v1 import provider_pb2 as pb

# Stake unbonds in 14 days, so nobody opens a dispute much later; kept for longer to be looked at.
_KEEP_S = 90 * 86_400

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    attempt_id TEXT PRIMARY KEY,
    task TEXT NOT NULL,                     -- TrainTask
    deadline_s INTEGER NOT NULL             -- of the order
);
CREATE TABLE IF NOT EXISTS accusations (
    disputes TEXT NOT NULL,                 -- the contract's address
    dispute INTEGER NOT NULL,
    message BLOB NOT NULL,                  -- DisputeOpened
    finding TEXT NOT NULL DEFAULT '',       -- Finding
    steps TEXT NOT NULL DEFAULT '',         -- state roots after each step of our own re-run, with spaces between
    pleaded TEXT NOT NULL DEFAULT '',       -- conceded or answered: sent, and in a block
    note TEXT NOT NULL DEFAULT '',          -- what happened, or what the owner has to do
    PRIMARY KEY (disputes, dispute)
);
CREATE TABLE IF NOT EXISTS hearings (
    disputes TEXT NOT NULL,
    dispute INTEGER NOT NULL,
    replayed TEXT NOT NULL,                 -- Replayed, by our own run
    ruled TEXT NOT NULL DEFAULT '',         -- Ruling: sent, and in a block
    PRIMARY KEY (disputes, dispute)
);
"""

Finding = Literal["", "wrong", "right", "unclear"]  # of our own re-run: is the work what we signed?
Plea = Literal["", "conceded", "answered"]
Ruling = Literal["", "guilty", "clear", "abstained"]


@dataclass(frozen=True)
class Accusation:
    """A dispute of this node's work."""

    opened: pb.DisputeOpened
    finding: Finding = ""
    steps: tuple[str, ...] = ()
    pleaded: Plea = ""
    note: str = ""

    @property
    def evidence(self) -> str:
        """What an answer commits to: SHA-256, hex, of the step roots."""
        return sha256_json(list(self.steps)).hex()


@dataclass(frozen=True)
class Hearing:
    """A dispute that this node's provider was drawn to judge."""

    disputes: str
    dispute: int
    replayed: Replayed
    ruled: Ruling = ""


class Accusations:
    """The rows of a journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def remember(self, task: TrainTask, *, deadline_s: int) -> None:
        """Keep what the node was asked to run, in its own words: nobody else's are to be believed in a dispute."""
        row = (task.attempt_id, task.model_dump_json(), deadline_s)
        self._db.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", row)

    def task(self, attempt_id: str) -> TrainTask | None:
        row = self._db.execute("SELECT task FROM tasks WHERE attempt_id = ?", (attempt_id,)).fetchone()
        return None if row is None else TrainTask.model_validate_json(row[0])

    def take(self, opened: pb.DisputeOpened) -> Accusation:
        """What is known of a dispute, which is noted if it is new."""
        new = "INSERT OR IGNORE INTO accusations (disputes, dispute, message) VALUES (?, ?, ?)"
        self._db.execute(new, (opened.disputes, opened.dispute_id, opened.SerializeToString()))
        return next(one for one in self.all() if _key(one.opened) == _key(opened))

    def write(self, accusation: Accusation) -> None:
        one = accusation
        change = "UPDATE accusations SET finding = ?, steps = ?, pleaded = ?, note = ?"
        values = (one.finding, " ".join(one.steps), one.pleaded, one.note, *_key(one.opened))
        self._db.execute(f"{change} WHERE disputes = ? AND dispute = ?", values)

    def all(self) -> list[Accusation]:
        """Every dispute, the newest first."""
        columns = "message, finding, steps, pleaded, note"
        found = self._db.execute(f"SELECT {columns} FROM accusations ORDER BY rowid DESC")
        return [
            Accusation(pb.DisputeOpened.FromString(message), finding, tuple(steps.split()), *rest)
            for message, finding, steps, *rest in found
        ]

    def heard(self, disputes: str, dispute: int) -> Hearing | None:
        """What our own run of a dispute's segment gave; None before it."""
        wanted = "SELECT replayed, ruled FROM hearings WHERE disputes = ? AND dispute = ?"
        row = self._db.execute(wanted, (disputes, dispute)).fetchone()
        return None if row is None else Hearing(disputes, dispute, Replayed.model_validate_json(row[0]), row[1])

    def hear(self, hearing: Hearing) -> None:
        row = (hearing.disputes, hearing.dispute, hearing.replayed.model_dump_json(), hearing.ruled)
        self._db.execute("INSERT OR REPLACE INTO hearings VALUES (?, ?, ?, ?)", row)

    def forget_old(self, now_s: float) -> None:
        self._db.execute("DELETE FROM tasks WHERE deadline_s < ?", (now_s - _KEEP_S,))


def _key(opened: pb.DisputeOpened) -> tuple[str, int]:
    return opened.disputes, opened.dispute_id
