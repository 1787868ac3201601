"""Quotes, orders, reservations, stops: what a renter may do, and what costs nothing."""

import pytest
from eth_account import Account

from fakes.world import World
from gristmill_coordinator import accounts, views
from gristmill_coordinator.stages import intake
from gristmill_protocol.errors import (
    BadData,
    BadRequest,
    BadSignature,
    BalanceBelowCap,
    BudgetBelowQuote,
    Conflict,
    NoOfferFits,
    NotFound,
    QuoteExpired,
    TooLarge,
    UnknownRecipe,
)
from gristmill_protocol.jobs import GpuNeeds, JobState

pytestmark = pytest.mark.slow

STRANGER = "0x" + "99" * 20


@pytest.fixture
async def market(world: World) -> World:
    """Two machines of two owners."""
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=120_000)
    return world


async def test_a_quote_names_the_cheapest_machine_and_one_that_takes_over(market: World) -> None:
    willow, oak = market.machines["willow"], market.machines["oak"]

    quote = await intake.quote(market.co, market.renter_key, await market.spec())

    assert [(one.provider, one.verifier) for one in quote.candidates] == [
        (willow.provider, oak.provider),
        (oak.provider, willow.provider),
    ]
    assert quote.price_usd_micros == quote.candidates[0].price_usd_micros < quote.cap_usd_micros
    assert quote.cap_usd_micros == quote.price_usd_micros * 3 // 2


async def test_no_offer_says_which_requirement_excluded_how_many(market: World) -> None:
    spec = await market.spec(gpu=GpuNeeds(memory_bytes=24 * 2**30))

    with pytest.raises(NoOfferFits) as caught:
        await intake.quote(market.co, market.renter_key, spec)

    assert caught.value.details["excluded"] == {"24.0 GiB of memory": 2}
    assert "24.0 GiB of memory (2)" in str(caught.value)


async def test_a_budget_below_the_price_is_refused(market: World) -> None:
    with pytest.raises(BudgetBelowQuote):
        await intake.quote(market.co, market.renter_key, await market.spec(budget_usd_micros=10))


async def test_the_cap_never_passes_the_budget(market: World) -> None:
    quote = await intake.quote(market.co, market.renter_key, await market.spec())
    budget = quote.price_usd_micros + 1

    tight = await intake.quote(market.co, market.renter_key, await market.spec(budget_usd_micros=budget))

    assert tight.cap_usd_micros == budget


async def test_an_unregistered_recipe_is_unknown(market: World) -> None:
    with pytest.raises(UnknownRecipe, match="image-sorter"):
        await intake.quote(market.co, market.renter_key, await market.spec(recipe="image-sorter"))


async def test_a_job_longer_than_a_statement_lives_is_refused(market: World) -> None:
    for machine in market.machines.values():
        machine.offer.flops_per_s, machine.offer.ask_usd_micros_per_gpu_hour = 1_000, 100
        await machine.connect(market.co)

    with pytest.raises(TooLarge, match="hours"):
        await intake.quote(market.co, market.renter_key, await market.spec(budget_usd_micros=10**12))


async def test_every_quote_has_a_nonce_of_its_own(market: World) -> None:
    spec = await market.spec()

    nonces = [(await intake.quote(market.co, market.renter_key, spec)).nonce for _ in range(3)]

    assert nonces == [0, 1, 2]


