"""What nodes say: taken once, in any order of repetition, and never about another node's work."""

from collections.abc import Awaitable, Callable

import pytest
from eth_account import Account

from fakes.machine import Machine
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.market import nodes
from gristmill_coordinator.stages import audit, dispatch, metering
from gristmill_protocol.errors import BadRequest, BadSignature, Conflict, NotAllowed
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import AttemptState, JobState, WindowState
from gristmill_protocol.progress import Replayed
from gristmill_protocol.signing import AUDIT_COMMITMENT_TYPE, sign
from gristmill_protocol.v1 import provider_pb2 as pb

pytestmark = pytest.mark.slow


@pytest.fixture
async def market(world: World) -> World:
    await world.add_machine("willow", ask=100_000)
    await world.add_machine("oak", ask=120_000)
    return world


async def running(world: World, steps: int = 6) -> str:
    """A job that runs on willow and has reported so many steps; its id."""
    job_id = (await world.submit()).job_id
    await world.until_steps(job_id, steps)
    return job_id


def journal(machine: Machine, kind: str) -> list[object]:
    [run] = machine.runs.values()
    return [message for said, message in run.journal if said == kind]


async def test_everything_said_twice_counts_once(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market)
    before = await market.job(job_id)

    [run] = willow.runs.values()
    run.said = 0
    await willow._say(market.co, run)

    assert await market.job(job_id) == before


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            dispatch.attempt_updated,
            lambda attempt: pb.AttemptUpdate(
                attempt_id=attempt, state=pb.AttemptUpdate.FAILED, reason="Sabotage.", renters_fault=True
            ),
        ),
        (dispatch.lease_replied, lambda attempt: pb.LeaseReply(attempt_id=attempt, accepted=False)),
        (metering.progress_reported, lambda attempt: pb.Progress(attempt_id=attempt, step=25)),
        (audit.state_replied, lambda attempt: pb.StateReply(attempt_id=attempt, sha256="ab" * 32, uploaded=False)),
        (metering.receipt_reported, lambda attempt: pb.Receipt(attempt_id=attempt, number=99)),
    ],
)
async def test_a_node_cannot_speak_for_anothers_attempt(
    market: World,
    handler: Callable[[object, str, object], Awaitable[None]],
    message: Callable[[str], object],
) -> None:
    job_id = await running(market)
    before = await market.job(job_id)

    await handler(market.co, "node-oak", message(before.attempts[0].attempt_id))

    assert await market.job(job_id) == before


async def test_a_record_signed_by_another_key_is_refused(market: World) -> None:
    willow = market.machines["willow"]
    job_id = (await market.submit()).job_id
    await market.until_steps(job_id, 2)
    before = await market.job(job_id)

    willow.key = Account.create()
    await market.tick()

    assert (await market.job(job_id)).attempts[0].step_to == before.attempts[0].step_to


async def test_the_first_record_of_a_segment_stands(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market)
    report = journal(willow, "segment")[0]
    assert isinstance(report, pb.SegmentReport)

    await metering.segment_reported(market.co, willow.node_id, report)

    events = await views.events(market.co, market.renter_key, job_id, 0)
    assert sum("Segment 0 is committed" in event.text for event in events) == 1


async def test_a_state_that_the_node_did_not_upload_itself_does_not_count(market: World) -> None:
    """Else a provider could have a verifier read any file whose hash it knows."""
    willow = market.machines["willow"]
    await running(market)
    secret = await market.co.artifacts.put_bytes(b"somebody else's model")

    assert not await nodes.holds(market.co, willow.node_id, secret.sha256)


async def test_a_result_that_was_not_uploaded_is_no_result(market: World) -> None:
    """The last segment counts only with its result: another machine does it again."""
    market.machines["willow"].uploads_result = False
    job_id = (await market.submit()).job_id

    view = await market.finish(job_id)

    assert [one.state for one in view.attempts] == [AttemptState.FAILED, AttemptState.FINISHED]
    assert view.attempts[1].step_from == 24
    assert set(view.outputs) == {"model.bin"}


async def test_an_attempt_that_finishes_without_its_segments_has_failed(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market)
    attempt_id = (await market.job(job_id)).attempts[0].attempt_id
    update = pb.AttemptUpdate(
        attempt_id=attempt_id,
        state=pb.AttemptUpdate.FINISHED,
        finished_json='{"step": 25, "state_root": "' + "ab" * 32 + '", "scorecard": {}, "files": {}}',
    )

    await dispatch.attempt_updated(market.co, willow.node_id, update)

    [attempt] = (await market.job(job_id)).attempts
    assert attempt.state is AttemptState.FAILED
    assert attempt.reason == "Its result is incomplete or was not uploaded."


