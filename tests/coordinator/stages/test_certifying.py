"""A finished job gets its certificate, signed by who did it; what a machine does not sign is said in it."""

import json

import pytest

from fakes.machine import lazy
from fakes.world import World
from gristmill_coordinator import certificates
from gristmill_coordinator.stages import certifying
from gristmill_protocol.certificate import CertificateStatement, Envelope, require_signed
from gristmill_protocol.errors import NotFinished, NotFound
from gristmill_protocol.jobs import JobState, JobView
from gristmill_protocol.modes import GUARANTEES


async def done(world: World) -> JobView:
    return await world.finish((await world.submit()).job_id)


async def issued(world: World, job_id: str) -> CertificateStatement:
    """What the job's certificate says, once its signatures hold."""
    envelope = Envelope.read(await world.certified(job_id))
    statement = CertificateStatement.read(envelope.content())
    require_signed(envelope, envelope.content(), statement.signers())
    return statement


async def test_the_certificate_says_what_the_rows_say(world: World) -> None:
    lock = json.dumps({"data_root": "cd" * 32, "recipe_version": "1.2"}).encode()
    willow = await world.add_machine("willow", ask=50_000, makes={"recipe.lock": lock})
    await world.add_machine("oak", ask=900_000, makes={"recipe.lock": lock})
    view = await done(world)

    statement = await issued(world, view.job_id)

    said = statement.predicate
    assert {one.name: one.digest.sha256 for one in statement.subject} == {
        name: ref.sha256 for name, ref in view.outputs.items()
    }
    assert (said.mode, said.guarantee, said.base_model) == (view.mode, GUARANTEES[view.mode], None)
    assert (said.recipe.version, said.data.root) == ("1.2", "cd" * 32)
    assert said.recipe.lock_sha256 == view.outputs["recipe.lock"].sha256
    assert (said.steps, said.final_state_root) == (view.steps_total, view.final_state_root)
    assert [part.evidence.audits for part in said.windows] == [window.audits for window in view.windows]
    assert said.payment.bill == view.bill
    assert statement.signers() == (world.chain.operator.address, willow.key.address)


async def test_a_job_that_is_not_done_has_no_certificate_yet(world: World) -> None:
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    submitted = await world.submit()

    with pytest.raises(NotFinished, match="not done"):
        await certificates.certificate(world.co, world.renter_key, submitted.job_id)
    with pytest.raises(NotFound):
        await certificates.certificate(world.co, "0x" + "00" * 20, submitted.job_id)


async def test_a_failed_job_never_gets_one(world: World) -> None:
    await world.add_machine("willow", ask=50_000, fails_with="The data are bad.")
    await world.add_machine("oak", ask=900_000)
    view = await done(world)

    assert view.state is JobState.FAILED
    with pytest.raises(NotFound, match="no result"):
        await certificates.certificate(world.co, world.renter_key, view.job_id)


async def test_a_machine_that_stays_silent_is_named_as_not_signing(world: World) -> None:
    willow = await world.add_machine("willow", ask=50_000, certifies=False)
    await world.add_machine("oak", ask=900_000)
    view = await done(world)

    statement = await issued(world, view.job_id)

    [asked] = statement.predicate.asked
    assert (asked.key, asked.signed, asked.reason) == (willow.key.address, False, "It did not answer within 30 s.")
    assert statement.signers() == (world.chain.operator.address,)


async def test_what_no_stream_carries_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certifying, "_MAX_ASKED_BYTES", 1000)
    await world.add_machine("willow", ask=50_000)
    await world.add_machine("oak", ask=900_000)
    view = await done(world)

    [asked] = (await issued(world, view.job_id)).predicate.asked

    assert (asked.signed, asked.reason) == (False, "It was too long to be sent to it.")


async def test_a_machine_that_declines_is_quoted_and_the_others_sign_that(world: World) -> None:
    await world.add_machine("willow", ask=100_000, leaves_after=5, certifies="Segment 3 is not mine.")
    oak = await world.add_machine("oak", ask=110_000)
    await world.add_machine("elm", ask=900_000)
    view = await world.finish_signing((await world.submit()).job_id)

    statement = await issued(world, view.job_id)

    assert [(one.signed, one.reason) for one in statement.predicate.asked] == [
        (False, "Segment 3 is not mine."),
        (True, ""),
    ]
    assert statement.signers()[1:] == (oak.key.address,)


async def test_a_cheat_is_named_with_what_it_lost_and_is_not_asked(world: World) -> None:
    cheat = await world.add_machine("cheat", ask=50_000, train=lazy)
    for name in ("oak", "elm", "ash"):
        await world.add_machine(name, ask=100_000)
    view = await world.finish_signing((await world.submit()).job_id)

    statement = await issued(world, view.job_id)

    said = statement.predicate
    assert [slash.provider for slash in said.slashes] == [cheat.provider]
    assert cheat.key.address not in statement.signers()
    assert [part.records == () for part in said.windows] == [True, False]


async def test_garbage_in_a_machines_lock_is_left_out(world: World) -> None:
    lock = json.dumps({"data_root": "\ud800", "recipe_version": ["1"]}).encode()
    await world.add_machine("willow", ask=50_000, makes={"recipe.lock": lock})
    await world.add_machine("oak", ask=900_000, makes={"recipe.lock": lock})
    view = await done(world)

    said = (await issued(world, view.job_id)).predicate

    assert (said.data.root, said.recipe.version) == (None, None)
