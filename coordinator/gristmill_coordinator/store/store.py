"""The store: transactions, claims, and who may read which artifact."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gristmill_coordinator.store import tables
from gristmill_coordinator.wake import Wake
from gristmill_protocol.completion import to_its_end
from gristmill_protocol.errors import Unavailable

_BUSY_TIMEOUT_MS = 30_000

Row = sa.Row[*tuple[Any, ...]]


class Tx:
    """One transaction. Topics given to wake() are woken once it is committed."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.topics: set[str] = set()

    async def rows(self, query: sa.Executable) -> Sequence[Row]:
        return (await self._execute(query)).all()

    async def row(self, query: sa.Executable) -> Row | None:
        return (await self._execute(query)).first()

    async def value(self, query: sa.Executable) -> Any:
        """The first column of the first row, None if there is none."""
        return (await self._execute(query)).scalar()

    async def run(self, change: sa.Executable, many: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Rows changed."""
        result = await self._execute(change, many)
        return int(result.rowcount)

    async def add(self, table: sa.Table, values: Mapping[str, Any]) -> bool:
        """Insert a row unless its key is taken; whether it was inserted."""
        insert = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        return await self.run(insert(table).values(**values).on_conflict_do_nothing()) == 1

    def wake(self, *topics: str) -> None:
        self.topics.update(topics)

    async def _execute(
        self, statement: sa.Executable, many: Sequence[Mapping[str, Any]] | None = None
    ) -> sa.CursorResult[*tuple[Any, ...]]:
        # Whoever is cancelled waits for the statement's end. Cut short in the middle of one, SQLite would not roll
        # back, and so lock the database, until the statement is collected as rubbish.
        return await to_its_end(self._connection.execute(statement, many))


class Store:
    """A database with our tables; see open_store."""

    def __init__(self, engine: AsyncEngine, wake: Wake) -> None:
        self.engine = engine
        self._wake = wake
        # SQLite has one writer. Queueing here is fair and free; its own busy-waiting is neither.
        self._writer = asyncio.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._closing = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def shared(self) -> bool:
        """Whether other replicas may work on the same database."""
        return self.engine.dialect.name != "sqlite"

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """A transaction that changes rows; never await anything but the database in it.

        Raises:
            Unavailable: the store is closed.
        """
        async with self._writer, self._connect() as connection:
            await connection.execution_options(gristmill_begin="BEGIN IMMEDIATE")
            async with connection.begin():
                tx = Tx(connection)
                yield tx
        self._wake.set(*tx.topics)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A transaction that only reads.

        Raises:
            Unavailable: the store is closed.
        """
        async with self._connect() as connection:
            yield Tx(connection)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        if self._closing:  # else the pool would open a connection that nobody closes
            raise Unavailable("The coordinator is stopping.", effect="Nothing was changed.", todo="Try again soon.")
        self._under_way += 1
        self._idle.clear()
        try:
            async with self.engine.connect() as connection:
                yield connection
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def claim(
        self, table: sa.Table, where: sa.ColumnElement[bool], *, now: float, hold_s: float, limit: int
    ) -> Sequence[Row]:
        """Rows that are due, for this worker alone until now + hold_s, longest waiting first.

        Each row carries the lock_token that keep() checks.
        """
        key = table.primary_key.columns.values()[0]
        due = sa.select(key).where(where, table.c.due_s <= now).order_by(table.c.due_s).limit(limit)
        async with self.read() as tx:
            if await tx.row(due.limit(1)) is None:
                return []
        taken = sa.update(table).where(key.in_(due.with_for_update(skip_locked=True).scalar_subquery()))
        async with self.write() as tx:
            return await tx.rows(taken.values(lock_token=secrets.token_hex(8), due_s=now + hold_s).returning(table))

    async def grant(self, sha256: str, subject: str) -> None:
        """Let a subject ("renter:<0xaddr lower>" or "node:<node_id>") read an artifact; again is harmless."""
        async with self.write() as tx:
            await grant(tx, sha256, subject)

    async def allowed(self, sha256: str, subject: str) -> bool:
        """Whether a subject may read an artifact."""
        granted = tables.grants.c
        query = sa.select(granted.sha256).where(granted.sha256 == sha256, granted.subject == subject)
        async with self.read() as tx:
            return await tx.row(query) is not None

    async def close(self) -> None:
        """Take no more transactions, and close every connection once those under way have ended."""
        self._closing = True
        await self._idle.wait()
        await self.engine.dispose()


async def keep(tx: Tx, table: sa.Table, row: Row, *, due_s: float = 0.0, **values: Any) -> bool:
    """Write a claimed row back and free it; False, and nothing changed, if the claim was lost.

    Args:
        due_s: no stage looks at the row before.
    """
    key = table.primary_key.columns.values()[0]
    held = sa.and_(key == getattr(row, key.name), table.c.lock_token == row.lock_token)
    return await tx.run(sa.update(table).where(held).values(lock_token=None, due_s=due_s, **values)) == 1


async def claimed(tx: Tx, table: sa.Table, row: Row) -> bool:
    """Whether the claim on a row still holds; it does until the transaction ends then."""
    key = table.primary_key.columns.values()[0]
    held = sa.and_(key == getattr(row, key.name), table.c.lock_token == row.lock_token)
    return await tx.row(sa.select(key).where(held).with_for_update()) is not None


async def change(tx: Tx, table: sa.Table, where: sa.ColumnElement[bool], **values: Any) -> bool:
    """Change a row from outside its stage: any claim on it is broken and it is due at once. Whether it changed."""
    return await tx.run(sa.update(table).where(where).values(lock_token=None, due_s=0.0, **values)) > 0


async def grant(tx: Tx, sha256: str, subject: str) -> None:
    """Let a subject read an artifact, as part of a transaction."""
    await tx.add(tables.grants, {"sha256": sha256, "subject": subject})


def open_store(url: str, wake: Wake) -> Store:
    """A store on SQLite (sqlite+aiosqlite:///file) or Postgres (postgresql+asyncpg://...)."""
    if not url.startswith("sqlite"):
        return Store(create_async_engine(url, pool_size=20, pool_pre_ping=True), wake)
    engine = create_async_engine(url)
    sa.event.listen(engine.sync_engine, "connect", _configure_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return Store(engine, wake)


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: it would do so too late, after the first read.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("gristmill_begin", "BEGIN"))
