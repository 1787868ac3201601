"""What somebody is about to teach: its examples, what was seen in them, what was chosen, the price.

All of it is in the database and in the draft's folder: any process shows the same, and a closed tab loses nothing.
"""

import secrets
import shutil
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from gristmill_coordinator.store.store import Row, Tx, change
from gristmill_coordinator.store.studio_tables import drafts
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import Conflict, NotFound
from gristmill_protocol.jobs import Message, UsdMicros
from gristmill_protocol.money import USD_MICROS

_MAX_SHOWN = 200
_UNSEEN = {"look": None, "trouble": None, "data": None, "spec": None, "quote": None}


class Stage(StrEnum):
    EMPTY = "empty"  # no examples yet
    LOOKING = "looking"  # the stage of that name has to look at them
    LOOKED = "looked"
    UNUSABLE = "unusable"  # it cannot even be looked at; trouble says why


class Choices(Message):
    """How good, how much at most, by when."""

    settings: dict[str, Any] = Field(default_factory=dict)  # of the recipe, those for everyone
    budget_usd_micros: UsdMicros = USD_MICROS
    ready_within_s: int = 0  # 0: whenever


async def create(studio: Studio, maker: Maker, *, goal: str, name: str, request_id: str, example: bool = False) -> str:
    """A draft's id; the same request_id again gives the same draft.

    Args:
        example: it starts with the recipe's own example data.
    """
    now, draft_id = studio.co.clock(), studio.co.new_id("draft")
    row = {
        "draft_id": draft_id,
        "maker_id": maker.id,
        "request_id": request_id or secrets.token_hex(16),
        "goal": goal,
        "name": name,
        "example": example,
        "size_bytes": 0,
        "roles": {},
        "repairs": [],
        "stage": Stage.LOOKING if example else Stage.EMPTY,
        "choices": Choices().model_dump(mode="json"),
        "created_s": now,
        "changed_s": now,
        "due_s": 0.0,
    }
    one = drafts.c
    async with studio.co.store.write() as tx:
        await tx.add(drafts, row)
        mine = sa.select(one.draft_id).where(one.maker_id == maker.id, one.request_id == row["request_id"])
        draft_id = str(await tx.value(mine))
        tx.wake("looking")
    return draft_id


async def find(studio: Studio, maker: Maker, draft_id: str) -> Row:
    """Raises:
    NotFound: this maker has no such draft.
    """
    one = drafts.c
    async with studio.co.store.read() as tx:
        row = await tx.row(sa.select(drafts).where(one.draft_id == draft_id, one.maker_id == maker.id))
    if row is None:
        raise NotFound("There is no such page for you.", todo="Look under “My models” for what you have begun.")
    return row


async def unstarted(studio: Studio, maker: Maker) -> list[Row]:
    """What the maker has begun and not started, newest first."""
    mine = sa.and_(drafts.c.maker_id == maker.id, drafts.c.job_id.is_(None))
    async with studio.co.store.read() as tx:
        return list(await tx.rows(sa.select(drafts).where(mine).order_by(drafts.c.created_s.desc()).limit(_MAX_SHOWN)))


async def of_job(studio: Studio, job_id: str) -> Row | None:
    """The draft that a job was started from."""
    async with studio.co.store.read() as tx:
        return await tx.row(sa.select(drafts).where(drafts.c.job_id == job_id))


async def look_again(studio: Studio, draft: Row, **values: Any) -> None:
    """Have the examples looked at, after they or what is known of them changed.

    Raises:
        Conflict: it was started.
    """
    await update(studio, draft, stage=Stage.LOOKING, **{**_UNSEEN, **values})


async def take(studio: Studio, draft: Row, put: Callable[[], None]) -> None:
    """Change the examples with put(); what was seen in them before, and their price, count no more.

    Raises:
        Conflict: as require_changeable().
    """
    now = studio.co.clock()
    async with studio.co.store.write() as tx:
        await require_changeable(tx, draft)
        this = drafts.c.draft_id == draft.draft_id
        await change(tx, drafts, this, stage=Stage.EMPTY, example=False, changed_s=now, **_UNSEEN)
        put()  # in here: no look begins without what it puts, and no old one is kept with it


async def require_changeable(tx: Tx, draft: Row) -> None:
    """Hold a draft, in whose examples something is to be changed.

    Raises:
        Conflict: they are being looked at, or it was started.
    """
    one = drafts.c
    row = await tx.row(sa.select(one.stage, one.job_id).where(one.draft_id == draft.draft_id).with_for_update())
    if row is None or row.job_id is not None:
        raise Conflict(
            "The training was started or forgotten in the meantime.",
            effect="This file was not kept.",
            todo="Look under “My models”, or begin a new one.",
        )
    if row.stage == Stage.LOOKING:
        raise Conflict(
            "Your examples are being looked at.",
            effect="This file was not kept.",
            todo="Wait until that is done, then bring this file again.",
        )


async def empty(studio: Studio, draft: Row) -> None:
    """Begin again without examples.

    Raises:
        Conflict: it was started.
    """
    await update(studio, draft, stage=Stage.EMPTY, size_bytes=0, example=False, roles={}, repairs=[], **_UNSEEN)


async def update(studio: Studio, draft: Row, **values: Any) -> None:
    """Change a draft that was not started.

    Raises:
        Conflict: it was.
    """
    open_ = sa.and_(drafts.c.draft_id == draft.draft_id, drafts.c.job_id.is_(None))
    async with studio.co.store.write() as tx:
        if not await change(tx, drafts, open_, changed_s=studio.co.clock(), **values):
            raise Conflict(
                "The training was started already.",
                effect="Nothing was changed.",
                todo="Look at it under “My models”, or begin a new one.",
            )
        tx.wake("looking")


async def delete(studio: Studio, draft: Row) -> None:
    """Forget a draft that was not started, and what was brought for it."""
    async with studio.co.store.write() as tx:
        gone = await tx.run(sa.delete(drafts).where(drafts.c.draft_id == draft.draft_id, drafts.c.job_id.is_(None)))
    if gone:
        shutil.rmtree(folder(studio, draft.draft_id), ignore_errors=True)


def packed(studio: Studio, draft_id: str) -> Path:
    """The examples in one file, as a job's machines get them; once they were looked at."""
    return folder(studio, draft_id) / "packed"


def folder(studio: Studio, draft_id: str) -> Path:
    """Where a draft's files are."""
    return studio.folder / "drafts" / draft_id
