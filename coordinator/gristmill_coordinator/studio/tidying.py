"""A stage of the pages: forgets what was begun long ago and never started, and links that are over."""

import sqlalchemy as sa

from gristmill_coordinator.store.studio_tables import drafts, sign_ins
from gristmill_coordinator.studio import drafts as drafting
from gristmill_coordinator.studio.parts import Studio

_DAY_S = 86_400


async def step(studio: Studio) -> int:
    """Forget some."""
    co, one = studio.co, drafts.c
    stale = sa.and_(one.job_id.is_(None), one.changed_s < co.clock() - studio.settings.keep_drafts_s)
    async with co.store.read() as tx:
        old = await tx.rows(sa.select(drafts).where(stale).limit(co.config.batch))
        over = await tx.row(sa.select(sign_ins.c.digest).where(sign_ins.c.expires_s < co.clock() - _DAY_S).limit(1))
    for draft in old:
        await drafting.delete(studio, draft)
    if over is not None:
        async with co.store.write() as tx:
            await tx.run(sa.delete(sign_ins).where(sign_ins.c.expires_s < co.clock() - _DAY_S))
    return len(old)
