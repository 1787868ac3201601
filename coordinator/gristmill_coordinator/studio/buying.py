"""Acting as the renter of a maker: a firm price, an order, and what a running job still needs signed.

It goes the way of every renter: the same stages, the same checks before anything is signed, the same signatures.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
import structlog

from gristmill_coordinator import views
from gristmill_coordinator.domain.jobs import UNENDED
from gristmill_coordinator.stages import intake, settlement
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.studio_tables import drafts, makers
from gristmill_coordinator.store.tables import jobs
from gristmill_coordinator.studio import drafts as drafting
from gristmill_coordinator.studio.drafts import Choices
from gristmill_coordinator.studio.look_process import LookView
from gristmill_coordinator.studio.makers import Maker, wallet
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import BadData, Conflict, NoOfferFits, RefusedToSign, TooLarge
from gristmill_protocol.jobs import ArtifactRef, JobSpec, JobView, Quote, Statement
from gristmill_protocol.renter_checks import check_quote, check_statement

logger = structlog.get_logger()

_BLOCK_BYTES = 1024 * 1024


async def price(studio: Studio, maker: Maker, draft: Row, choices: Choices) -> Quote:
    """A firm price for what was chosen, kept with the draft.

    Raises:
        BadData: nothing can be learnt from the examples as they are.
        BadSettings, NoOfferFits, BudgetBelowQuote, Conflict: there is no price; the choices are kept.
    """
    await drafting.update(studio, draft, choices=choices.model_dump(mode="json"), spec=None, quote=None)
    if draft.data is None or draft.look is None:
        raise BadData("The examples are not ready.", effect="There is no price yet.", todo="Look at them first.")
    spec = JobSpec(
        recipe=draft.goal,
        settings=choices.settings,
        data=ArtifactRef.model_validate(draft.data),
        stats=LookView.model_validate(draft.look).stats,
        budget_usd_micros=choices.budget_usd_micros,
        name=draft.name,
    )
    try:
        quote = await intake.quote(studio.co, maker.renter, spec)
    except NoOfferFits as err:
        logger.info("no_offer_fits", draft_id=draft.draft_id, excluded=err.details.get("excluded"))
        todo = "Choose a lower quality, or try again in a while."
        raise NoOfferFits("No computer can do this just now.", effect="Nothing was started.", todo=todo) from err
    except TooLarge as err:
        raise TooLarge(
            "This would take too long.", effect="Nothing was started.", todo="Choose a lower quality."
        ) from err
    check_quote(quote, spec, now_s=studio.co.clock())
    await drafting.update(studio, draft, spec=spec.model_dump(mode="json"), quote=quote.model_dump(mode="json"))
    return quote


async def start(studio: Studio, maker: Maker, draft: Row, quote_id: str) -> str:
    """Order the job at the price that was shown; its id. A draft is ordered once, however often this is asked for.

    Raises:
        Conflict: the price that was shown is not the draft's any more.
        QuoteExpired, BalanceBelowCap: nothing was started or reserved.
    """
    if draft.job_id is not None:
        return str(draft.job_id)
    quote = None if draft.quote is None else Quote.model_validate(draft.quote)
    if quote is None or quote.quote_id != quote_id:
        raise Conflict(
            "The price has changed since you saw it.", effect="Nothing was started.", todo="Look at it again."
        )
    spec, co = JobSpec.model_validate(draft.spec), studio.co
    check_quote(quote, spec, now_s=co.clock())
    await _upload(studio, maker, draft, spec.data)
    key = await wallet(studio, maker.id)
    submission = await asyncio.to_thread(
        key.submission,
        quote,
        spec,
        coordinator=co.chain.info.coordinator_id,
        ledger=co.chain.info.ledger_domain,
        request_id=_request_id(draft),
    )
    try:
        job_id = (await intake.submit(co, maker.renter, submission)).job_id
    except Conflict:
        # Another tab was faster, perhaps at another price.
        if (ordered := await _ordered(studio, maker, draft)) is None:
            raise
        job_id = ordered
    async with co.store.write() as tx:
        await tx.run(sa.update(drafts).where(drafts.c.draft_id == draft.draft_id).values(job_id=job_id))
    await asyncio.to_thread(shutil.rmtree, drafting.folder(studio, draft.draft_id), ignore_errors=True)
    return job_id


async def step(studio: Studio) -> int:
    """A stage of the pages: sign what makers' running jobs want signed, if it is what was agreed on."""
    waits = sa.and_(jobs.c.wanted.is_not(None), jobs.c.reason.in_(UNENDED))
    joined = sa.select(jobs.c.job_id, jobs.c.renter, makers.c.maker_id).join(makers, makers.c.renter == jobs.c.renter)
    async with studio.co.store.read() as tx:
        waiting = await tx.rows(joined.where(waits).limit(studio.co.config.batch))
    return sum([await _sign(studio, row) for row in waiting])


async def _upload(studio: Studio, maker: Maker, draft: Row, data: ArtifactRef) -> None:
    """Put the examples where machines get them, as this maker's."""
    co = studio.co
    with suppress(FileNotFoundError):  # another tab was faster, and has tidied up
        if not co.artifacts.has(data.sha256):
            await co.artifacts.put(data.sha256, _blocks(drafting.packed(studio, draft.draft_id)))
    await co.store.grant(data.sha256, f"renter:{maker.renter}")


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block


async def _sign(studio: Studio, row: Row) -> int:
    view = await views.job(studio.co, row.renter, row.job_id)
    async with studio.co.store.read() as tx:
        quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote).where(jobs.c.job_id == row.job_id)))
    wanted = view.signature_wanted
    if wanted is None or not _agreed(wanted, quote, view):
        return 0
    key = await wallet(studio, row.maker_id)
    signed = await asyncio.to_thread(key.sign_statement, wanted, studio.co.chain.info.ledger_domain)
    await settlement.add_statement(studio.co, row.renter, row.job_id, signed)
    return 1


def _agreed(wanted: Statement, quote: Quote, view: JobView) -> bool:
    try:
        check_statement(wanted, quote, view)
    except RefusedToSign as err:
        logger.error("statement_refused", job_id=view.job_id, why=err.what)
        return False
    return True


def _request_id(draft: Row) -> str:
    return sha256(f"draft {draft.draft_id}".encode()).hexdigest()


async def _ordered(studio: Studio, maker: Maker, draft: Row) -> str | None:
    mine = sa.and_(jobs.c.renter == maker.renter, jobs.c.request_id == _request_id(draft))
    async with studio.co.store.read() as tx:
        found = await tx.value(sa.select(jobs.c.job_id).where(mine))
    return None if found is None else str(found)
