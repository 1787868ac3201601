"""Why machines have nothing to do, in sentences for their owners, as far as the coordinator knows."""

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.jobs import reasons
from gristmill_coordinator.market.book import Offer
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.stages.matching import demand_of
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import jobs
from gristmill_protocol.jobs import JobState, Quote
from gristmill_protocol.money import format_usd

_MAX_JOBS = 20  # that wait longest; each is held against the whole book


async def waiting_jobs(tx: Tx) -> list[Row]:
    """The jobs that wait for a machine, as far as they are looked at."""
    query = sa.select(jobs).where(jobs.c.reason.in_(reasons(JobState.QUEUED))).order_by(jobs.c.queued_s)
    return list(await tx.rows(query.limit(_MAX_JOBS)))


def why_idle(co: Coordinator, offers: Sequence[Offer], waiting: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Node id -> why it has nothing to do; empty for one that works.

    Args:
        offers: of the book, whose load is fresh.
        waiting: jobs that wait for a machine.
    """
    since_s = listening_since(co)
    missing = _missing(co, [offer.node_id for offer in offers], waiting, since_s)
    rivals = [offer for offer in co.book.alive(since_s) if offer.standing.proven and co.book.free_slots(offer.node_id)]
    found = {}
    for offer in offers:
        if co.book.heard_s(offer.node_id) < since_s:
            why = ["It is not connected: start it with `gristmill-node up`."]
        elif co.book.free_slots(offer.node_id) < offer.terms.slots:
            why = []
        else:
            why = _own_reasons(co, offer) or _market_reasons(offer, missing[offer.node_id], rivals)
        found[offer.node_id] = tuple(why)
    return found


def _missing(
    co: Coordinator, node_ids: Sequence[str], waiting: Sequence[Row], since_s: float
) -> dict[str, Counter[str]]:
    """Node id -> requirement that it does not meet -> how many waiting jobs have it; "" counts those it could do."""
    found: dict[str, Counter[str]] = {node_id: Counter() for node_id in node_ids}
    for row in waiting:
        demand = demand_of(co, row, Quote.model_validate(row.quote))
        for node_id, why in co.book.unmet(demand, since_s=since_s, nodes=node_ids).items():
            found[node_id][why] += 1
    return found


def _own_reasons(co: Coordinator, offer: Offer) -> list[str]:
    """What keeps a machine from any job of others."""
    found = []
    if offer.terms.paused:
        found.append("Its owner has paused it.")
    if not offer.terms.slots:
        found.append("It offers no place for a job.")
    if not offer.bonded_usd_micros:
        found.append("Its provider has no bond that counts: none is left, or it stands accused of fraud.")
    if offer.banned_until_s > co.clock():
        days = -(-(offer.banned_until_s - co.clock()) // 86_400)
        found.append(f"Its provider is barred for proven fraud, for {days:.0f} more days.")
    if not offer.standing.proven:
        found.append(offer.standing_text or "Its card has not passed its test.")
    if not offer.terms.for_anybody:
        found.append("It runs jobs without walls around them, so it gets its owner's own jobs only.")
    return found


def _market_reasons(offer: Offer, missing: Counter[str], rivals: Sequence[Offer]) -> list[str]:
    """Why a machine that could work gets nothing."""
    able = missing.pop("", 0)
    found = [f"It does not fit {_jobs(count)}: {why} is needed." for why, count in missing.most_common()]
    if not missing and not able:
        found.append("No job is waiting for a machine.")
    if able:
        found.append(f"It could do {_jobs(able)}; the cheapest machine that can gets it.")
    cheaper = [one for one in rivals if one.provider != offer.provider and _price(one) < _price(offer)]
    others = [one for one in rivals if one.provider != offer.provider]
    if cheaper:
        ask = format_usd(offer.terms.ask_usd_micros_per_gpu_hour)
        count = f"{len(cheaper)} of {len(others)} other free machines"
        found.append(f"It asks {ask} USD an hour; {count} do the same work for less.")
    return found


def _price(offer: Offer) -> float:
    """What an amount of work costs there, to compare: a slow machine's hour is worth less."""
    return offer.terms.ask_usd_micros_per_gpu_hour / offer.terms.flops_per_s


def _jobs(count: int) -> str:
    return f"{count} waiting job{'s' if count > 1 else ''}"
