"""Disputes as the coordinator opens and follows them, on the chain in memory and on a real one."""

from dataclasses import replace
from secrets import token_hex

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes.chain_worlds import World
from gristmill_coordinator.chain.port import AdvanceCall, AllowBondsCall, Call, CollectCall, DrawCall, OpenDisputeCall
from gristmill_coordinator.domain.disputes import Course, Move, Outcome, Phase, course, due
from gristmill_coordinator.domain.gas import Bid
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.errors import Conflict
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, sign

STAKE = 20_000_000
BOND = 2_000_000


@pytest.fixture
def renter(world: World) -> LocalAccount:
    """A renter with 10 USD."""
    key: LocalAccount = Account.create()
    world.open_account(key, 10_000_000)
    return key


async def send(world: World, call: Call) -> None:
    fees, gas = await world.chain.fees(), await world.chain.estimate(call)
    bid = Bid(2 * fees.base_fee_wei + fees.tip_wei, fees.tip_wei)
    signed = world.chain.sign(call, nonce=await world.chain.transaction_count(), gas=gas * 5 // 4, bid=bid)
    assert await world.chain.send(signed.raw) == ""
    world.mine()


async def found(world: World) -> Course:
    """How the newest dispute stands by its events."""
    head = (await world.chain.head()).number
    logs = [log for log in await world.chain.logs(world.chain.info.start_block, head) if log.contract == "disputes"]
    logs = [log for log in logs if "id" in log.args]
    newest = max(log.args["id"] for log in logs)
    return course(log for log in logs if log.args["id"] == newest)


MACHINE: LocalAccount = Account.create()


def opening(world: World, provider: int, renter: LocalAccount) -> OpenDisputeCall:
    roots = {name: token_hex(32) for name in ("state_root_prev", "state_root", "data_root", "metrics_root")}
    record = SegmentRecord(
        job_id="job_1", index=0, step_from=0, step_to=1, micro_root="00" * 32, started_ms=0, ended_ms=1,
        numeric_class="ab" * 32, **roots,
    )  # fmt: skip
    signature = sign(MACHINE, world.chain.info.registry_domain, SEGMENT_RECORD_TYPE, record.typed())
    return OpenDisputeCall(
        provider=provider,
        renter=renter.address,
        amount_usd_micros=STAKE,
        evidence=token_hex(32),
        work=SignedRecord(record=record, signature=signature),
    )


async def accuse(world: World, renter: LocalAccount) -> int:
    """A provider whose whole stake is in dispute."""
    provider = world.add_provider(node_key=MACHINE.address, bonded_usd_micros=STAKE)
    world.give(world.chain.info.operator, BOND)
    await send(world, AllowBondsCall())
    await send(world, opening(world, provider, renter))
    return provider


async def test_a_dispute_takes_a_bond_and_locks_the_stake(world: World, renter: LocalAccount) -> None:
    provider = world.add_provider(node_key=MACHINE.address, bonded_usd_micros=STAKE)
    world.give(world.chain.info.operator, BOND)
    await send(world, AllowBondsCall())
    before = await world.chain.bond_funds(STAKE)

    call = opening(world, provider, renter)
    await send(world, call)

    after = await world.chain.bond_funds(STAKE)
    assert before.needed_usd_micros == BOND
    assert before.allowed_usd_micros >= BOND
    assert before.tokens_usd_micros - after.tokens_usd_micros == BOND
    assert (await world.chain.provider(provider)).free_usd_micros == 0
    head = await world.chain.head()
    logs = await world.chain.logs(head.number, head.number)
    assert [log.name for log in logs] == ["Entered", "Opened", "Locked"]
    opened = logs[1]
    assert (opened.args["provider"], opened.args["amount"]) == (provider, STAKE)
    assert opened.args["challenger"] == world.chain.info.challenger_payee
    assert opened.args["evidence"].hex() == call.evidence
    stands = await found(world)
    assert (stands.phase, stands.deadline_s) == (Phase.ANSWERING, head.at_s + 86_400)
    with pytest.raises(Conflict, match="AlreadyDisputed"):
        await world.chain.estimate(call)


async def test_what_the_contract_would_refuse_is_said(world: World, renter: LocalAccount) -> None:
    provider = world.add_provider(node_key=MACHINE.address, bonded_usd_micros=STAKE)
    world.give(world.chain.info.operator, 2 * BOND)
    await send(world, AllowBondsCall())
    fine = opening(world, provider, renter)

    with pytest.raises(Conflict, match="StakeTooLow"):
        await world.chain.estimate(fine.model_copy(update={"amount_usd_micros": STAKE + 1}))
    strangers = fine.work.model_copy(update={"record": fine.work.record.model_copy(update={"index": 1})})
    with pytest.raises(Conflict, match="NotItsWork"):
        await world.chain.estimate(fine.model_copy(update={"work": strangers}))
    with pytest.raises(Conflict, match="NotOpen"):
        await world.chain.estimate(fine.model_copy(update={"renter": Account.create().address}))
    with pytest.raises(Conflict, match="WrongPhase"):
        await world.chain.estimate(AdvanceCall(dispute=10**6))
    with pytest.raises(Conflict, match="WrongPhase"):
        await world.chain.estimate(DrawCall(dispute=10**6))


async def test_who_concedes_is_slashed_and_the_bond_comes_back(world: World, renter: LocalAccount) -> None:
    provider = await accuse(world, renter)
    before = await world.chain.bond_funds(STAKE)
    dispute = (await found(world)).dispute

    world.concede(provider, dispute)

    after = await world.chain.bond_funds(STAKE)
    stands = await found(world)
    assert (stands.phase, stands.outcome, stands.slashed_usd_micros) == (Phase.CLOSED, Outcome.CONCEDED, STAKE)
    assert after.credited_usd_micros - before.credited_usd_micros == BOND + STAKE * 15 // 100
    assert (await world.chain.account(renter.address)).balance_usd_micros == 20_000_000
    assert (await world.chain.provider(provider)).free_usd_micros == 0
    await send(world, CollectCall())
    collected = await world.chain.bond_funds(STAKE)
    assert collected == replace(
        after, credited_usd_micros=0, tokens_usd_micros=after.tokens_usd_micros + after.credited_usd_micros
    )


async def test_who_is_silent_loses_when_its_time_is_over(world: World, renter: LocalAccount) -> None:
    await accuse(world, renter)
    dispute = (await found(world)).dispute
    with pytest.raises(Conflict, match="TooEarly"):
        await world.chain.estimate(AdvanceCall(dispute=dispute))

    world.pass_time(86_401)
    await send(world, AdvanceCall(dispute=dispute))

    assert (await found(world)).outcome is Outcome.UNANSWERED
    assert (await world.chain.account(renter.address)).balance_usd_micros == 20_000_000


async def test_without_referees_an_answer_goes_to_the_arbiter_and_then_nobody_loses(
    world: World, renter: LocalAccount
) -> None:
    provider = await accuse(world, renter)
    before = (await world.chain.bond_funds(STAKE)).credited_usd_micros
    dispute = (await found(world)).dispute

    world.answer(provider, dispute)
    stands = await found(world)
    assert (stands.phase, stands.answered, stands.seats) == (Phase.RULING, True, 3)
    assert due(stands, now_s=0, block=stands.draw_block) is None
    world.mine(2)
    assert due(stands, now_s=0, block=(await world.chain.head()).number) is Move.DRAW
    await send(world, DrawCall(dispute=dispute))
    assert (await found(world)).phase is Phase.ARBITRATING
    world.pass_time(3 * 86_400 + 1)
    await send(world, AdvanceCall(dispute=dispute))

    assert (await found(world)).outcome is Outcome.UNDECIDED
    assert (await world.chain.bond_funds(STAKE)).credited_usd_micros == before + BOND
    assert world.credit(provider) == BOND
    assert (await world.chain.provider(provider)).free_usd_micros == STAKE


@pytest.mark.parametrize("guilty", [True, False])
async def test_two_of_three_referees_decide(world: World, renter: LocalAccount, guilty: bool) -> None:
    judges = [world.add_provider(node_key=MACHINE.address, bonded_usd_micros=STAKE) for _ in range(3)]
    for judge in judges:
        world.enlist(judge)
    provider = await accuse(world, renter)
    dispute = (await found(world)).dispute
    world.answer(provider, dispute)
    world.mine(2)

    await send(world, DrawCall(dispute=dispute))
    drawn = (await found(world)).referees
    for judge in drawn[:2]:
        world.rule(judge, dispute, guilty=guilty)

    stands = await found(world)
    assert len(drawn) == 3
    assert stands.votes == dict.fromkeys(drawn[:2], guilty)
    if guilty:
        assert (stands.outcome, stands.slashed_usd_micros) == (Outcome.FOUND_GUILTY, STAKE)
        assert world.credit(drawn[0]) == BOND // 4 + STAKE * 15 // 200
    else:
        assert (stands.outcome, stands.slashed_usd_micros) == (Outcome.FOUND_CLEAR, 0)
        assert world.credit(provider) == 2 * BOND - BOND // 2
    for judge in judges:
        world.resign(judge)
