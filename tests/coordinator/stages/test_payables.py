"""What providers are told of their accepted work: enough to be paid without us, and never less than before."""

import pytest

from fakes.machine import Machine
from fakes.world import World
from gristmill_coordinator.stages import payables, settlement
from gristmill_protocol.jobs import AttemptState, JobState, JobView, Reservation, SignedReservation, SignedStatement
from gristmill_protocol.money import earned
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    require_signer,
    reservation_message,
    statement_message,
)
from gristmill_protocol.v1 import provider_pb2 as pb

pytestmark = pytest.mark.slow


def checked(world: World, payable: pb.Payable) -> tuple[SignedStatement, Reservation]:
    """What a node reads in a message, both signatures checked."""
    info = world.chain.info
    paying = SignedStatement.model_validate_json(payable.signed_statement_json)
    reserved = SignedReservation.model_validate_json(payable.signed_reservation_json)
    message = statement_message(paying.statement)
    require_signer(info.ledger_domain, STATEMENT_TYPE, message, paying.signature, world.renter.address)
    promised = reservation_message(reserved.reservation)
    require_signer(info.ledger_domain, RESERVATION_TYPE, promised, reserved.signature, info.operator)
    return paying, reserved.reservation


def accepted(world: World, machine: Machine) -> list[int]:
    """The shares that a machine was promised, in order."""
    return [checked(world, payable)[1].accepted_usd_micros for payable in machine.payables]


async def moved(world: World) -> tuple[Machine, Machine, JobView]:
    """A job that left willow after seven of its segments, and goes on elsewhere."""
    willow = await world.add_machine("willow", ask=100_000, leaves_after=7)
    oak = await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()
    await world.until_event(submitted.job_id, "It goes on from the last verified step")
    await world.tick()
    return willow, oak, await world.job(submitted.job_id)


async def test_a_provider_is_told_what_its_accepted_work_earns(world: World) -> None:
    willow, _, view = await moved(world)

    [payable] = willow.payables
    paying, reservation = checked(world, payable)
    share = earned(view.price_usd_micros, view.steps_accepted, view.steps_total)
    assert paying.statement.share_usd_micros(willow.provider) == paying.statement.total_usd_micros == share
    assert payable.attempt_id == view.attempts[0].attempt_id
    assert (reservation.provider, reservation.accepted_usd_micros) == (willow.provider, share)
    assert (reservation.nonce, reservation.cap_usd_micros) == (paying.statement.nonce, view.cap_usd_micros)


async def test_a_reservation_stays_as_the_lease_had_it_but_for_what_is_accepted(world: World) -> None:
    willow, _, _ = await moved(world)

    [run] = willow.runs.values()
    offered = SignedReservation.model_validate_json(run.lease.signed_reservation_json).reservation
    paying, told = checked(world, willow.payables[0])
    assert offered == told.model_copy(update={"accepted_usd_micros": 0})
    valid_s = world.config.statement_valid_s
    assert paying.statement.deadline_s - told.forced_from_s == pytest.approx(valid_s / 3, abs=1)


async def test_everybody_with_a_line_gets_the_statement_that_ends_the_job(world: World) -> None:
    willow, oak, view = await moved(world)

    done = await world.finish(view.job_id)

    assert done.state is JobState.DONE
    assert done.bill is not None
    last = {checked(world, machine.payables[-1])[0] for machine in (willow, oak)}
    assert [signed.statement.total_usd_micros for signed in last] == [done.bill.paid_usd_micros]
    for machine in (willow, oak):
        assert accepted(world, machine) == sorted(accepted(world, machine))
    assert sum(accepted(world, machine)[-1] for machine in (willow, oak)) == done.bill.paid_usd_micros


async def test_the_later_of_two_providers_may_settle_first(world: World) -> None:
    willow, oak, view = await moved(world)

    await world.finish(view.job_id)

    first, second = (checked(world, machine.payables[-1])[1] for machine in (willow, oak))
    assert second.forced_from_s < first.forced_from_s


async def test_a_node_that_was_away_is_told_when_it_is_back(world: World) -> None:
    willow, _, view = await moved(world)
    known = accepted(world, willow)
    await willow.vanish(world.co)
    willow.payables.clear()
    await world.tick()

    willow.silent = False
    await world.tick()
    await world.tick()

    assert accepted(world, willow) == known
    assert (await world.job(view.job_id)).state is not JobState.DONE


async def test_what_a_crash_swallowed_is_told_by_the_next_process(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, leaves_after=7)
    await world.add_machine("oak", ask=120_000)
    submitted = await world.submit()
    await world.until_event(submitted.job_id, "It goes on from the last verified step")
    assert willow.payables == []  # sent, and still on its way

    await world.start()
    await world.tick()
    await world.tick()

    assert accepted(world, willow) == [
        earned(submitted.price_usd_micros, (await world.job(submitted.job_id)).steps_accepted, submitted.steps_total)
    ]


async def test_a_paid_job_is_not_spoken_of_again(world: World) -> None:
    willow, _, view = await moved(world)
    await world.finish(view.job_id)
    await world.tick()
    willow.payables.clear()

    await payables.node_returned(world.co, willow.node_id)
    await world.tick()
    await world.tick()

    assert willow.payables == []


async def test_an_unsigned_rest_leaves_what_the_ladder_covers_payable(world: World) -> None:
    willow = await world.add_machine("willow", ask=100_000, leaves_after=5)
    oak = await world.add_machine("oak", ask=110_000, leaves_after=5)
    elm = await world.add_machine("elm", ask=115_000)
    await world.add_machine("ash", ask=900_000)
    wanted = (await world.until_wanted((await world.submit()).job_id)).signature_wanted
    assert wanted is not None
    await world.tick()
    covered = accepted(world, willow)
    assert covered[-1] == wanted.share_usd_micros(willow.provider)
    assert accepted(world, elm) == []

    [job_id] = {run.task.job_id for run in elm.runs.values()}
    await settlement.add_statement(world.co, world.renter_key, job_id, world.sign(wanted))
    view = await world.finish(job_id)
    await world.tick()

    assert [one.state for one in view.attempts].count(AttemptState.FINISHED) == 1
    for machine in (willow, oak, elm):
        assert accepted(world, machine)[-1] == wanted.share_usd_micros(machine.provider)
