"""What a node must not forget: messages that the coordinator has not stored yet, work at hand, states it has to keep,
what it is owed, what happened to its machine.

Calls are synchronous: a row is a few hundred bytes and is on the disk when the call returns.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter

from gristmill_protocol.errors import Conflict, NoSpace
from gristmill_protocol.progress import Evaluated, Replayed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider import accusations, history, payables
from gristmill_provider.config import NodeConfig

JOURNAL = "journal.db"  # in a node's state folder

_KEEP_ANSWERS_S = 7 * 86_400
_REMEMBER_S = 90 * 86_400  # what was made

WorkKind = Literal["attempt", "audit"]
Said = Annotated[Replayed | Evaluated, Field(discriminator="event")]
_SAID: TypeAdapter[Said] = TypeAdapter(Said)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, also when all rows are gone
    message BLOB NOT NULL,
    uploads TEXT NOT NULL                   -- JSON list of the artifacts that have to be there first
);
CREATE TABLE IF NOT EXISTS work (
    work_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    keep_s INTEGER NOT NULL,
    ended_s REAL,                           -- unix time; NULL: at hand
    last_seq INTEGER                        -- of the message that says how it ended
);
CREATE TABLE IF NOT EXISTS answers (
    audit_id TEXT PRIMARY KEY,
    salt BLOB NOT NULL,
    said TEXT NOT NULL,                     -- JSON of Said
    made_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS states (
    work_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (work_id, sha256)
);
CREATE TABLE IF NOT EXISTS made (           -- what this node has vouched for, to hold certificates against
    work_id TEXT NOT NULL,
    name TEXT NOT NULL,                     -- "segment 3", "file model.safetensors"
    digest TEXT NOT NULL,                   -- of the record's leaf, of the file
    made_s REAL NOT NULL,
    PRIMARY KEY (work_id, name)
);
"""


@dataclass(frozen=True)
class Answer:
    """What came out of an audit, which the node has committed to and keeps to itself until it is asked."""

    salt: bytes
    said: Said


@dataclass(frozen=True)
class Entry:
    """A message that has to reach the coordinator, and the artifacts it speaks of."""

    message: pb.NodeMessage  # its seq is set
    uploads: tuple[str, ...]