async def test_the_same_request_gives_the_same_job(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    submission = market.submission(spec, quote)

    first = await intake.submit(market.co, market.renter_key, submission)
    again = await intake.submit(market.co, market.renter_key, submission)

    assert first == again
    assert len(await views.jobs(market.co, market.renter_key)) == 1


async def test_a_request_id_is_good_for_one_order(market: World) -> None:
    await market.submit()

    with pytest.raises(Conflict, match="request id"):
        await market.submit()


async def test_a_quote_is_ordered_once(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    await intake.submit(market.co, market.renter_key, market.submission(spec, quote, "request-1"))

    with pytest.raises(Conflict, match="ordered already"):
        await intake.submit(market.co, market.renter_key, market.submission(spec, quote, "request-2"))


async def test_an_expired_quote_is_not_ordered(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    market.clock.now_s = quote.expires_s + 1

    with pytest.raises(QuoteExpired):
        await intake.submit(market.co, market.renter_key, market.submission(spec, quote))


async def test_anothers_quote_is_not_ordered(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, STRANGER, spec)

    with pytest.raises(QuoteExpired):
        await intake.submit(market.co, market.renter_key, market.submission(spec, quote))


async def test_an_order_for_something_else_is_refused(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    submission = market.submission(spec, quote)
    other = submission.model_copy(update={"spec": await market.spec(seed=1)})

    with pytest.raises(BadRequest, match="not for what was quoted"):
        await intake.submit(market.co, market.renter_key, other)


async def test_a_ladder_that_lacks_a_rung_is_refused(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    submission = market.submission(spec, quote)
    short = submission.model_copy(update={"ladder": submission.ladder[:-1]})

    with pytest.raises(BadRequest, match="ladder"):
        await intake.submit(market.co, market.renter_key, short)


async def test_a_rung_signed_by_somebody_else_is_refused(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    submission = market.submission(spec, quote)
    renter, market.renter = market.renter, Account.create()
    forged = market.sign(submission.ladder[-1].statement)
    market.renter = renter

    with pytest.raises(BadSignature):
        await intake.submit(
            market.co,
            market.renter_key,
            submission.model_copy(update={"ladder": (*submission.ladder[:-1], forged)}),
        )


async def test_data_that_were_never_uploaded_are_refused(market: World) -> None:
    spec = await market.spec()
    stolen = spec.model_copy(update={"data": spec.data.model_copy(update={"sha256": "ab" * 32})})
    quote = await intake.quote(market.co, market.renter_key, stolen)

    with pytest.raises(BadData):
        await intake.submit(market.co, market.renter_key, market.submission(stolen, quote))


async def test_anothers_data_are_refused(market: World) -> None:
    ref = await market.co.artifacts.put_bytes(b"somebody else's secret")
    await market.co.store.grant(ref.sha256, f"renter:{STRANGER}")
    spec = await market.spec(data=ref)
    quote = await intake.quote(market.co, market.renter_key, spec)

    with pytest.raises(BadData):
        await intake.submit(market.co, market.renter_key, market.submission(spec, quote))


async def test_reserved_money_cannot_be_reserved_again(market: World) -> None:
    spec = await market.spec()
    quote = await intake.quote(market.co, market.renter_key, spec)
    market.chain.open_account(market.renter.address, 2 * quote.cap_usd_micros - 1)
    await market.submit(spec, "request-1")

    with pytest.raises(BalanceBelowCap) as caught:
        await market.submit(spec, "request-2")

    assert caught.value.details["reserved_usd_micros"] == quote.cap_usd_micros
    account = await accounts.account(market.co, market.renter_key)
    assert account.available_usd_micros == quote.cap_usd_micros - 1


async def test_an_account_at_another_coordinator_is_refused(market: World) -> None:
    spec = await market.spec()
    market.renter = Account.create()
    await market.co.store.grant(spec.data.sha256, f"renter:{market.renter_key}")
    quote = await intake.quote(market.co, market.renter_key, spec)

    with pytest.raises(BadRequest, match="not open at this coordinator"):
        await intake.submit(market.co, market.renter_key, market.submission(spec, quote))


async def test_a_renter_sees_and_stops_only_its_own_jobs(market: World) -> None:
    job_id = (await market.submit()).job_id

    with pytest.raises(NotFound):
        await views.job(market.co, STRANGER, job_id)
    with pytest.raises(NotFound):
        await views.events(market.co, STRANGER, job_id, 0)
    with pytest.raises(NotFound):
        await intake.stop(market.co, STRANGER, job_id)
    assert await views.jobs(market.co, STRANGER) == []
    assert (await market.job(job_id)).state is JobState.QUEUED


async def test_stopping_twice_is_stopping_once(market: World) -> None:
    job_id = (await market.submit()).job_id

    await intake.stop(market.co, market.renter_key, job_id)
    view = await market.finish(job_id)

    assert await intake.stop(market.co, market.renter_key, job_id) == view


async def test_the_market_lists_what_is_connected_cheapest_first(market: World) -> None:
    await market.submit()
    await market.tick()

    offers = await views.market(market.co)

    assert [(one.provider_name, one.slots_free) for one in offers] == [("willow", 1), ("oak", 2)]


async def test_events_are_waited_for(market: World) -> None:
    job_id = (await market.submit()).job_id
    [queued] = await views.events(market.co, market.renter_key, job_id, 0)

    assert queued.text == "The job is queued."
    assert await views.events(market.co, market.renter_key, job_id, queued.seq, wait_s=0.01) == []
