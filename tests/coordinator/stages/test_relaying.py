"""What is handed in for renters: once, only what would go through, and no more than the operator agreed to pay for."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.world import World
from gristmill_coordinator import accounts
from gristmill_coordinator.config import Config
from gristmill_coordinator.stages import relaying
from gristmill_coordinator.store.tables import transactions
from gristmill_protocol.consents import authorize_deposit, sign_opening, sign_withdrawal
from gristmill_protocol.errors import BadRequest, BadSignature, ChainUnavailable, Conflict, NotFound, Unavailable
from gristmill_protocol.wallet import Authorization, Permit2, RelayView, SignedOpening, SignedWithdrawal

pytestmark = pytest.mark.slow

USD = 1_000_000


@pytest.fixture
def newcomer(world: World) -> LocalAccount:
    """A key that holds 10 USD and has no account."""
    key: LocalAccount = Account.create()
    world.chain.give(key.address, 10 * USD)
    return key


def set_up(world: World, **settings: object) -> None:
    world.co = replace(world.co, config=Config.model_validate({**world.config.model_dump(), **settings}))


def opening(world: World, key: LocalAccount, owner: str | None = None) -> SignedOpening:
    info = world.chain.info
    return sign_opening(
        key, info.ledger_domain, owner=owner or key.address, coordinator=info.coordinator_id
    )  # fmt: skip


def authorization(world: World, payer: LocalAccount, key: str, usd_micros: int, valid_s: int = 3600) -> Authorization:
    return authorize_deposit(
        payer,
        world.chain.token,
        world.chain.info.collectors["erc3009"],
        key=key,
        amount_usd_micros=usd_micros,
        valid_before_s=int(world.clock()) + valid_s,
    )


def withdrawal(world: World, usd_micros: int, request: int = 0, signer: LocalAccount | None = None) -> SignedWithdrawal:
    return sign_withdrawal(
        signer or world.renter,
        world.chain.info.ledger_domain,
        key=world.renter.address,
        amount_usd_micros=usd_micros,
        request=request,
    )


async def open_(world: World, key: LocalAccount) -> RelayView:
    return await relaying.open_account(world.co, key.address.lower(), opening(world, key))


async def deposit(world: World, usd_micros: int, **options: int) -> RelayView:
    """By the world's renter, whose account is open."""
    by = authorization(world, world.renter, world.renter.address, usd_micros, **options)
    return await relaying.deposit(world.co, world.renter_key, by)


async def through(world: World, key: str, relay: RelayView) -> RelayView:
    for _ in range(4):
        await world.tick()
    return await relaying.view(world.co, key.lower(), relay.relay_id)


async def sent(world: World) -> int:
    async with world.co.store.read() as tx:
        return int(await tx.value(sa.select(sa.func.count()).select_from(transactions)))


async def test_the_same_again_is_the_same_relay(world: World, newcomer: LocalAccount) -> None:
    by = opening(world, newcomer)
    first = await relaying.open_account(world.co, newcomer.address.lower(), by)
    again = await relaying.open_account(world.co, newcomer.address.lower(), by)
    assert (first, first.state, await sent(world)) == (again, "pending", 1)

    done = await through(world, newcomer.address, first)

    assert (done.state, done.tx is not None) == ("done", True)
    assert await relaying.open_account(world.co, newcomer.address.lower(), by) == done
    assert await sent(world) == 1


async def test_one_of_a_kind_at_a_time(world: World) -> None:
    world.chain.give(world.renter.address, 10 * USD)
    await deposit(world, USD)

    with pytest.raises(Conflict, match="earlier deposit of this account is still under way"):
        await deposit(world, USD)

    assert (await relaying.withdraw(world.co, withdrawal(world, USD))).state == "pending"


async def test_so_many_a_day_and_no_more(world: World) -> None:
    set_up(world, relays_per_day=2)
    for request in (0, 1):
        relay = await relaying.withdraw(world.co, withdrawal(world, USD + request, request))
        await through(world, world.renter_key, relay)

    with pytest.raises(Conflict, match=r"2 requests of an account in a day.*--rpc"):
        await relaying.withdraw(world.co, withdrawal(world, USD, 2))

    world.clock.now_s += 86_400
    assert (await relaying.withdraw(world.co, withdrawal(world, USD, 2))).state == "pending"


async def test_an_operator_that_pays_nobodys_gas_says_so(world: World, newcomer: LocalAccount) -> None:
    set_up(world, sponsor_gas=False)

    with pytest.raises(Unavailable, match=r"pays nobody's gas.*--rpc"):
        await open_(world, newcomer)
    terms = await accounts.deposit_terms(world.co)
    assert terms is not None
    assert not terms.sponsored


async def test_who_holds_too_little_is_not_let_in(world: World) -> None:
    with pytest.raises(BadRequest, match=r"holds 0\.00 USD.*at least 1\.00 USD.*Send stablecoin"):
        await open_(world, Account.create())


async def test_somebody_elses_signature_opens_nothing(world: World, newcomer: LocalAccount) -> None:
    with pytest.raises(BadSignature, match="opening was signed by"):
        await relaying.open_account(world.co, newcomer.address.lower(), opening(world, world.renter))
    with pytest.raises(Conflict, match="open already"):
        await open_(world, world.renter)


