"""What the node is owed, with what it takes to be paid without the coordinator: the renter's statement for each job,
and the coordinator's promise.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gristmill_protocol.errors import BadData, BadRequest, NotFound
from gristmill_protocol.jobs import SignedReservation, SignedStatement
from gristmill_protocol.signing import STATEMENT_TYPE, Domain, require_signer, statement_message
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.owner import Market, require_promise

# How long after its deadline a statement is kept, which no contract pays any more: to show what was promised.
_KEEP_S = 90 * 86_400

SCHEMA = """
CREATE TABLE IF NOT EXISTS markets (
    chain_id INTEGER NOT NULL,
    ledger TEXT NOT NULL,
    registry TEXT NOT NULL,
    coordinator INTEGER NOT NULL,
    operator TEXT NOT NULL,
    PRIMARY KEY (chain_id, ledger, coordinator)
);
CREATE TABLE IF NOT EXISTS payables (
    chain_id INTEGER NOT NULL,
    ledger TEXT NOT NULL,
    key TEXT NOT NULL,                      -- the renter's, in lower case
    nonce INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    deadline_s INTEGER NOT NULL,            -- of the order
    reservation TEXT NOT NULL,              -- SignedReservation
    statement TEXT,                         -- SignedStatement; NULL: nothing is accepted yet
    paid INTEGER NOT NULL DEFAULT 0,        -- 1: the chain has settled as much under this nonce
    PRIMARY KEY (chain_id, ledger, key, nonce)
);
CREATE TABLE IF NOT EXISTS earned (         -- when how much more of a job was accepted
    at_s REAL NOT NULL,                     -- unix time
    job_id TEXT NOT NULL,
    usd_micros INTEGER NOT NULL             -- our lines, before fee and shares
);
"""


@dataclass(frozen=True)
class Lease:
    """A lease that this node took.

    Args:
        ledger: the domain in which it is promised and paid.
        attempt_id: the latest under the same nonce.
        deadline_s: unix seconds; the order's.
    """

    ledger: Domain
    job_id: str
    attempt_id: str
    deadline_s: int
    promise: SignedReservation


@dataclass(frozen=True)
class Payable(Lease):
    """A lease with accepted work: the renter's statement pays it, and the promise says how much of that is ours."""

    paying: SignedStatement

    @property
    def share_usd_micros(self) -> int:
        """Our lines, before fee and shares."""
        return self.paying.statement.share_usd_micros(self.promise.reservation.provider)

    @property
    def total_usd_micros(self) -> int:
        return self.paying.statement.total_usd_micros


