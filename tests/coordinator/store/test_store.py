"""The store's promises, the same on SQLite and on Postgres."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.columns import metadata
from gristmill_coordinator.store.migrate import migrate
from gristmill_coordinator.store.store import Store, Tx, change, claimed, keep, open_store
from gristmill_coordinator.store.tables import anchors, jobs
from gristmill_coordinator.wake import Wake
from gristmill_protocol.errors import Unavailable

pytestmark = pytest.mark.slow

A_WHILE = sa.text(  # some tenths of a second
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)"
    " SELECT count(*) FROM numbers"
)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    store = open_store(database_url, Wake())
    await migrate(store.engine)
    yield store
    await store.close()


async def add_anchors(store: Store, count: int) -> None:
    async with store.write() as tx:
        for at in range(count):
            await tx.run(sa.insert(anchors).values(anchor_id=f"a{at}", root="00"))


async def add_job(tx: Tx, job_id: str) -> None:
    await tx.run(
        sa.insert(jobs).values(
            job_id=job_id, renter="0x", request_id=job_id, quote_id=job_id, recipe="r", spec={}, quote={}, order={},
            nonce=0, cap_usd_micros=1, steps=1, created_s=0.0, reason="submitted",
        )
    )  # fmt: skip


def due(store: Store, now: float = 100.0, limit: int = 10) -> Any:
    return store.claim(anchors, anchors.c.beacon.is_(None), now=now, hold_s=30, limit=limit)


async def test_the_migrations_make_the_tables_that_the_code_describes(store: Store) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with store.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_changes_nothing(store: Store) -> None:
    await migrate(store.engine)
    await add_anchors(store, 1)
    await migrate(store.engine)

    assert len(await due(store)) == 1


async def test_a_claimed_row_is_nobody_elses_until_its_claim_expires(store: Store) -> None:
    await add_anchors(store, 3)

    first = await due(store, limit=2)
    second = await due(store)

    assert len(first) == 2
    assert len(second) == 1
    assert await due(store, now=129.0) == []
    assert len(await due(store, now=130.0)) == 3


async def test_workers_at_the_same_time_never_get_the_same_row(store: Store) -> None:
    await add_anchors(store, 60)

    batches = await asyncio.gather(*(due(store, limit=20) for _ in range(6)))

    ids = [row.anchor_id for batch in batches for row in batch]
    assert len(ids) == len(set(ids))


async def test_what_waited_longest_comes_first(store: Store) -> None:
    await add_anchors(store, 2)
    [row] = await due(store, limit=1)
    async with store.write() as tx:
        await keep(tx, anchors, row, due_s=50.0)

    [next_] = await due(store, limit=1)

    assert next_.anchor_id != row.anchor_id


async def test_a_late_worker_changes_nothing(store: Store) -> None:
    await add_anchors(store, 1)
    [late] = await due(store)
    [present] = await due(store, now=200.0)

    async with store.write() as tx:
        assert not await claimed(tx, anchors, late)
        assert not await keep(tx, anchors, late, root="late")
        assert await claimed(tx, anchors, present)
        assert await keep(tx, anchors, present, root="present")

    async with store.read() as tx:
        assert await tx.value(sa.select(anchors.c.root)) == "present"


async def test_a_change_from_outside_breaks_the_claim(store: Store) -> None:
    await add_anchors(store, 1)
    [row] = await due(store)

    async with store.write() as tx:
        assert await change(tx, anchors, anchors.c.anchor_id == "a0", root="outside")
    async with store.write() as tx:
        assert not await keep(tx, anchors, row, root="inside")

    assert [row.root for row in await due(store)] == ["outside"]


async def test_a_failed_transaction_leaves_nothing_and_wakes_nobody(store: Store) -> None:
    wake = Wake()
    store._wake = wake
    event = wake.event("audit")

    async def fail() -> None:
        async with store.write() as tx:
            await tx.run(sa.insert(anchors).values(anchor_id="a", root="00"))
            tx.wake("audit")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        await fail()

    assert not event.is_set()
    assert await due(store) == []


async def test_a_transaction_cut_short_leaves_nothing_locked(store: Store, database_url: str) -> None:
    async def cut_short() -> None:
        async with store.write() as tx:
            asyncio.get_running_loop().call_later(0.02, writing.cancel)
            await tx.value(A_WHILE)

    gc.disable()  # nothing is to hang on when rubbish is collected
    try:
        writing = asyncio.create_task(cut_short())
        await asyncio.wait({writing})
        other = open_store(database_url, Wake())
        async with asyncio.timeout(10):
            await add_anchors(other, 1)
        await other.close()
    finally:
        gc.enable()

    assert writing.cancelled()


async def test_closing_waits_for_transactions_and_takes_no_more(database_url: str) -> None:
    store = open_store(database_url, Wake())
    async with store.read() as tx:
        closing = asyncio.create_task(store.close())
        await asyncio.wait({closing}, timeout=0.1)
        assert not closing.done()
        assert await tx.value(sa.select(1)) == 1
    await closing
    with pytest.raises(Unavailable):
        async with store.read():
            pass

    del tx
    gc.collect()  # a connection that nobody closed would say so


async def test_a_commit_wakes_who_waits(store: Store) -> None:
    wake = Wake()
    store._wake = wake
    event, other = wake.event("audit"), wake.event("matching")

    async with store.write() as tx:
        tx.wake("audit")

    assert event.is_set()
    assert not other.is_set()
    assert not wake.event("audit").is_set()


async def test_adding_a_row_twice_adds_it_once(store: Store) -> None:
    async with store.write() as tx:
        assert await tx.add(anchors, {"anchor_id": "a", "root": "first"})
        assert not await tx.add(anchors, {"anchor_id": "a", "root": "second"})

    assert [row.root for row in await due(store)] == ["first"]


async def test_a_storys_lines_are_numbered_without_gaps(store: Store) -> None:
    async with store.write() as tx:
        await add_job(tx, "job")

    async def tell(text: str) -> None:
        async with store.write() as tx:
            await job_rows.tell(tx, "job", "log", text, now=1.0)

    await asyncio.gather(*(tell(str(at)) for at in range(10)))

    async with store.read() as tx:
        seqs = [row.seq for row in await tx.rows(sa.text("SELECT seq FROM events ORDER BY seq"))]
        assert await tx.value(sa.select(jobs.c.last_event)) == 10
    assert seqs == list(range(1, 11))


async def test_only_who_was_granted_an_artifact_may_read_it(store: Store) -> None:
    await store.grant("aa", "renter:0x1")
    await store.grant("aa", "renter:0x1")

    assert await store.allowed("aa", "renter:0x1")
    assert not await store.allowed("aa", "renter:0x2")
    assert not await store.allowed("bb", "renter:0x1")
