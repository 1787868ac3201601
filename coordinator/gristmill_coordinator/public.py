"""What anybody may see of the market: who sells, what was done, checked, paid and slashed. Nothing names a renter.

Slashes are the chain's events; all else is what this coordinator holds.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from eth_utils.address import to_checksum_address

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.idle import waiting_jobs, why_idle
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import (
    attempts,
    audits,
    jobs,
    ledger_events,
    nodes,
    standings,
    statements,
    windows,
)
from gristmill_coordinator.views import offer_view
from gristmill_protocol.api import EarnedDay, MachineView, MarketView, ProviderPage, ProviderView, SlashedView
from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import Quote, SignedStatement
from gristmill_protocol.money import split_line

_MAX_SLASHES = 50
_MAX_JOBS = 2_000  # of a provider, whose payments are added up


async def market(co: Coordinator) -> MarketView:
    """The market in numbers."""
    async with co.store.read() as tx:
        by_reason = await _counts(tx, jobs.c.reason)
        sums = sa.select(sa.func.sum(jobs.c.paid_usd_micros), sa.func.sum(jobs.c.steps_accepted))
        [(paid, steps)] = await tx.rows(sums.where(jobs.c.settle_tx.is_not(None)))
        slashed = sa.select(sa.func.sum(ledger_events.c.amount_usd_micros)).where(_SLASHED)
        states: dict[str, int] = defaultdict(int)
        for reason, count in by_reason.items():
            states[JobReason(reason).state] += count
        return MarketView(
            jobs=dict(states),
            paid_usd_micros=int(paid or 0),
            accepted_steps=int(steps or 0),
            audits=await _counts(tx, audits.c.outcome),
            windows=await _counts(tx, windows.c.state),
            faults={finding: count for finding, count in (await _counts(tx, windows.c.finding)).items() if finding},
            slashes=await _slashes(tx),
            slashed_usd_micros=int(await tx.value(slashed) or 0),
        )


async def providers(co: Coordinator) -> list[ProviderView]:
    """Everyone who has offered a machine here: who is connected first, then by what is bonded."""
    async with co.store.read() as tx:
        found = await _providers(co, tx)
    return sorted(found, key=lambda one: (-one.connected, -one.bonded_usd_micros, one.provider))


async def provider(co: Coordinator, provider_id: int) -> ProviderPage:
    """One provider: its machines and why they are idle, what it earned, what it lost.

    Raises:
        NotFound: it has never offered a machine here.
    """
    async with co.store.read() as tx:
        about = await _providers(co, tx, only=provider_id)
        if not about:
            raise NotFound(f"Provider {provider_id} has no machine here.", todo="Look at the list of providers.")
        co.book.load(await job_rows.loads(tx), await job_rows.locks(tx))
        waiting = await waiting_jobs(tx)
        earned, slashes = await _earned(co, tx, provider_id), await _slashes(tx, provider_id)
        mine = await tx.rows(
            sa.select(nodes.c.node_id).where(nodes.c.provider == provider_id).order_by(nodes.c.node_id)
        )
    offers = [offer for row in mine if (offer := co.book.get(row.node_id)) is not None]
    idle, since_s = why_idle(co, offers, waiting), listening_since(co)
    machines = tuple(
        MachineView(
            offer=offer_view(co, offer),
            connected=co.book.heard_s(offer.node_id) >= since_s,
            paused=offer.terms.paused,
            heard_ms=int(co.book.heard_s(offer.node_id) * 1000),
            idle=idle[offer.node_id],
        )
        for offer in offers
    )
    return ProviderPage(about=about[0], machines=machines, earned=earned, slashes=slashes)


_SLASHED = sa.and_(ledger_events.c.contract == "registry", ledger_events.c.name == "Slashed")


async def _providers(co: Coordinator, tx: Tx, only: int | None = None) -> list[ProviderView]:
    query = sa.select(nodes).where(nodes.c.offer.is_not(None))
    query = query if only is None else query.where(nodes.c.provider == only)
    of: dict[int, list[Row]] = defaultdict(list)
    for row in await tx.rows(query.order_by(nodes.c.heard_s.desc())):
        of[row.provider].append(row)
    known = {row.provider: row for row in await tx.rows(sa.select(standings).where(standings.c.provider.in_(of)))}
    lost = sa.select(ledger_events.c.payee, sa.func.sum(ledger_events.c.amount_usd_micros)).where(_SLASHED)
    slashed = {payee: int(amount) for payee, amount in await tx.rows(lost.group_by(ledger_events.c.payee))}
    return [_provider(co, rows, known.get(one), slashed.get(one, 0)) for one, rows in of.items()]


def _provider(co: Coordinator, rows: Sequence[Row], standing: Row | None, slashed_usd_micros: int) -> ProviderView:
    """Of a provider's rows, the one heard last first."""
    since_s = listening_since(co)
    connected = [row for row in rows if co.book.heard_s(row.node_id) >= since_s]
    return ProviderView(
        provider=rows[0].provider,
        name=rows[0].name,
        machines=len(rows),
        connected=len(connected),
        devices=tuple(sorted({row.offer["device"] for row in rows})),
        ask_usd_micros_per_gpu_hour=min((row.offer["ask_usd_micros_per_gpu_hour"] for row in connected), default=None),
        bonded_usd_micros=max(row.bonded_usd_micros for row in rows),
        clean_windows=0 if standing is None else standing.clean_windows,
        frauds=0 if standing is None else standing.frauds,
        slashed_usd_micros=slashed_usd_micros,
    )


