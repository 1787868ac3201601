"""Before stage 1: a firm price for a job, on the machines that the market has now."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.port import RecipeTerms
from gristmill_coordinator.domain import modes, pricing, sampling, tolerance
from gristmill_coordinator.domain.modes import WAYS
from gristmill_coordinator.market.book import Demand, Fit, Offer, Ranking
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import tables
from gristmill_coordinator.store.store import Tx
from gristmill_protocol import commitments
from gristmill_protocol.errors import BudgetBelowQuote, NoOfferFits, TooLarge, UnknownRecipe
from gristmill_protocol.jobs import JobSpec, Plan, Quote, QuotedProvider, QuotedReplica, SampleBasis
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.money import format_usd
from gristmill_trainer import catalog
from gristmill_trainer.recipe import Gpu

# A job may turn out slower than measured, wait for a machine, move once: its statements have to outlive all that.
_PATIENCE = 4

_UNWILLING_S = 3_600.0


async def quote(co: Coordinator, renter: str, spec: JobSpec) -> Quote:
    """A firm total price for a job, on the machine with the lowest expected total.

    Raises:
        UnknownRecipe, BadSettings, BadData: as the recipe finds.
        BadRequest: it can't be checked in the way asked for.
        NoOfferFits: no machine can do it; details["excluded"] says why.
        BudgetBelowQuote: the cheapest machine costs more than the budget.
        TooLarge: it takes longer than a signed statement lives.
    """
    recipe = catalog.find(spec.recipe)
    recipe_id, terms = await recipe_terms(co, spec.recipe)
    async with co.store.read() as tx:
        co.book.load(await job_rows.loads(tx), await job_rows.locks(tx))
    wanted = Demand(
        renter=renter,
        recipe=spec.recipe,
        plan=recipe.plan(spec.settings, spec.stats, Gpu()),
        gpu=spec.gpu,
        verifier_bps=terms.verifier_bps,
        royalty_bps=terms.royalty_bps,
    )
    mode, demand, ranking = _rank(co, modes.choices(spec, whole=recipe.info.whole), wanted)
    best, quote_id = ranking.fits[0], co.new_id("quote")
    if mode is Mode.REPLICATE:
        ranking, replicas = split_replicas(co, ranking, spec.replicas, seed=quote_id.encode())
    else:
        replicas = ()
    again = sum(one.price_usd_micros for one in replicas)
    price = best.price.usd_micros + again
    _require_worth(co, spec, price, best.price.duration_ms)
    foreign = next((fit for fit in ranking.fits if not _related(co, fit, best)), best)
    cap = pricing.cap(price, foreign.price.usd_micros + again, spec.budget_usd_micros)
    candidates = _candidates(co, demand, ranking, cap - again, seed=quote_id.encode(), replicas=replicas)
    plan = recipe.plan(spec.settings, spec.stats, _gpu(best))
    if mode is Mode.TOLERANCE:
        plan = tolerance.cut(plan, recipe.info.numerics)
    if not WAYS[mode].samples:
        plan = plan.model_copy(update={"window_segments": plan.segments})
    made = Quote(
        quote_id=quote_id,
        spec_digest=spec.digest().hex(),
        plan=plan,
        candidates=candidates,
        replicas=replicas,
        price_usd_micros=price,
        cap_usd_micros=cap,
        seconds_low=candidates[0].expected_seconds,
        seconds_high=2 * candidates[0].expected_seconds + int(co.config.anchor_every_s) + 60,
        recipe_id=recipe_id,
        verifier_bps=terms.verifier_bps,
        royalty_bps=terms.royalty_bps,
        nonce=await _next_nonce(co, renter),
        deadline_s=int(co.clock()) + co.config.statement_valid_s,
        expires_s=int(co.clock()) + co.config.quote_valid_s,
        offers_considered=ranking.considered,
        excluded=dict(ranking.excluded),
        mode=mode,
        guarantee=GUARANTEES[mode],
        verification=await _verification(co, spec, plan, mode, demand, best)
        if WAYS[mode].samples
        else modes.how(mode, spec, plan),
    )
    await _remember(co, renter, made)
    return made


def _rank(co: Coordinator, choices: Sequence[Mode], demand: Demand) -> tuple[Mode, Demand, Ranking]:
    """The first of these ways of checking that the market has machines for; and who can work under it.

    Raises:
        NoOfferFits: nobody can; why not under the first.
    """
    rankings = []
    for mode in choices:
        under = replace(demand, checkers=WAYS[mode].checkers)
        rankings.append(co.book.rank(under, since_s=listening_since(co)))
        if rankings[-1].fits:
            return mode, under, rankings[-1]
    raise _no_offer(rankings[0])


async def recipe_terms(co: Coordinator, recipe: str) -> tuple[int, RecipeTerms]:
    """A recipe's id on the Ledger and its shares.

    Raises:
        UnknownRecipe: it is not registered there, so its jobs could not be paid.
    """
    recipe_id = co.recipe_ids.get(recipe)
    terms = None if recipe_id is None else await co.chain.recipe(recipe_id)
    if recipe_id is None or terms is None or not terms.active:
        raise UnknownRecipe(
            f"The recipe {recipe!r} is not registered on this coordinator's chain.",
            effect="Its jobs could not be paid.",
            todo=f"Use one of {', '.join(sorted(co.recipe_ids))}.",
        )
    return recipe_id, terms


def draw_verifier(co: Coordinator, fit: Fit, demand: Demand, *, without: tuple[str, ...], seed: bytes) -> int:
    """Payee id of the verifier that a statement for this machine names, best without these nodes.

    It is drawn like those who check, and paid for being one of them: who checks is not known before there is something
    to check. So it is best none that lately did not do a check that it was drawn for.

    Raises:
        NoOfferFits: there is none left.
    """
    offer = fit.offer
    able = co.book.verifiers(
        numeric_class=offer.terms.numeric_class,
        renter=demand.renter,
        recipe=demand.recipe,
        since_s=listening_since(co),
        unrelated_to=(offer.node_id,),
        checkers=demand.checkers,
    )
    if not able:
        raise NoOfferFits("No other owner's machine can check the work of the quoted one.", todo="Try again shortly.")
    willing = [other for other in able if co.clock() >= other.refused_s + _UNWILLING_S] or able
    preferred = [other for other in willing if other.node_id not in without] or willing
    drawn = commitments.draw_verifier(
        {other.node_id: other.bonded_usd_micros for other in preferred}, sha256(seed).digest()
    )
    return next(other.provider for other in preferred if other.node_id == drawn)


def split_replicas(
    co: Coordinator, ranking: Ranking, owners: int, *, seed: bytes
) -> tuple[Ranking, tuple[QuotedReplica, ...]]:
    """Draw the machines that run a replicated job again, each of another owner; the ranking without their owners.

    From the cheapest, twice as many as it takes: nobody can tell who is drawn, and nobody dear is.

    Raises:
        NoOfferFits: too few owners.
    """
    first, *others = ranking.fits
    cheapest: dict[str, Fit] = {}  # of each other owner, its node's id
    for fit in sorted(others, key=lambda one: one.price.usd_micros):
        if not any(_related(co, fit, other) for other in (first, *cheapest.values())):
            cheapest[fit.offer.node_id] = fit
    if len(cheapest) < owners - 1:
        raise NoOfferFits(
            f"It takes machines of {owners} owners; those of {len(cheapest) + 1} can do this job now.",
            effect="Nothing was started or charged.",
            todo="Ask for fewer replicas, or try again when more machines are connected.",
        )
    cheapest = dict(list(cheapest.items())[: 2 * (owners - 1)])
    drawn = []
    for at in range(owners - 1):
        bonds = {node_id: fit.offer.bonded_usd_micros for node_id, fit in cheapest.items()}
        drawn.append(cheapest.pop(commitments.draw_verifier(bonds, sha256(seed + bytes([at])).digest())))
    left = tuple(fit for fit in ranking.fits if not any(_related(co, fit, taken) for taken in drawn))
    replicas = [
        QuotedReplica(node_id=fit.offer.node_id, provider=fit.offer.provider, price_usd_micros=fit.price.usd_micros)
        for fit in drawn
    ]
    return replace(ranking, fits=left), tuple(replicas)


def _candidates(
    co: Coordinator,
    demand: Demand,
    ranking: Ranking,
    cap: int,
    *,
    seed: bytes,
    replicas: tuple[QuotedReplica, ...],
) -> tuple[QuotedProvider, ...]:
    """The cheapest machine and the one that takes over: another owner's where there is one within the cap."""
    first, *others = ranking.fits
    within = [fit for fit in others if fit.price.usd_micros <= cap]
    foreign = [fit for fit in within if not _related(co, fit, first)]
    chosen = [first, *(foreign or within)[:1]]
    nodes = tuple(fit.offer.node_id for fit in chosen)
    return tuple(
        QuotedProvider(
            node_id=fit.offer.node_id,
            provider=fit.offer.provider,
            verifier=replicas[0].provider
            if replicas
            else draw_verifier(co, fit, demand, without=nodes, seed=seed + bytes([at])),
            price_usd_micros=fit.price.usd_micros,
            device=fit.offer.terms.device,
            expected_seconds=-(-fit.price.duration_ms // 1000),
        )
        for at, fit in enumerate(chosen)
    )


def _related(co: Coordinator, fit: Fit, other: Fit) -> bool:
    return co.book.related(fit.offer.node_id, other.offer.node_id)


def _require_worth(co: Coordinator, spec: JobSpec, price: int, duration_ms: int) -> None:
    if price > spec.budget_usd_micros:
        raise BudgetBelowQuote(
            f"The job costs {format_usd(price)} USD on the cheapest machine; "
            f"the budget is {format_usd(spec.budget_usd_micros)} USD.",
            effect="Nothing was started or charged.",
            todo="Raise the budget, or ask for less training.",
            price_usd_micros=price,
        )
    if duration_ms * _PATIENCE > co.config.statement_valid_s * 1000:
        raise TooLarge(
            f"The job takes {duration_ms // 3_600_000} hours on the cheapest machine, "
            "longer than this coordinator's statements live.",
            effect="Nothing was started or charged.",
            todo="Ask for less training, or for a faster machine.",
        )


def _no_offer(ranking: Ranking) -> NoOfferFits:
    return NoOfferFits(
        f"No machine can do this job now. {ranking.why_none()}",
        effect="Nothing was started or charged.",
        todo="Ask for less, or try again when more machines are connected.",
        excluded=dict(ranking.excluded),
        considered=ranking.considered,
    )


def _gpu(fit: Fit) -> Gpu:
    terms = fit.offer.terms
    return Gpu(memory_bytes=terms.memory_bytes, flops_per_s=terms.flops_per_s, is_cpu=terms.is_cpu)


async def _verification(co: Coordinator, spec: JobSpec, plan: Plan, mode: Mode, demand: Demand, best: Fit) -> str:
    """How much is checked, as things stand: a provider's standing may change before its windows are drawn from."""
    async with co.store.read() as tx:
        clean = await job_rows.clean_windows(tx, [best.offer.provider])
    lock = sampling.lock_usd_micros(best.price.usd_micros, plan)
    basis = SampleBasis(
        price_usd_micros=lock,  # that of a full window
        lock_usd_micros=lock,
        clean_windows=clean.get(best.offer.provider, 0),
        assurance=spec.assurance,
        second_ppm=co.config.sampling.second_ppm,
    )
    per_window = min(plan.segments, plan.window_segments)
    drawn_ppm = WAYS[mode].samples * sampling.samples_ppm(basis, per_window, co.config.sampling)
    drawn = min(drawn_ppm / commitments.PPM, max(0, per_window - 2))
    again = (
        f"The first and the last segment and on average {drawn:.3g} drawn at random of every {per_window} "
        "are run again on"
    )
    if mode is Mode.TOLERANCE:
        return (
            f"{again} two other owners' machines of another kind and must come out close; "
            "work that does not is not paid, and nobody is fined for it."
        )
    owners = _owners_of_class(co, demand, best.offer)
    thin = "" if owners >= co.config.class_operators_min else f" Only {owners} owners have machines of this kind."
    return f"{again} another owner's machine and compared bit for bit; work that is not verified is not paid.{thin}"


def _owners_of_class(co: Coordinator, demand: Demand, offer: Offer) -> int:
    able = co.book.verifiers(
        numeric_class=offer.terms.numeric_class,
        renter=demand.renter,
        recipe=demand.recipe,
        since_s=listening_since(co),
    )
    return len({other.payout.lower() for other in able} | {offer.payout.lower()})


async def _next_nonce(co: Coordinator, renter: str) -> int:
    """A nonce that neither we nor the chain have seen with this account."""
    while True:
        async with co.store.write() as tx:
            await lock_renter(tx, renter)
            one = tables.renters.c
            taken = sa.update(tables.renters).where(one.renter == renter).values(next_nonce=one.next_nonce + 1)
            nonce = int(await tx.value(taken.returning(one.next_nonce))) - 1
        if not await co.chain.nonce_used(renter, nonce):
            return nonce


async def lock_renter(tx: Tx, renter: str) -> None:
    """Have this renter's orders one after another, in every replica."""
    await tx.add(tables.renters, {"renter": renter, "next_nonce": 0})
    await tx.row(sa.select(tables.renters).where(tables.renters.c.renter == renter).with_for_update())


async def _remember(co: Coordinator, renter: str, made: Quote) -> None:
    quotes = tables.quotes
    values = {"quote_id": made.quote_id, "renter": renter, "expires_s": made.expires_s}
    async with co.store.write() as tx:
        # A job keeps its own copy of its quote, so an expired one is of no use to anybody.
        await tx.run(sa.delete(quotes).where(quotes.c.renter == renter, quotes.c.expires_s < co.clock()))
        await tx.run(sa.insert(quotes).values(**values, quote=made.model_dump(mode="json")))
