"""A stage of the pages: looks at the examples that somebody brought, and packs those that can be learnt from."""

import asyncio
import sys

import structlog

from gristmill_coordinator.store.store import Row, keep
from gristmill_coordinator.store.studio_tables import drafts
from gristmill_coordinator.studio.drafts import Stage, packed
from gristmill_coordinator.studio.look_process import Asked, Seen
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.uploads import mended_copy, source
from gristmill_protocol.errors import GristmillError, Problem, Unavailable

logger = structlog.get_logger()

_PATIENCE_S = 600.0
_AT_ONCE = 2


async def step(studio: Studio) -> int:
    """Look at what waits for it."""
    where = drafts.c.stage == Stage.LOOKING
    co = studio.co
    rows = await co.store.claim(drafts, where, now=co.clock(), hold_s=_PATIENCE_S + 60, limit=_AT_ONCE)
    await asyncio.gather(*(_look(studio, row) for row in rows))
    return len(rows)


async def _look(studio: Studio, draft: Row) -> None:
    try:
        seen = await _seen(studio, draft)
    except GristmillError as err:  # the example data are gone, say
        seen = Seen(problem=err.problem())
    values = {
        "stage": Stage.UNUSABLE if seen.look is None else Stage.LOOKED,
        "look": None if seen.look is None else seen.look.model_dump(mode="json"),
        "trouble": None if seen.problem is None else seen.problem.model_dump(mode="json"),
        "data": None if seen.data is None else seen.data.model_dump(mode="json"),
        "repairs": [],
        "roles": {} if draft.repairs and seen.look is not None else draft.roles,
    }
    async with studio.co.store.write() as tx:
        await keep(tx, drafts, draft, **values)


async def _seen(studio: Studio, draft: Row) -> Seen:
    asked = Asked(
        path=str(await asyncio.to_thread(source, studio, draft)),
        goal=draft.goal,
        roles=draft.roles,
        repairs=tuple(draft.repairs),
        mended=str(mended_copy(studio, draft)),
        packed=str(packed(studio, draft.draft_id)),
    )
    return await in_a_process(asked)


async def in_a_process(asked: Asked) -> Seen:
    """What a process of its own sees; a problem if it died or took too long."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gristmill_coordinator.studio.look_process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, log = await asyncio.wait_for(process.communicate(asked.model_dump_json().encode()), _PATIENCE_S)
    except TimeoutError:
        out, log = b"", b"it took too long"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        logger.error("look_failed", rc=process.returncode, log=log[-2_000:].decode(errors="replace"))
        return Seen(problem=_TOO_MUCH)
    return Seen.model_validate_json(out)


_TOO_MUCH = Problem(
    code=Unavailable.code,
    what="Your examples could not be read here.",
    effect="Nothing was started or charged.",
    todo="They may be too many or too large. Bring fewer of them, or save them in another way.",
)
