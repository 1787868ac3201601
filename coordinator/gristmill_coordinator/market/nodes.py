"""Nodes as they come and go: who they are on chain, what they offer, when they were last heard."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
import structlog
from pydantic import ValidationError

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain import events as chain_events
from gristmill_coordinator.domain import cards
from gristmill_coordinator.domain.disputes import Tier
from gristmill_coordinator.market.book import Offer, Terms
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import bans, disputes, nodes
from gristmill_protocol.errors import BadRequest, Conflict, NotAllowed
from gristmill_protocol.money import format_usd
from gristmill_protocol.v1 import provider_pb2 as pb

logger = structlog.get_logger()

_MAX_NAME = 60


async def node_connected(co: Coordinator, hello: pb.Hello, network: str = "") -> None:
    """Know a node whose key has been proven by its greeting.

    Args:
        network: market.operators.network of where it dialled from.
    Raises:
        NotAllowed: the provider's on-chain node key is another, or its bond is too small.
        Conflict: the node id belongs to another provider.
        ChainUnavailable: whose key it is cannot be looked up now.
    """
    provider = await co.chain.provider(hello.provider)
    if provider.node_key.lower() != hello.key.lower():
        raise NotAllowed(
            f"Provider {hello.provider} has the node key {provider.node_key}, not {hello.key}.",
            effect="The node cannot work for this provider.",
            todo="Register this key with the Registry, or start the node with the registered one.",
        )
    if not provider.active:
        raise NotAllowed(
            f"Provider {hello.provider} bonds {format_usd(provider.bonded_usd_micros)} USD, less than the minimum.",
            effect="It gets no jobs.",
            todo="Bond the minimum and connect again.",
        )
    now = co.clock()
    values = {
        "provider": hello.provider,
        "key": hello.key,
        "payout": provider.payout,
        "bonded_usd_micros": min(provider.bonded_usd_micros, provider.free_usd_micros),
        "name": hello.name[:_MAX_NAME] or hello.node_id,
        "version": hello.version[:_MAX_NAME],
        "network": network,
        "connected": True,
        "heard_s": now,
        "changed_s": now,
    }
    async with co.store.write() as tx:
        known = await tx.row(sa.select(nodes.c.provider).where(nodes.c.node_id == hello.node_id).with_for_update())
        if known is not None and known.provider != hello.provider:
            raise Conflict(
                f"The node id {hello.node_id!r} belongs to provider {known.provider}.",
                todo="Give this node an id of its own.",
            )
        if await _accused(tx, hello.provider):
            values["bonded_usd_micros"] = 0  # it gets no work until the dispute is over
        if not await tx.add(nodes, {"node_id": hello.node_id, **values}):
            await tx.run(sa.update(nodes).where(nodes.c.node_id == hello.node_id).values(**values))
        await _book(co, tx, hello.node_id)
        tx.wake("matching", "dispatch", "audit")


async def offer_received(co: Coordinator, node_id: str, offer: pb.Offer) -> None:
    """Put a node's offer in the book, replacing its older one.

    Raises:
        BadRequest: the offer makes no sense.
    """
    terms = _terms(offer)
    async with co.store.write() as tx:
        values = {"offer": terms.model_dump(mode="json"), "changed_s": co.clock()}
        await tx.run(sa.update(nodes).where(nodes.c.node_id == node_id).values(**values))
        await _look_at_card(tx, node_id, terms)
        await _book(co, tx, node_id)
        tx.wake("matching", "audit", "challenges")
    logger.info(
        "offer_updated",
        node_id=node_id,
        ask_usd_micros_per_gpu_hour=terms.ask_usd_micros_per_gpu_hour,
        slots=terms.slots,
        paused=terms.paused,
    )


async def card_judged(co: Coordinator, tx: Tx, node_id: str, verdict: cards.Verdict) -> None:
    """Note what a test of a node's card has shown, and tell the node why its offer stands as it does."""
    now, standing = co.clock(), verdict.standing
    values = {"standing": standing, "standing_text": verdict.text, "tested_s": now, "changed_s": now}
    if verdict.state is cards.ChallengeState.PASSED:
        values["proven_s"] = now
    await tx.run(sa.update(nodes).where(nodes.c.node_id == node_id).values(**values))
    await _book(co, tx, node_id)
    tx.wake("matching", "challenges")
    co.links.send(node_id, pb.CoordinatorMessage(card=pb.CardVerdict(standing=standing, reason=verdict.text)))
    logger.info("card_judged", node_id=node_id, standing=standing, reason=verdict.text)


async def heartbeat(co: Coordinator, node_id: str, beat: pb.Heartbeat) -> None:
    """Note that a node is alive and what it is doing. In memory: the watch stage writes many at once."""
    co.pulse.beat(node_id, co.clock(), frozenset(beat.attempt_ids), frozenset(beat.audit_ids))
    co.book.heard(node_id, co.clock())


async def node_disconnected(co: Coordinator, node_id: str) -> None:
    """Note that a node's stream ended; its attempts go on until it has been silent for too long."""
    co.book.heard(node_id, 0.0)
    async with co.store.write() as tx:
        values = {"connected": False, "changed_s": co.clock()}
        await tx.run(sa.update(nodes).where(nodes.c.node_id == node_id).values(**values))


