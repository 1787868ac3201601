"""What the coordinator may rely on, on the chain in memory and on a real one."""

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.chain import FakeChain
from fakes.chain_worlds import World
from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import set_automine
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.chain.port import (
    ZERO_ADDRESS,
    AccountState,
    AnchorCall,
    Call,
    EmptyCall,
    Log,
    ProviderState,
    RecipeTerms,
    SettleCall,
    TooMuchGas,
)
from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol import certificate
from gristmill_protocol.errors import BadSignature, ChainUnavailable
from gristmill_protocol.jobs import Reservation, SignedStatement, Statement, StatementLine
from gristmill_protocol.money import split_line
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    recover,
    reservation_message,
    sign,
    statement_message,
)

FAR = 2**39


@pytest.fixture
def renter(world: World) -> LocalAccount:
    """A renter with 10 USD."""
    key: LocalAccount = Account.create()
    world.open_account(key, 10_000_000)
    return key


def signed(world: World, key: LocalAccount, nonce: int, amount: int, **fields: int) -> SignedStatement:
    line = StatementLine(
        provider=fields.get("provider", 0),
        verifier=fields.get("verifier", 0),
        recipe=fields["recipe"],
        amount_usd_micros=amount,
    )
    statement = Statement(nonce=nonce, deadline_s=fields.get("deadline_s", FAR), lines=(line,))
    message = statement_message(statement)
    signature = sign(key, world.chain.info.ledger_domain, STATEMENT_TYPE, message)
    return SignedStatement(statement=statement, signature=signature)