async def _slashes(tx: Tx, provider_id: int | None = None) -> tuple[SlashedView, ...]:
    one = ledger_events.c
    query = sa.select(ledger_events).where(_SLASHED)
    query = query if provider_id is None else query.where(one.payee == provider_id)
    rows = await tx.rows(query.order_by(one.block.desc(), one.log_index.desc()).limit(_MAX_SLASHES))
    known = sa.select(nodes.c.provider, nodes.c.name).where(nodes.c.provider.in_({row.payee for row in rows}))
    names: dict[int, str] = dict(await tx.rows(known.order_by(nodes.c.heard_s)))
    return tuple(
        SlashedView(
            provider=row.payee,
            provider_name=names.get(row.payee, ""),
            amount_usd_micros=row.amount_usd_micros,
            at_s=row.at_s,
            tx=row.tx_hash,
        )
        for row in rows
    )


async def _earned(co: Coordinator, tx: Tx, provider_id: int) -> tuple[EarnedDay, ...]:
    """What the provider was paid for its work and its checks, by day; of its newest paid jobs."""
    earned: dict[str, int] = defaultdict(int)
    paid: dict[str, int] = defaultdict(int)
    rows: dict[chain_events.Nonce, Row] = {
        (to_checksum_address(row.renter), row.nonce): row for row in await _paid_jobs(tx, provider_id)
    }
    for nonce, event in (await chain_events.payments(tx, co.config, rows)).items():
        if share := _share(rows[nonce], provider_id):
            day = datetime.fromtimestamp(event.at_s, UTC).date().isoformat()
            earned[day] += share
            paid[day] += 1
    return tuple(EarnedDay(day=day, usd_micros=earned[day], jobs=paid[day]) for day in sorted(earned, reverse=True))


async def _paid_jobs(tx: Tx, provider_id: int) -> Sequence[Row]:
    """The newest paid jobs that the provider ran, checked or was named as the verifier of."""
    ran = sa.or_(attempts.c.provider == provider_id, attempts.c.verifier == provider_id)
    mine = sa.union(
        sa.select(attempts.c.job_id).where(ran), sa.select(audits.c.job_id).where(audits.c.verifier == provider_id)
    )
    job = jobs.c
    held = sa.and_(statements.c.job_id == job.job_id, statements.c.statement_id == job.statement_id)
    query = sa.select(job.renter, job.nonce, job.quote, statements.c.signed).select_from(jobs).join(statements, held)
    query = query.where(job.settle_tx.is_not(None), job.job_id.in_(mine))
    return await tx.rows(query.order_by(job.created_s.desc()).limit(_MAX_JOBS))


def _share(row: Row, provider_id: int) -> int:
    """What a paid job left the provider with."""
    quote = Quote.model_validate(row.quote)
    total = 0
    for line in SignedStatement.model_validate(row.signed).statement.lines:
        split = split_line(line.amount_usd_micros, verifier_bps=quote.verifier_bps, royalty_bps=quote.royalty_bps)
        total += split.provider * (line.provider == provider_id) + split.verifier * (line.verifier == provider_id)
    return total


async def _counts(tx: Tx, column: sa.Column[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in await tx.rows(sa.select(column, sa.func.count()).group_by(column))}