class Payables:
    """The rows of a journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @property
    def db(self) -> sqlite3.Connection:
        """The journal's file, for its other rows."""
        return self._db

    @staticmethod
    def open(path: Path) -> "Payables":
        """The rows of the journal at path, whether its node runs or not: only the node's own work needs the lock.

        Raises:
            NotFound: no such file.
            BadData: it is something else.
        """
        if not path.exists():
            raise NotFound(
                f"There is no journal at {path}.",
                effect="What is owed cannot be known.",
                todo="Name the configuration of a node that has worked, or bring its state_dir back.",
            )
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.execute("SELECT 1 FROM payables, markets LIMIT 1")
        except sqlite3.Error as err:
            db.close()
            raise BadData(
                f"The journal at {path} cannot be read: {err}.",
                effect="What is owed cannot be known.",
                todo="Run this as the node's own account; a journal that is damaged has to come from your backup.",
            ) from err
        return Payables(db)

    def close(self) -> None:
        self._db.close()

    def meet(self, market: Market) -> None:
        """Remember where a coordinator's contracts are."""
        row = (market.ledger.chain_id, market.ledger.contract, market.registry.contract)
        self._db.execute(
            "INSERT OR REPLACE INTO markets VALUES (?, ?, ?, ?, ?)", (*row, market.coordinator, market.operator)
        )

    def markets(self) -> list[Market]:
        found = self._db.execute("SELECT * FROM markets ORDER BY rowid")
        return [
            Market(Domain.ledger(chain_id, ledger), Domain.registry(chain_id, registry), coordinator, operator)
            for chain_id, ledger, registry, coordinator, operator in found
        ]

    def expect(self, lease: Lease) -> None:
        """Note a lease that was taken; what an earlier one under the same nonce has earned stays."""
        if not isinstance(self._under(lease.ledger, lease.promise), Payable):
            self._put(lease)

    def take(self, message: pb.Payable, market: Market) -> Payable:
        """Keep what the coordinator says is payable; the same again is harmless.

        Raises:
            BadRequest, BadSignature: it is not worth what it says, or less than what is held.
        """
        paying, promise = _read(message)
        known = self._under(market.ledger, promise)
        if known is None:
            raise BadRequest("No lease of this node is paid by it.")
        fresh = Payable(market.ledger, known.job_id, message.attempt_id, known.deadline_s, promise, paying)
        _require_worth(fresh, known, market)
        self._put(fresh)
        return fresh

    def owed(self) -> list[Payable]:
        """Where work was accepted and the chain is not known to have paid, the next deadline first."""
        owed = f"SELECT {_COLUMNS} FROM payables WHERE statement IS NOT NULL AND NOT paid ORDER BY deadline_s, job_id"
        found = [_lease(row) for row in self._db.execute(owed)]
        return [lease for lease in found if isinstance(lease, Payable)]

    def of_job(self, job_id: str) -> Payable | None:
        """What was accepted of a job, paid or not; None if nothing was."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM payables WHERE job_id = ?", (job_id,)).fetchone()
        lease = None if row is None else _lease(row)
        return lease if isinstance(lease, Payable) else None

    def note_paid(self, payable: Payable) -> None:
        """The chain has settled it: it is owed no more, and kept for a while as what was promised."""
        self._db.execute(f"UPDATE payables SET paid = 1 WHERE {_KEY}", _key(payable.ledger, payable.promise))

    def note_earned(self, payable: Payable, now_s: float) -> None:
        """Remember when it was accepted: what it adds to its job; the same again adds nothing."""
        noted = "SELECT coalesce(sum(usd_micros), 0) FROM earned WHERE job_id = ?"
        more = payable.share_usd_micros - self._db.execute(noted, (payable.job_id,)).fetchone()[0]
        if more > 0:
            self._db.execute("INSERT INTO earned VALUES (?, ?, ?)", (now_s, payable.job_id, more))

    def earned_usd_micros(self, since_s: float) -> int:
        """What was accepted since then, before fee and shares."""
        total = "SELECT coalesce(sum(usd_micros), 0) FROM earned WHERE at_s >= ?"
        return int(self._db.execute(total, (since_s,)).fetchone()[0])

    def forget_expired(self, now_s: float) -> None:
        """Drop leases that earned nothing by their deadline, and statements long after it."""
        old = "deadline_s + (statement IS NOT NULL) * ? < ?"
        self._db.execute(f"DELETE FROM payables WHERE {old}", (_KEEP_S, now_s))
        self._db.execute("DELETE FROM earned WHERE at_s < ?", (now_s - _KEEP_S,))

    def _under(self, ledger: Domain, promise: SignedReservation) -> Lease | None:
        found = self._db.execute(f"SELECT {_COLUMNS} FROM payables WHERE {_KEY}", _key(ledger, promise))
        row = found.fetchone()
        return None if row is None else _lease(row)

    def _put(self, lease: Lease) -> None:
        """On the disk when it returns."""
        values = (
            lease.ledger.chain_id,
            lease.ledger.contract,
            lease.job_id,
            lease.attempt_id,
            lease.deadline_s,
            lease.promise.model_dump_json(),
            lease.paying.model_dump_json() if isinstance(lease, Payable) else None,
            lease.promise.reservation.key.lower(),
            lease.promise.reservation.nonce,
        )
        columns = f"{_COLUMNS}, key, nonce"
        self._db.execute(f"INSERT OR REPLACE INTO payables ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


_COLUMNS = "chain_id, ledger, job_id, attempt_id, deadline_s, reservation, statement"
_KEY = "chain_id = ? AND ledger = ? AND key = ? AND nonce = ?"


def _key(ledger: Domain, promise: SignedReservation) -> tuple[int, str, str, int]:
    return ledger.chain_id, ledger.contract, promise.reservation.key.lower(), promise.reservation.nonce


def _lease(row: tuple[Any, ...]) -> Lease:
    """A Payable where there is a statement."""
    chain_id, contract, job_id, attempt_id, deadline_s, promise_json, paying_json = row
    ledger, promise = Domain.ledger(chain_id, contract), SignedReservation.model_validate_json(promise_json)
    if paying_json is None:
        return Lease(ledger, job_id, attempt_id, deadline_s, promise)
    paying = SignedStatement.model_validate_json(paying_json)
    return Payable(ledger, job_id, attempt_id, deadline_s, promise, paying)


def _read(message: pb.Payable) -> tuple[SignedStatement, SignedReservation]:
    try:
        paying = SignedStatement.model_validate_json(message.signed_statement_json)
        promise = SignedReservation.model_validate_json(message.signed_reservation_json)
    except ValidationError as err:
        raise BadRequest(f"It cannot be read: {err.errors(include_url=False)[0]['msg']}.") from err
    return paying, promise


def _require_worth(fresh: Payable, known: Lease, market: Market) -> None:
    """Both signatures hold, together they pay what they say, and it is no less than what is held."""
    reservation, statement = fresh.promise.reservation, fresh.paying.statement
    require_promise(fresh.promise, market, provider=known.promise.reservation.provider)
    signed = statement_message(statement)
    require_signer(market.ledger, STATEMENT_TYPE, signed, fresh.paying.signature, reservation.key)
    if statement.nonce != reservation.nonce:
        raise BadRequest("The statement and the reservation are for different nonces.")
    if statement.deadline_s < known.deadline_s:
        raise BadRequest("The statement cannot be settled for as long as the order says.")
    if not 0 < fresh.share_usd_micros == reservation.accepted_usd_micros:
        raise BadRequest("The statement does not pay us what the reservation says is accepted.")
    if statement.total_usd_micros > reservation.cap_usd_micros:
        raise BadRequest("The statement pays more than the reservation allows.")
    if reservation.forced_from_s > known.promise.reservation.forced_from_s:
        raise BadRequest("It may be settled without the coordinator only later than was promised.")
    if isinstance(known, Payable) and _worth(fresh) < _worth(known):
        raise BadRequest("It pays less than what was accepted before.")


def _worth(payable: Payable) -> tuple[int, int]:
    """Of two under one nonce the higher is kept: our own share counts first, then everybody's."""
    return payable.share_usd_micros, payable.total_usd_micros
