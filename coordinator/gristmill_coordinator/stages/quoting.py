"""Before stage 1: a firm price for a job, on the machines that the market has now."""

from dataclasses import replace
from hashlib import sha256

import sqlalchemy as sa

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.port import RecipeTerms
from gristmill_coordinator.domain import pricing, tolerance, verifiers, windows
from gristmill_coordinator.domain.modes import DEMANDS
from gristmill_coordinator.market.book import Demand, Fit, Offer, Ranking
from gristmill_coordinator.market.nodes import listening_since
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store import tables
from gristmill_coordinator.store.store import Tx
from gristmill_protocol.errors import BadSettings, BudgetBelowQuote, NoOfferFits, TooLarge, UnknownRecipe
from gristmill_protocol.jobs import JobSpec, Plan, Quote, QuotedProvider
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.money import format_usd
from gristmill_trainer import catalog
from gristmill_trainer.recipe import Gpu

# A job may turn out slower than measured, wait for a machine, move once: its statements have to outlive all that.
_PATIENCE = 4


async def quote(co: Coordinator, renter: str, spec: JobSpec) -> Quote:
    """A firm total price for a job, on the machine with the lowest expected total.

    Raises:
        UnknownRecipe, BadSettings, BadData: as the recipe finds.
        NoOfferFits: no machine can do it; details["excluded"] says why.
        BudgetBelowQuote: the cheapest machine costs more than the budget.
        TooLarge: it takes longer than a signed statement lives.
    """
    recipe = catalog.find(spec.recipe)
    recipe_id, terms = await recipe_terms(co, spec.recipe)
    async with co.store.read() as tx:
        co.book.load(await job_rows.loads(tx))
    wanted = Demand(
        renter=renter,
        recipe=spec.recipe,
        plan=recipe.plan(spec.settings, spec.stats, Gpu()),
        gpu=spec.gpu,
        verifier_bps=terms.verifier_bps,
        royalty_bps=terms.royalty_bps,
    )
    mode, demand, ranking = _rank(co, spec, wanted)
    best = ranking.fits[0]
    _require_worth(co, spec, best)
    foreign = next((fit for fit in ranking.fits if fit.offer.payout != best.offer.payout), best)
    cap = pricing.cap(best.price.usd_micros, foreign.price.usd_micros, spec.budget_usd_micros)
    quote_id = co.new_id("quote")
    candidates = _candidates(co, demand, ranking, cap, seed=quote_id.encode())
    plan = recipe.plan(spec.settings, spec.stats, _gpu(best))
    if mode is Mode.TOLERANCE:
        plan = tolerance.cut(plan, recipe.info.numerics)
    made = Quote(
        quote_id=quote_id,
        spec_digest=spec.digest().hex(),
        plan=plan,
        candidates=candidates,
        price_usd_micros=best.price.usd_micros,
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
        verification=await _verification(co, plan, mode, demand, best.offer),
    )
    await _remember(co, renter, made)
    return made


def _rank(co: Coordinator, spec: JobSpec, demand: Demand) -> tuple[Mode, Demand, Ranking]:
    """The way of checking: the one asked for, else the strongest that the market has; and who can work under it.

    Raises:
        NoOfferFits: nobody can.
        BadSettings: it is none that runs drawn segments again.
    """
    if spec.mode is not None and spec.mode not in DEMANDS:
        raise BadSettings(
            f"Jobs of the recipe {spec.recipe!r} are not checked by {spec.mode}.",
            effect="Nothing was started or charged.",
            todo=f"Ask for one of {', '.join(DEMANDS)}, or for none in particular.",
        )
    rankings = []
    for mode in DEMANDS if spec.mode is None else (spec.mode,):
        under = replace(demand, same_class=DEMANDS[mode].same_class)
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

    Raises:
        NoOfferFits: there is none left.
    """
    offer = fit.offer
    able = co.book.verifiers(
        numeric_class=offer.terms.numeric_class,
        renter=demand.renter,
        recipe=demand.recipe,
        since_s=listening_since(co),
        without=(offer.payout.lower(), offer.node_id),
        same_class=demand.same_class,
    )
    if not able:
        raise NoOfferFits("No other owner's machine can check the work of the quoted one.", todo="Try again shortly.")
    preferred = [other for other in able if other.node_id not in without] or able
    drawn = verifiers.draw({other.node_id: other.bonded_usd_micros for other in preferred}, sha256(seed).digest())
    return next(other.provider for other in preferred if other.node_id == drawn)


def _candidates(
    co: Coordinator, demand: Demand, ranking: Ranking, cap: int, *, seed: bytes
) -> tuple[QuotedProvider, ...]:
    """The cheapest machine and the one that takes over: another owner's where there is one within the cap."""
    first, *others = ranking.fits
    within = [fit for fit in others if fit.price.usd_micros <= cap]
    foreign = [fit for fit in within if fit.offer.payout != first.offer.payout]
    chosen = [first, *(foreign or within)[:1]]
    nodes = tuple(fit.offer.node_id for fit in chosen)
    return tuple(
        QuotedProvider(
            node_id=fit.offer.node_id,
            provider=fit.offer.provider,
            verifier=draw_verifier(co, fit, demand, without=nodes, seed=seed + bytes([at])),
            price_usd_micros=fit.price.usd_micros,
            device=fit.offer.terms.device,
            expected_seconds=-(-fit.price.duration_ms // 1000),
        )
        for at, fit in enumerate(chosen)
    )


def _require_worth(co: Coordinator, spec: JobSpec, best: Fit) -> None:
    if best.price.usd_micros > spec.budget_usd_micros:
        raise BudgetBelowQuote(
            f"The job costs {format_usd(best.price.usd_micros)} USD on the cheapest machine; "
            f"the budget is {format_usd(spec.budget_usd_micros)} USD.",
            effect="Nothing was started or charged.",
            todo="Raise the budget, or ask for less training.",
            price_usd_micros=best.price.usd_micros,
        )
    if best.price.duration_ms * _PATIENCE > co.config.statement_valid_s * 1000:
        raise TooLarge(
            f"The job takes {best.price.duration_ms // 3_600_000} hours on the cheapest machine, "
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


async def _verification(co: Coordinator, plan: Plan, mode: Mode, demand: Demand, offer: Offer) -> str:
    standings = tables.standings
    async with co.store.read() as tx:
        clean = await tx.value(sa.select(standings.c.clean_windows).where(standings.c.provider == offer.provider))
    config = co.config
    drawn = windows.samples(
        clean_windows=clean or 0,
        known_after=config.known_after_windows,
        new=config.samples_new,
        known=config.samples_known,
    )
    per_window = min(plan.segments, plan.window_segments)
    drawn = min(drawn * DEMANDS[mode].samples_factor, per_window - 1)
    again = f"The first segment and {drawn} drawn at random of every {per_window} are run again on"
    if mode is Mode.TOLERANCE:
        return (
            f"{again} two other owners' machines of another kind and must come out close; "
            "work that does not is not paid, and nobody is fined for it."
        )
    owners = _owners_of_class(co, demand, offer)
    thin = "" if owners >= config.class_operators_min else f" Only {owners} owners have machines of this kind."
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