async def send(world: World, call: Call, *, nonce: int | None = None, times: int = 1) -> str:
    """Send a call as the operator, bidding so many times what is asked; its hash."""
    chain = world.chain
    fees, gas = await chain.fees(), await chain.estimate(call)
    nonce = await chain.transaction_count() if nonce is None else nonce
    bid = Bid(times * (2 * fees.base_fee_wei + fees.tip_wei), times * fees.tip_wei)
    signed = chain.sign(call, nonce=nonce, gas=gas * 5 // 4, bid=bid)
    assert signed == chain.sign(call, nonce=nonce, gas=gas * 5 // 4, bid=bid)
    assert await chain.send(signed.raw) == ""
    return signed.hash


def anchor(byte: str) -> AnchorCall:
    return AnchorCall(root=byte * 64)


async def settle(world: World, *batch: SignedStatement) -> list[Log]:
    """Settle in a block of its own; the events."""
    tx_hash = await send(world, SettleCall(batch=batch))
    world.mine()
    receipt = await world.chain.receipt(tx_hash)
    assert receipt is not None
    assert receipt.succeeded
    return await world.chain.logs(receipt.block, receipt.block)


async def test_unknown_things_are_empty_not_errors(world: World) -> None:
    stranger = Account.create().address

    assert await world.chain.account(stranger) == AccountState(0, ZERO_ADDRESS, 0)
    assert await world.chain.provider(999_999) == ProviderState(ZERO_ADDRESS, ZERO_ADDRESS, 0, active=False)
    assert await world.chain.recipe(999_999) == RecipeTerms(0, 0, 0, active=False)
    assert await world.chain.receipt("0x" + "ab" * 32) is None
    assert not await world.chain.knows("0x" + "ab" * 32)
    assert await world.chain.block(999_999) is None
    assert not await world.chain.nonce_used(stranger, 0)


async def test_an_account_belongs_to_its_owner_and_coordinator(world: World, renter: LocalAccount) -> None:
    account = await world.chain.account(renter.address.lower())

    assert account == AccountState(10_000_000, renter.address, world.chain.info.coordinator_id)


async def test_a_recipes_terms_are_read(world: World) -> None:
    terms = await world.chain.recipe(world.add_recipe(royalty_bps=300, verifier_bps=200))

    assert (terms.royalty_bps, terms.verifier_bps, terms.active) == (300, 200, True)


async def test_a_provider_is_active_with_enough_bond(world: World) -> None:
    node = Account.create().address

    rich = await world.chain.provider(world.add_provider(node_key=node, bonded_usd_micros=10_000_000))
    poor = await world.chain.provider(world.add_provider(node_key=node, bonded_usd_micros=9_999_999))

    assert (rich.node_key, rich.bonded_usd_micros, rich.active) == (node, 10_000_000, True)
    assert (poor.node_key, poor.bonded_usd_micros, poor.active) == (node, 9_999_999, False)


async def test_a_statement_pays_everybody_and_uses_its_nonce(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=300, verifier_bps=200)
    provider, verifier = world.add_payee(), world.add_payee()
    author = (await world.chain.recipe(recipe)).author
    treasury = world.credit(0)

    await settle(world, signed(world, renter, 7, 1_234_567, provider=provider, verifier=verifier, recipe=recipe))

    split = split_line(1_234_567, verifier_bps=200, royalty_bps=300)
    assert world.credit(provider) == split.provider
    assert world.credit(verifier) == split.verifier
    assert world.credit(author) == split.author
    assert world.credit(0) - treasury == split.treasury
    assert (await world.chain.account(renter.address)).balance_usd_micros == 10_000_000 - 1_234_567
    assert await world.chain.nonce_used(renter.address, 7)
    assert world.settled(renter.address, 7) == 1_234_567


async def test_bad_statements_are_skipped_and_the_others_paid(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    stranger = Account.create()

    logs = await settle(
        world,
        signed(world, stranger, 1, 1_000_000, recipe=recipe),
        signed(world, renter, 1, 11_000_000, recipe=recipe),  # more than there is
        signed(world, renter, 2, 1_000_000, recipe=999_999),
        signed(world, renter, 3, 0, recipe=recipe),
        signed(world, renter, 4, 2_000_000, recipe=recipe),
        signed(world, renter, 4, 3_000_000, recipe=recipe),  # the nonce is used by now
    )

    paid = {nonce: world.settled(renter.address, nonce) for nonce in (1, 2, 3, 4)}
    assert paid == {1: None, 2: None, 3: None, 4: 2_000_000}
    assert [(log.name, log.args["nonce"], log.args.get("why", 0)) for log in logs] == [
        ("StatementSkipped", 1, 1),
        ("StatementSkipped", 1, 6),
        ("StatementSkipped", 2, 4),
        ("StatementSkipped", 3, 5),
        ("StatementSettled", 4, 0),
        ("StatementSkipped", 4, 3),
    ]
    assert (await world.chain.account(renter.address)).balance_usd_micros == 8_000_000


async def test_an_unfunded_nonce_can_still_be_paid(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    await settle(world, signed(world, renter, 5, 11_000_000, recipe=recipe))
    assert not await world.chain.nonce_used(renter.address, 5)

    await settle(world, signed(world, renter, 5, 10_000_000, recipe=recipe))

    assert world.settled(renter.address, 5) == 10_000_000


async def test_a_signature_of_the_wrong_form_is_refused_before_sending(world: World, renter: LocalAccount) -> None:
    statement = signed(world, renter, 7, 1, recipe=1).statement

    with pytest.raises(BadSignature):
        await world.chain.estimate(SettleCall(batch=(SignedStatement(statement=statement, signature="0x1234"),)))


async def test_blocks_are_linked_and_hold_what_was_sent(world: World) -> None:
    before = await world.chain.head()
    tx_hash = await send(world, anchor("a"))
    assert await world.chain.receipt(tx_hash) is None
    assert await world.chain.knows(tx_hash)

    world.mine(3)

    receipt, block = await world.chain.receipt(tx_hash), await world.chain.block(before.number + 1)
    assert receipt is not None
    assert block is not None
    assert (block.parent, receipt.block, receipt.block_hash) == (before.hash, block.number, block.hash)
    assert (await world.chain.head()).number == before.number + 3
    assert receipt.succeeded
    assert receipt.gas_used > 21_000
    [log] = await world.chain.logs(block.number, before.number + 3)
    assert (log.block, log.block_hash, log.tx_hash) == (block.number, block.hash, tx_hash)
    assert (log.contract, log.name) == ("registry", "Anchored")
    assert log.args == {"coordinator": world.chain.info.coordinator_id, "root": b"\xaa" * 32}


async def test_sending_the_same_again_changes_nothing_and_a_used_nonce_is_refused(world: World) -> None:
    fees, nonce = await world.chain.fees(), await world.chain.transaction_count()
    bid = Bid(2 * fees.base_fee_wei + fees.tip_wei, fees.tip_wei)
    signed_ = world.chain.sign(anchor("b"), nonce=nonce, gas=100_000, bid=bid)

    assert [await world.chain.send(signed_.raw) for _ in range(2)] == ["", ""]
    world.mine()

    assert "nonce" in await world.chain.send(signed_.raw)
    assert await world.chain.transaction_count() == nonce + 1
    assert await world.chain.transaction_count((await world.chain.head()).number - 1) == nonce


async def test_a_nonce_is_replaced_only_for_more(world: World) -> None:
    nonce = await world.chain.transaction_count()
    first = await send(world, anchor("c"), nonce=nonce)
    fees, gas = await world.chain.fees(), await world.chain.estimate(anchor("d"))
    same = Bid(2 * fees.base_fee_wei + fees.tip_wei, fees.tip_wei)
    cheap = world.chain.sign(anchor("d"), nonce=nonce, gas=gas, bid=same)
    assert "underpriced" in await world.chain.send(cheap.raw)

    second = await send(world, anchor("e"), nonce=nonce, times=2)
    world.mine()

    assert not await world.chain.knows(first)
    assert await world.chain.receipt(second) is not None


async def test_nonces_are_used_in_order_and_a_missing_one_holds_up_the_next(world: World) -> None:
    nonce = await world.chain.transaction_count()
    later = await send(world, anchor("1"), nonce=nonce + 1)
    world.mine()
    assert await world.chain.receipt(later) is None

    empty = await send(world, EmptyCall(), nonce=nonce)
    world.mine()

    assert await world.chain.receipt(empty) is not None
    assert await world.chain.receipt(later) is not None


async def test_a_dropped_transaction_is_forgotten(world: World) -> None:
    tx_hash = await send(world, anchor("2"))

    world.drop(tx_hash)
    world.mine()

    assert not await world.chain.knows(tx_hash)
    assert await world.chain.receipt(tx_hash) is None


async def test_a_reorganisation_takes_blocks_and_payments_back(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    count = await world.chain.transaction_count()
    await settle(world, signed(world, renter, 6, 1_000_000, recipe=recipe))
    before = await world.chain.head()

    world.reorganise(1)

    after = await world.chain.head()
    assert (after.number, after.parent) == (before.number, before.parent)
    assert after.hash != before.hash
    assert await world.chain.logs(after.number, after.number) == []
    assert await world.chain.transaction_count() == count
    assert await world.chain.balances([renter.address], after.number) == [10_000_000]


async def test_balances_are_those_of_a_block(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    before = (await world.chain.head()).number

    await settle(world, signed(world, renter, 8, 4_000_000, recipe=recipe))

    stranger = Account.create().address
    assert await world.chain.balances([renter.address, stranger], before) == [10_000_000, 0]
    assert await world.chain.balances([renter.address, stranger], before + 1) == [6_000_000, 0]
    assert await world.chain.held(before) == await world.chain.held(before + 1) >= 10_000_000


async def test_a_call_that_fits_no_block_is_told_from_one_that_is_refused(world: World, renter: LocalAccount) -> None:
    one = signed(world, renter, 9, 1, recipe=1)
    world.limit_gas(60_000)

    with pytest.raises(TooMuchGas):
        await world.chain.estimate(SettleCall(batch=(one,) * 8))
    world.limit_gas(30_000_000)

    assert (await world.chain.head()).gas_limit == 30_000_000
    assert await world.chain.estimate(SettleCall(batch=(one,) * 8)) > 60_000


async def test_a_beacon_exists_once_the_next_block_does_and_never_changes(world: World) -> None:
    block = (await world.chain.head()).number
    assert await world.chain.beacon_after(block) is None

    world.mine(2)

    first = await world.chain.beacon_after(block)
    second = await world.chain.beacon_after(block + 1)
    assert first is not None
    assert len(first) == 32
    assert first != second
    assert await world.chain.beacon_after(block) == first


async def test_a_reservation_is_the_operators_signature(world: World, renter: LocalAccount) -> None:
    info = world.chain.info
    reservation = Reservation(
        key=renter.address,
        coordinator=info.coordinator_id,
        provider=3,
        nonce=7,
        cap_usd_micros=5_000_000,
        accepted_usd_micros=1_000_000,
        forced_from_s=1_800_000_000,
    )

    signature = world.chain.sign_reservation(reservation)

    message = reservation_message(reservation)
    assert recover(info.ledger_domain, RESERVATION_TYPE, message, signature) == info.operator


async def test_the_operator_signs_certificates(world: World) -> None:
    assert certificate.signer(b"{}", world.chain.sign_certificate(b"{}")) == world.chain.info.operator


@pytest.mark.chain
@pytest.mark.slow
async def test_a_withdrawal_asked_for_no_longer_counts_as_balance(evm: Evm) -> None:
    set_automine(evm.w3, True)
    owner, key = evm.sender(), Account.create()
    onboarding.open_and_fund(evm.relayer, evm.deployment, key, 10_000_000, owner=owner.address)
    chain = EvmChain.connect(evm.rpc_url, evm.deployment, evm.operator)

    owner.run(evm.ledger.request_withdrawal(key.address, 4_000_000))
    assert (await chain.account(key.address)).balance_usd_micros == 6_000_000
    owner.run(evm.ledger.request_withdrawal(key.address, 2**96 - 1))
    assert (await chain.account(key.address)).balance_usd_micros == 0


async def test_a_fake_chain_that_cannot_be_reached_says_so() -> None:
    chain = FakeChain(reachable=False)

    with pytest.raises(ChainUnavailable):
        await chain.head()


@pytest.mark.chain
@pytest.mark.slow
async def test_a_node_that_is_down_or_on_another_chain_says_so(evm: Evm, unused_tcp_port: int) -> None:
    down = EvmChain.connect(f"http://127.0.0.1:{unused_tcp_port}", evm.deployment, evm.operator)
    nowhere = evm.deployment.model_copy(update={"ledger": Account.create().address})
    lost = EvmChain.connect(evm.rpc_url, nowhere, evm.operator)

    with pytest.raises(ChainUnavailable, match="does not answer"):
        await down.beacon_after(1)
    with pytest.raises(ChainUnavailable, match="deployment"):
        await lost.account(evm.operator.address)