async def test_progress_is_shown_and_bounded(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market, steps=2)
    attempt_id = (await market.job(job_id)).attempts[0].attempt_id
    progress = pb.Progress(attempt_id=attempt_id, step=9_999, metrics_json='{"loss": 0.5, "bad": "x", "nan": NaN}')

    await metering.progress_reported(market.co, willow.node_id, progress)
    await metering.progress_reported(market.co, willow.node_id, progress)

    lines = [one for one in await views.events(market.co, market.renter_key, job_id, 0) if one.kind == "progress"]
    assert [(one.text, one.fields) for one in lines] == [("Step 25 of 25.", {"step": 25, "metrics": {"loss": 0.5}})]


async def test_an_answer_to_another_question_is_no_answer(market: World) -> None:
    oak = market.machines["oak"]
    oak.silent = True  # reads nothing: the test answers in its place
    job_id = (await market.submit()).job_id
    for _ in range(40):
        await market.tick()
        await oak._beat(market.co)
    [window] = (await market.job(job_id)).windows
    assert window.state is WindowState.SAMPLED
    assert oak.outbox is not None
    sent = [oak.outbox.get_nowait() for _ in range(oak.outbox.qsize())]
    request = next(message.audit for message in sent if message is not None and message.WhichOneof("body") == "audit")
    digest = "00" * 32
    wrong = Replayed(
        step_from=0, step_to=24, state_root_prev=digest, state_root=digest, data_root=digest, metrics_root=digest
    )

    await oak._commit(market.co, request.audit_id, wrong)
    await market.tick()  # the coordinator asks for the answer
    await oak._reveal(market.co, pb.RevealRequest(audit_id=request.audit_id))

    assert {one.verifier for one in (await market.job(job_id)).windows[0].audits} == {0}  # nobody has answered


async def test_a_commitment_that_another_key_signed_binds_nobody(market: World) -> None:
    oak = market.machines["oak"]
    said = pb.AuditCommitment(audit_id="audit_1", digest=b"d" * 32)
    signed: dict[str, object] = {"audit": id_bytes32("audit_1"), "digest": said.digest}
    said.signature = sign(Account.create(), market.chain.info.registry_domain, AUDIT_COMMITMENT_TYPE, signed)

    with pytest.raises(BadSignature):
        await audit.audit_committed(market.co, oak.node_id, said)


async def test_a_node_that_another_key_registered_is_refused(market: World) -> None:
    willow = market.machines["willow"]
    hello = pb.Hello(node_id="node-x", key=Account.create().address, provider=willow.provider, name="x")

    with pytest.raises(NotAllowed, match="node key"):
        await nodes.node_connected(market.co, hello)


async def test_a_node_without_a_bond_is_refused(market: World) -> None:
    key = Account.create().address
    provider = market.chain.add_provider(node_key=key, bonded_usd_micros=0)

    with pytest.raises(NotAllowed, match="bonds"):
        await nodes.node_connected(market.co, pb.Hello(node_id="node-x", key=key, provider=provider))


async def test_a_node_id_belongs_to_one_provider(market: World) -> None:
    key = Account.create().address
    provider = market.chain.add_provider(node_key=key)

    with pytest.raises(Conflict):
        await nodes.node_connected(market.co, pb.Hello(node_id="node-willow", key=key, provider=provider))


async def test_an_offer_that_makes_no_sense_is_refused(market: World) -> None:
    with pytest.raises(BadRequest, match="flops_per_s"):
        await nodes.offer_received(market.co, "node-willow", pb.Offer(device="x", numeric_class=bytes(32)))


async def test_a_machine_that_forgot_its_attempt_loses_it(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market)
    willow.runs.clear()

    view = await market.finish(job_id)

    assert view.state is JobState.DONE
    assert view.attempts[0].state is AttemptState.LOST
    assert view.attempts[0].reason == "The machine does not run it any more."


async def test_a_machine_that_was_cut_off_is_told_to_stop(market: World) -> None:
    willow = market.machines["willow"]
    job_id = await running(market)
    await willow.vanish(market.co)
    for _ in range(30):
        await market.tick()
    attempt_id = (await market.job(job_id)).attempts[0].attempt_id

    willow.silent = False
    for _ in range(3):
        await market.tick()

    assert attempt_id in willow.told_to_stop
    assert (await market.finish(job_id)).state is JobState.DONE
