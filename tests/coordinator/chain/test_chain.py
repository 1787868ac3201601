"""What the coordinator may rely on, on the chain in memory and on a real one."""

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.chain import FakeChain
from fakes.chain_worlds import World
from fakes.evm import Evm
from gristmill_contracts import onboarding
from gristmill_contracts.anvil import set_automine
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.chain.port import ZERO_ADDRESS, AccountState, Award, ProviderState, RecipeTerms
from gristmill_protocol.errors import BadSignature, ChainUnavailable, Conflict
from gristmill_protocol.jobs import SignedStatement, Statement, StatementLine
from gristmill_protocol.money import split_line
from gristmill_protocol.signing import RESERVATION_TYPE, STATEMENT_TYPE, recover, sign, statement_message

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


async def settle(world: World, *batch: SignedStatement) -> None:
    tx_hash = await world.chain.settle(batch)
    world.mine()
    state = await world.chain.tx(tx_hash)
    assert state is not None
    assert state.succeeded


async def test_unknown_things_are_empty_not_errors(world: World) -> None:
    stranger = Account.create().address

    assert await world.chain.account(stranger) == AccountState(0, ZERO_ADDRESS, 0)
    assert await world.chain.provider(999_999) == ProviderState(ZERO_ADDRESS, ZERO_ADDRESS, 0, active=False)
    assert await world.chain.recipe(999_999) == RecipeTerms(0, 0, 0, active=False)
    assert await world.chain.tx("0x" + "ab" * 32) is None
    assert not await world.chain.nonce_used(stranger, 0)
    assert await world.chain.settled(stranger, 0) is None


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
    assert await world.chain.settled(renter.address, 7) == 1_234_567


async def test_bad_statements_are_skipped_and_the_others_paid(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    stranger = Account.create()

    await settle(
        world,
        signed(world, stranger, 1, 1_000_000, recipe=recipe),
        signed(world, renter, 1, 11_000_000, recipe=recipe),  # more than there is
        signed(world, renter, 2, 1_000_000, recipe=999_999),
        signed(world, renter, 3, 0, recipe=recipe),
        signed(world, renter, 4, 2_000_000, recipe=recipe),
        signed(world, renter, 4, 3_000_000, recipe=recipe),  # the nonce is used by now
    )

    paid = {nonce: await world.chain.settled(renter.address, nonce) for nonce in (1, 2, 3, 4)}
    assert paid == {1: None, 2: None, 3: None, 4: 2_000_000}
    assert await world.chain.settled(stranger.address, 1) is None
    assert (await world.chain.account(renter.address)).balance_usd_micros == 8_000_000


async def test_an_unfunded_nonce_can_still_be_paid(world: World, renter: LocalAccount) -> None:
    recipe = world.add_recipe(royalty_bps=0, verifier_bps=0)
    await settle(world, signed(world, renter, 5, 11_000_000, recipe=recipe))
    assert not await world.chain.nonce_used(renter.address, 5)

    await settle(world, signed(world, renter, 5, 10_000_000, recipe=recipe))

    assert await world.chain.settled(renter.address, 5) == 10_000_000


async def test_a_signature_of_the_wrong_form_is_refused_before_sending(world: World, renter: LocalAccount) -> None:
    statement = signed(world, renter, 7, 1, recipe=1).statement

    with pytest.raises(BadSignature):
        await world.chain.settle([SignedStatement(statement=statement, signature="0x1234")])


async def test_a_transaction_is_followed_to_its_confirmations(world: World) -> None:
    tx_hash = await world.chain.anchor(b"r" * 32)
    assert await world.chain.tx(tx_hash) is None

    world.mine(3)

    state = await world.chain.tx(tx_hash)
    assert state is not None
    assert (state.succeeded, state.confirmations) == (True, 3)
    assert state.gas_used > 21_000


async def test_a_beacon_exists_once_the_next_block_does_and_never_changes(world: World) -> None:
    tx_hash = await world.chain.anchor(b"r" * 32)
    world.mine()
    state = await world.chain.tx(tx_hash)
    assert state is not None
    assert await world.chain.beacon_after(state.block) is None

    world.mine(2)

    first = await world.chain.beacon_after(state.block)
    second = await world.chain.beacon_after(state.block + 1)
    assert first is not None
    assert len(first) == 32
    assert first != second
    assert await world.chain.beacon_after(state.block) == first


async def test_a_slash_moves_stake_to_renter_verifier_and_treasury(world: World, renter: LocalAccount) -> None:
    provider = world.add_provider(node_key=Account.create().address, bonded_usd_micros=20_000_000)
    verifier, treasury = world.add_payee(), world.credit(0)
    before = await world.chain.provider(provider)

    awards = [Award(renter.address, 10_000_000), Award(verifier, 6_000_000), Award(0, 3_000_000)]
    tx_hash = await world.chain.slash(provider, awards, b"e" * 32)
    world.mine()

    state = await world.chain.tx(tx_hash)
    assert state is not None
    assert state.succeeded
    after = await world.chain.provider(provider)
    assert after == replace(before, bonded_usd_micros=1_000_000, active=False)
    assert (await world.chain.account(renter.address)).balance_usd_micros == 20_000_000
    assert (world.credit(verifier), world.credit(0) - treasury) == (6_000_000, 3_000_000)


async def test_a_slash_the_contract_would_refuse_is_not_sent(world: World, renter: LocalAccount) -> None:
    provider = world.add_provider(node_key=Account.create().address, bonded_usd_micros=20_000_000)

    with pytest.raises(Conflict, match="StakeTooLow"):
        await world.chain.slash(provider, [Award(renter.address, 20_000_001)], bytes(32))
    with pytest.raises(Conflict, match="NotOpen"):
        await world.chain.slash(provider, [Award(Account.create().address, 1)], bytes(32))


async def test_two_slashes_on_their_way_take_the_stake_once(world: World, renter: LocalAccount) -> None:
    provider = world.add_provider(node_key=Account.create().address, bonded_usd_micros=20_000_000)
    sent = [await world.chain.slash(provider, [Award(renter.address, 20_000_000)], bytes(32)) for _ in range(2)]
    world.mine()

    states = [await world.chain.tx(tx_hash) for tx_hash in sent]

    assert [state.succeeded for state in states if state] == [True, False]
    assert (await world.chain.account(renter.address)).balance_usd_micros == 30_000_000


async def test_a_reservation_is_the_operators_signature(world: World, renter: LocalAccount) -> None:
    signature = world.chain.sign_reservation(renter.address, 7, 5_000_000)

    info = world.chain.info
    message = {"key": renter.address, "coordinator": info.coordinator_id, "nonce": 7, "cap": 5_000_000}
    assert recover(info.ledger_domain, RESERVATION_TYPE, message, signature) == info.operator


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
        await chain.anchor(bytes(32))


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