async def refresh(co: Coordinator, since_s: float) -> None:
    """Put the nodes that changed since into the book: all of them at the start, other replicas' later."""
    async with co.store.read() as tx:
        await _put(co, tx, await tx.rows(sa.select(nodes).where(nodes.c.changed_s >= since_s)))


async def provider_changed(co: Coordinator, provider: int) -> None:
    """Put what the chain and our verdicts now say of a provider into the book, for all its nodes.

    Raises:
        ChainUnavailable: what it bonds cannot be looked up now.
    """
    state = await co.chain.provider(provider)
    mine = nodes.c.provider == provider
    bonded = state.bonded_usd_micros if state.active else 0
    async with co.store.write() as tx:
        values = {"bonded_usd_micros": bonded, "payout": state.payout, "changed_s": co.clock()}
        await tx.run(sa.update(nodes).where(mine).values(**values))
        await _put(co, tx, await tx.rows(sa.select(nodes).where(mine)))
        tx.wake("matching", "audit")


def listening_since(co: Coordinator) -> float:
    """Nodes heard at or after this unix time count as here."""
    return co.clock() - co.config.heartbeat_s * co.config.missed_heartbeats


def silent(co: Coordinator, node_id: str) -> bool:
    """Whether a node has missed too many heartbeats, or has not come back since we started although it had the time."""
    heard_s = max(co.book.heard_s(node_id), co.pulse.heard_s(node_id))
    if heard_s <= co.started_s:
        return co.clock() > co.started_s + co.config.reconnect_s
    return heard_s < listening_since(co)


async def holds(co: Coordinator, node_id: str, sha256: str) -> bool:
    """Whether we have a state that this very node uploaded: a claim to another's file must open it to nobody."""
    return co.artifacts.has(sha256) and await co.store.allowed(sha256, f"node:{node_id}")


async def _look_at_card(tx: Tx, node_id: str, terms: Terms) -> None:
    """A card that is not the one that was tested has yet to show what it can do."""
    card = cards.card(terms.device, terms.driver, terms.numeric_class)
    changed = sa.and_(nodes.c.node_id == node_id, nodes.c.card != card)
    untested = {"standing": cards.Standing.UNTESTED, "standing_text": cards.UNTESTED_TEXT, "tested_s": 0.0}
    await tx.run(sa.update(nodes).where(changed).values(card=card, proven_s=0.0, **untested))


async def rebook(co: Coordinator, providers: Collection[int]) -> None:
    """Put what our rows now say of these providers' nodes into the book."""
    async with co.store.read() as tx:
        await _put(co, tx, await tx.rows(sa.select(nodes).where(nodes.c.provider.in_(providers))))


async def unwilling(co: Coordinator, tx: Tx, node_id: str) -> None:
    """Note that a node did not do a check that it was drawn for."""
    await tx.run(sa.update(nodes).where(nodes.c.node_id == node_id).values(refused_s=co.clock(), changed_s=co.clock()))
    await _book(co, tx, node_id)


async def _accused(tx: Tx, provider: int) -> bool:
    """Whether it stands accused of fraud."""
    one = disputes.c
    fraud = sa.and_(one.provider == provider, one.tier == Tier.FRAUD, ~one.closed)
    return await tx.row(sa.select(one.window_id).where(fraud).limit(1)) is not None


async def _book(co: Coordinator, tx: Tx, node_id: str) -> None:
    await _put(co, tx, await tx.rows(sa.select(nodes).where(nodes.c.node_id == node_id)))


async def _put(co: Coordinator, tx: Tx, rows: Sequence[Row]) -> None:
    rows = [row for row in rows if row.offer is not None]
    providers = {row.provider for row in rows}
    funders = await chain_events.funders(tx, providers)
    banned = {(row.provider, row.numeric_class): row.until_s for row in await tx.rows(sa.select(bans))}
    for row in rows:
        terms = Terms.model_validate(row.offer)
        traits = {*funders.get(row.provider, ()), row.network} - {""}
        co.book.put(
            Offer(
                node_id=row.node_id,
                provider=row.provider,
                payout=row.payout,
                key=row.key,
                name=row.name,
                bonded_usd_micros=row.bonded_usd_micros,
                terms=terms,
                standing=cards.Standing(row.standing),
                standing_text=row.standing_text,
                proven_s=row.proven_s,
                traits=frozenset(traits),
                banned_until_s=banned.get((row.provider, terms.numeric_class), 0.0),
                refused_s=row.refused_s,
            )
        )
        co.book.heard(row.node_id, max(row.heard_s, co.pulse.heard_s(row.node_id)) if row.connected else 0.0)


def _terms(offer: pb.Offer) -> Terms:
    try:
        return Terms(
            device=offer.device,
            is_cpu=offer.is_cpu,
            memory_bytes=offer.memory_bytes,
            driver=offer.driver,
            numeric_class=offer.numeric_class.hex(),
            flops_per_s=offer.flops_per_s,
            ask_usd_micros_per_gpu_hour=offer.ask_usd_micros_per_gpu_hour,
            slots=offer.slots,
            sandbox=offer.sandbox,
            own_renters=tuple(key.lower() for key in offer.own_renters),
            paused=offer.paused,
            recipes=tuple(offer.recipes),
            network=tuple(offer.network),
        )
    except ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in err.errors())
        raise BadRequest(f"The offer makes no sense: {wrong}.", effect="It is not in the market.") from err
