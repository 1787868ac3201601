"""A stage of the pages: moves a maker's money into its account, step by step, by signatures of the key that is held.

Test money is made first. Real money is what has arrived at the key's address.
"""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
import structlog
from eth_utils.address import to_checksum_address

from gristmill_coordinator.chain.port import ZERO_ADDRESS
from gristmill_coordinator.stages import relaying
from gristmill_coordinator.store.store import Row, keep
from gristmill_coordinator.store.studio_tables import makers, payins
from gristmill_coordinator.studio.makers import Maker, wallet
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.consents import authorize_deposit, sign_opening
from gristmill_protocol.errors import BadRequest, Conflict, GristmillError, NotAllowed, Unavailable
from gristmill_protocol.wallet import RelayView

logger = structlog.get_logger()

_VALID_S = 3_600  # a signature that is not used by then is void
_LOOK_AGAIN_S = 0.5
_TRY_AGAIN_S = 3.0
_PATIENCE_S = 600.0
_MOST_TEST_USD_MICROS = 1_000_000_000


class State(StrEnum):
    ASKED = "asked"
    HELD = "held"  # the money is at the key's address
    OPENING = "opening"
    DEPOSITING = "depositing"
    DONE = "done"
    FAILED = "failed"


UNDER_WAY = (State.ASKED, State.HELD, State.OPENING, State.DEPOSITING)


async def ask(studio: Studio, maker: Maker, amount_usd_micros: int, *, request_id: str, make: bool) -> str:
    """Have money moved into the maker's account; the same request_id again is the same.

    Args:
        make: it is test money, which is made for this.
    Raises:
        NotAllowed: money is real here.
        BadRequest: the amount is too small or too large.
    """
    if make and studio.faucet is None:
        raise NotAllowed("Money is real here: none can be made.", effect="Nothing was added.")
    least = studio.co.config.min_deposit_usd_micros
    if not least <= amount_usd_micros or (make and amount_usd_micros > _MOST_TEST_USD_MICROS):
        raise BadRequest("That amount cannot be added.", effect="Nothing was added.", todo="Choose another amount.")
    row = {
        "payin_id": studio.co.new_id("payin"),
        "maker_id": maker.id,
        "request_id": request_id,
        "amount_usd_micros": amount_usd_micros,
        "make": make,
        "state": State.ASKED if make else State.HELD,
        "created_s": studio.co.clock(),
        "reason": "",
        "due_s": 0.0,
    }
    async with studio.co.store.write() as tx:
        await tx.add(payins, row)
        mine = sa.and_(payins.c.maker_id == maker.id, payins.c.request_id == request_id)
        payin_id = str(await tx.value(sa.select(payins.c.payin_id).where(mine)))
        tx.wake("paying_in")
    return payin_id


async def newest(studio: Studio, maker: Maker) -> Row | None:
    """What was asked for last."""
    mine = sa.select(payins).where(payins.c.maker_id == maker.id)
    async with studio.co.store.read() as tx:
        return await tx.row(mine.order_by(payins.c.created_s.desc(), payins.c.payin_id.desc()).limit(1))


async def step(studio: Studio) -> int:
    """Move each of them one step on."""
    co = studio.co
    where = payins.c.state.in_(UNDER_WAY)
    rows = await co.store.claim(payins, where, now=co.clock(), hold_s=co.config.claim_s, limit=co.config.batch)
    for row in rows:
        await _move(studio, row)
    return len(rows)


async def _move(studio: Studio, row: Row) -> None:
    now = studio.co.clock()
    try:
        values = await _next(studio, row)
    except (Conflict, Unavailable) as err:  # an earlier one is under way, or the chain is away
        logger.warning("payin_waits", payin_id=row.payin_id, why=err.what)
        late = now > row.created_s + _PATIENCE_S
        values = {"state": State.FAILED, "reason": err.what} if late else {"due_s": now + _TRY_AGAIN_S}
    except GristmillError as err:
        values = {"state": State.FAILED, "reason": err.what}
    async with studio.co.store.write() as tx:
        await keep(tx, payins, row, **values)
        tx.wake("paying_in")


async def _next(studio: Studio, row: Row) -> dict[str, Any]:
    """What changes in the row."""
    co = studio.co
    async with co.store.read() as tx:
        renter = str(await tx.value(sa.select(makers.c.renter).where(makers.c.maker_id == row.maker_id)))
    if row.state == State.ASKED:
        assert studio.faucet is not None  # ask() made sure of it
        await studio.faucet.give(to_checksum_address(renter), row.amount_usd_micros)
        return {"state": State.HELD}
    if row.state == State.HELD:
        opened = (await co.chain.account(to_checksum_address(renter))).owner != ZERO_ADDRESS
        relay = await (_deposit(studio, row, renter) if opened else _open(studio, row, renter))
        return {"state": State.DEPOSITING if opened else State.OPENING, "relay_id": relay.relay_id}
    relay = await relaying.view(co, renter, row.relay_id)
    if relay.state == "pending":
        return {"due_s": co.clock() + _LOOK_AGAIN_S}
    if relay.state == "failed":
        return {"state": State.FAILED, "reason": relay.reason}
    return {"state": State.DONE if row.state == State.DEPOSITING else State.HELD}


async def _open(studio: Studio, row: Row, renter: str) -> RelayView:
    key, chain = (await wallet(studio, row.maker_id)).account, studio.co.chain
    domain = chain.info.ledger_domain
    opening = sign_opening(key, domain, owner=key.address, coordinator=chain.info.coordinator_id)
    return await relaying.open_account(studio.co, renter, opening)


async def _deposit(studio: Studio, row: Row, renter: str) -> RelayView:
    key, chain = (await wallet(studio, row.maker_id)).account, studio.co.chain
    collector = chain.info.collectors.get("erc3009")
    if collector is None:
        raise BadRequest("Money cannot be paid in by signature here.", effect="It lies where it was sent.")
    by = authorize_deposit(
        key,
        await chain.token_domain(),
        collector,
        key=key.address,
        amount_usd_micros=row.amount_usd_micros,
        valid_before_s=(await chain.head()).at_s + _VALID_S,
    )
    return await relaying.deposit(studio.co, renter, by)