def held(state_dir: Path) -> IO[str]:
    """What keeps other nodes out of a state folder until it is closed.

    Raises:
        Conflict: a node runs from it.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = (state_dir / JOURNAL).with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        lock.close()
        raise Conflict(
            f"Another node is running from {state_dir}.",
            effect="This one was not started.",
            todo="Stop the other, or give this one a state_dir of its own.",
        ) from err
    return lock


class Journal:
    """One file; it is the node's that holds its folder.

    Raises:
        NoSpace: from here and from whatever writes: the disk takes no more.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, factory=_Connection)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a signed record outlives a power cut
            self._db.executescript(_SCHEMA + payables.SCHEMA + accusations.SCHEMA + history.SCHEMA)
        except BaseException:
            self._db.close()
            raise
        self.payables = payables.Payables(self._db)
        self.accusations = accusations.Accusations(self._db)
        self.history = history.History(self._db)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self, message: pb.NodeMessage, uploads: Sequence[str] = (), *, ends: str = "", now_s: float = 0
    ) -> pb.NodeMessage:
        """Store a message and return it with its seq.

        Args:
            uploads: content hashes of the artifacts that have to be there before it.
            ends: the work that is over with this message, at now_s; both are stored or neither.
        """
        with self._db:
            self._db.execute("BEGIN")
            seq = self._db.execute("INSERT INTO outbox (message, uploads) VALUES (x'', '')").lastrowid
            numbered = pb.NodeMessage()
            numbered.CopyFrom(message)
            numbered.seq = seq or 0
            self._db.execute(
                "UPDATE outbox SET message = ?, uploads = ? WHERE seq = ?",
                (numbered.SerializeToString(), json.dumps(list(uploads)), seq),
            )
            self._db.execute("UPDATE work SET ended_s = ?, last_seq = ? WHERE work_id = ?", (now_s, seq, ends))
        return numbered

    def after(self, seq: int) -> Entry | None:
        """The first message behind seq that is not acknowledged."""
        row = self._db.execute(
            "SELECT message, uploads FROM outbox WHERE seq > ? ORDER BY seq LIMIT 1", (seq,)
        ).fetchone()
        if row is None:
            return None
        return Entry(pb.NodeMessage.FromString(row[0]), tuple(json.loads(row[1])))

    def acknowledge(self, seq: int) -> None:
        """Forget the messages up to seq: the coordinator has stored them."""
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (seq,))

    def begin(self, work_id: str, kind: WorkKind, *, keep_s: int = 0) -> None:
        """Note that work is at hand; its states are kept for keep_s after its end, if nobody releases them."""
        self._db.execute("INSERT OR REPLACE INTO work VALUES (?, ?, ?, NULL, NULL)", (work_id, kind, keep_s))

    def interrupted(self) -> list[tuple[str, WorkKind]]:
        """The work that is at hand; right after a start, what an earlier life of the node left."""
        return list(self._db.execute("SELECT work_id, kind FROM work WHERE ended_s IS NULL"))

    def unreported(self, kind: WorkKind) -> list[str]:
        """The work of a kind that is at hand, or whose end the coordinator has not heard of yet."""
        query = "SELECT work_id FROM work WHERE kind = ? AND (ended_s IS NULL OR last_seq IN (SELECT seq FROM outbox))"
        return [work_id for (work_id,) in self._db.execute(query, (kind,))]

    def knows(self, work_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM work WHERE work_id = ?", (work_id,)).fetchone() is not None

    def remember(self, audit_id: str, answer: Answer, now_s: float) -> None:
        """Keep an answer, to be committed to next."""
        row = (audit_id, answer.salt, answer.said.model_dump_json(), now_s)
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)

    def answer(self, audit_id: str) -> Answer | None:
        """The answer to an audit, unless it is unknown or too old."""
        row = self._db.execute("SELECT salt, said FROM answers WHERE audit_id = ?", (audit_id,)).fetchone()
        return None if row is None else Answer(row[0], _SAID.validate_json(row[1]))

    def keep(self, work_id: str, sha256: str) -> None:
        """Note that a file of an attempt must stay, until it is released."""
        self._db.execute("INSERT OR IGNORE INTO states VALUES (?, ?)", (work_id, sha256))

    def keeps(self, work_id: str, sha256: str) -> bool:
        found = self._db.execute("SELECT 1 FROM states WHERE work_id = ? AND sha256 = ?", (work_id, sha256))
        return found.fetchone() is not None

    def note_made(self, work_id: str, digests: Mapping[str, str], now_s: float) -> None:
        """Remember what an attempt made: name -> hex digest."""
        rows = [(work_id, name, digest, now_s) for name, digest in digests.items()]
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?)", rows)

    def made(self, work_id: str) -> dict[str, str]:
        """What an attempt made: name -> hex digest; kept for 90 days."""
        return dict(self._db.execute("SELECT name, digest FROM made WHERE work_id = ?", (work_id,)))

    def release(self, work_id: str) -> None:
        """Let an ended attempt's files go; one at hand keeps them."""
        with self._db:
            self._db.execute("BEGIN")
            ended = self._db.execute("DELETE FROM work WHERE work_id = ? AND ended_s IS NOT NULL", (work_id,))
            if ended.rowcount:
                self._db.execute("DELETE FROM states WHERE work_id = ?", (work_id,))

    def release_expired(self, now_s: float) -> None:
        """Release what nobody released in time, and forget answers that nobody will ask for any more."""
        old = self._db.execute("SELECT work_id FROM work WHERE ended_s + keep_s <= ?", (now_s,)).fetchall()
        for (work_id,) in old:
            self.release(work_id)
        self._db.execute("DELETE FROM answers WHERE made_s <= ?", (now_s - _KEEP_ANSWERS_S,))
        self._db.execute("DELETE FROM made WHERE made_s < ?", (now_s - _REMEMBER_S,))

    def needed(self) -> frozenset[str]:
        """Content hashes that must not be deleted: what is kept, and what undelivered messages speak of."""
        states = {sha256 for (sha256,) in self._db.execute("SELECT sha256 FROM states")}
        uploads = self._db.execute("SELECT uploads FROM outbox")
        return frozenset(states.union(*(json.loads(listed) for (listed,) in uploads)))


class _Connection(sqlite3.Connection):
    """One that says in a sentence when the disk takes no more."""

    def execute(self, *args: Any) -> sqlite3.Cursor:
        with _disk_space():
            return super().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        with _disk_space():
            return super().executemany(*args)

    def executescript(self, *args: Any) -> sqlite3.Cursor:
        with _disk_space():
            return super().executescript(*args)

    def __exit__(self, *args: Any) -> Literal[False]:
        with _disk_space():
            return super().__exit__(*args)


@contextmanager
def _disk_space() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as err:
        if err.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):  # the rest says more of it
            raise
        raise NoSpace(
            f"The disk takes no more of this node's journal: {err}.",
            effect="What it signs could not be kept, so the node ends.",
            todo="Make room on the disk of state_dir (docker system prune frees some).",
        ) from err


def worked(config: NodeConfig) -> list[NodeConfig]:
    """The first of the configuration's nodes, and those of further cards and coordinators that have a journal."""
    first, *further = config.nodes()
    return [first, *(one for one in further if (one.state_dir / JOURNAL).exists())]