async def test_a_deposit_that_can_not_be_is_refused_in_plain_words(world: World, newcomer: LocalAccount) -> None:
    world.chain.give(world.renter.address, 2 * USD)

    with pytest.raises(BadRequest, match=r"Deposit at least 1\.00 USD"):
        await deposit(world, USD - 1)
    with pytest.raises(BadRequest, match=r"holds 2\.00 USD, not 3\.00 USD.*Send it 1\.00 USD more"):
        await deposit(world, 3 * USD)
    with pytest.raises(BadRequest, match="too soon or over"):
        await deposit(world, USD, valid_s=60)
    for_another = authorization(world, world.renter, newcomer.address, USD)
    with pytest.raises(BadSignature, match="not the payer's"):
        await relaying.deposit(world.co, world.renter_key, for_another)
    too_early = authorization(world, newcomer, newcomer.address, USD)
    with pytest.raises(Conflict, match=r"is not open.*Open it first"):
        await relaying.deposit(world.co, newcomer.address.lower(), too_early)
    with pytest.raises(BadRequest, match=r"no collector of permit2 deposits here.*erc3009"):
        await relaying.deposit(world.co, world.renter_key, _permit2(world.renter.address))
    assert await sent(world) == 0


async def test_another_may_pay_into_an_account(world: World, newcomer: LocalAccount) -> None:
    by = authorization(world, newcomer, world.renter.address, 4 * USD)

    relay = await relaying.deposit(world.co, world.renter_key, by)

    assert (await through(world, world.renter_key, relay)).state == "done"
    assert (await world.chain.account(world.renter.address)).balance_usd_micros == 1_004 * USD


async def test_a_withdrawal_that_can_not_be_is_refused_in_plain_words(world: World, newcomer: LocalAccount) -> None:
    with pytest.raises(BadRequest, match=r"holds 1000\.00 USD, not 1001\.00 USD"):
        await relaying.withdraw(world.co, withdrawal(world, 1_001 * USD))
    with pytest.raises(Conflict, match="signed as request 1; the account's next one is 0"):
        await relaying.withdraw(world.co, withdrawal(world, USD, request=1))
    with pytest.raises(BadSignature, match="not by who has to sign"):
        await relaying.withdraw(world.co, withdrawal(world, USD, signer=newcomer))
    with pytest.raises(Conflict, match="no withdrawal to take back"):
        await relaying.withdraw(world.co, withdrawal(world, 0))
    assert await sent(world) == 0


async def test_what_failed_can_be_handed_in_again(world: World) -> None:
    world.chain.give(world.renter.address, 2 * USD)
    by = authorization(world, world.renter, world.renter.address, 2 * USD)
    relay = await relaying.deposit(world.co, world.renter_key, by)
    world.chain.state.tokens[world.renter_key] = 0  # spent elsewhere meanwhile
    failed = await through(world, world.renter_key, relay)
    assert (failed.state, failed.reason) == ("failed", "The payer does not hold that much.")
    world.chain.give(world.renter.address, 2 * USD)

    again = await relaying.deposit(world.co, world.renter_key, by)

    assert (again.relay_id, again.state) == (relay.relay_id, "pending")
    assert (await through(world, world.renter_key, again)).state == "done"


async def test_gas_above_what_a_relay_may_cost_is_not_paid(world: World) -> None:
    set_up(world, native_usd="3000", relay_gas_usd="0.0001")
    world.chain.give(world.renter.address, 2 * USD)

    failed = await through(world, world.renter_key, await deposit(world, USD))

    assert failed.state == "failed"
    assert "Gas costs more" in failed.reason


async def test_a_relay_is_its_accounts_business_only(world: World, newcomer: LocalAccount) -> None:
    relay = await open_(world, newcomer)

    with pytest.raises(NotFound):
        await relaying.view(world.co, world.renter_key, relay.relay_id)
    with pytest.raises(NotFound):
        await relaying.view(world.co, world.renter_key, "")


async def test_nothing_is_taken_while_the_chain_is_away(world: World, newcomer: LocalAccount) -> None:
    world.chain.reachable = False

    with pytest.raises(ChainUnavailable):
        await open_(world, newcomer)

    assert await sent(world) == 0


async def test_history_names_the_job_that_a_payment_paid(world: World) -> None:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=200_000)
    submitted = await world.submit(await world.spec(name="mails"))
    view = await world.finish(submitted.job_id)
    assert view.bill is not None

    movements = (await accounts.history(world.co, world.renter_key, "", 10)).movements

    assert [one.kind for one in movements] == ["payment", "deposit", "opened"]
    paid = movements[0]
    assert (paid.job_id, paid.job_name) == (view.job_id, "mails")
    assert (paid.amount_usd_micros, paid.tx) == (view.bill.paid_usd_micros, view.bill.settle_tx)


def _permit2(payer: str) -> Permit2:
    return Permit2(
        payer=payer, amount_usd_micros=USD, nonce="0x" + "00" * 32, deadline_s=2**40, signature="0x" + "00" * 65
    )
