"""A whole node against a scripted coordinator: real stream, real processes, artifacts in memory."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fakes import trainer
from fakes.provider_side import (
    DATA,
    MARKET,
    FakeArtifacts,
    ScriptedCoordinator,
    audit,
    lease,
    ref,
    signed_order,
    spec,
    task,
)
from gristmill_protocol.commitments import SignedRecord, answer_digest, chain_break
from gristmill_protocol.errors import NotAllowed, Unavailable
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.progress import Evaluated, Replayed
from gristmill_protocol.signing import (
    AUDIT_COMMITMENT_TYPE,
    GREETING_TYPE,
    RECEIPT_TYPE,
    SEGMENT_RECORD_TYPE,
    recover,
)
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.artifacts import ArtifactCache
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode, NodeEnded
from gristmill_provider.fleet import build
from gristmill_provider.journal import JOURNAL, Journal
from gristmill_provider.meter import receipt_message
from gristmill_provider.runner import ProcessRunner

pytestmark = pytest.mark.slow
FAKE_TRAINER = (sys.executable, trainer.__file__)
Running = Callable[..., Any]


def state(step: int) -> bytes:
    return trainer.state_file(7, step)


async def test_a_node_greets_and_offers_what_was_measured(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running() as node:
        [offer] = await coordinator.expect("offer")
        await coordinator.expect("heartbeat")

    [(hello, greeting, challenge)] = coordinator.greetings
    signed: dict[str, object] = {"challenge": challenge, "provider": 3}
    assert recover(MARKET.registry, GREETING_TYPE, signed, greeting.signature) == hello.key
    assert hello.node_id == node.nodes[0].node_id
    assert offer.numeric_class.hex() == trainer.NUMERIC_CLASS
    assert (offer.device, offer.is_cpu, offer.sandbox) == ("CPU", True, "process")
    assert (offer.flops_per_s, offer.ask_usd_micros_per_gpu_hour) == (trainer.FLOPS_PER_S, 300_000)


async def test_an_attempt_is_run_signed_and_handed_over(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    async with running():
        coordinator.say(lease=lease())
        finished = await coordinator.expect_state("FINISHED")
        key = coordinator.greetings[0][0].key

    assert [reply.accepted for reply in coordinator.bodies("lease_reply")] == [True]
    assert coordinator.states() == ["PREPARING", "RUNNING", "FINISHED"]
    reports = coordinator.bodies("segment")
    records = [SignedRecord.model_validate_json(report.signed_record_json) for report in reports]
    assert chain_break([signed.record for signed in records]) is None
    assert [(signed.record.step_from, signed.record.step_to) for signed in records] == [(0, 4), (4, 8), (8, 10)]
    for signed in records:
        assert recover(MARKET.registry, SEGMENT_RECORD_TYPE, signed.record.typed(), signed.signature) == key
    assert [report.uploaded for report in reports] == [True] * 3
    assert all(
        artifacts.held[report.state.sha256] == state(r.record.step_to)
        for report, r in zip(reports, records, strict=True)
    )
    assert json.loads(finished.finished_json)["files"] == {"model.txt": ref(b"a model").sha256}
    assert ref(b"a model").sha256 in artifacts.held


async def test_receipts_count_up_under_the_nodes_signature(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(lease=lease())
        receipts = await coordinator.expect("receipt", 3)
        key = coordinator.greetings[0][0].key

    assert [(receipt.number, receipt.steps, receipt.gpu_ms) for receipt in receipts] == [
        (1, 4, 4_000), (2, 8, 8_000), (3, 10, 10_000),
    ]  # fmt: skip
    for receipt in receipts:
        assert recover(MARKET.registry, RECEIPT_TYPE, receipt_message(receipt), receipt.signature) == key


async def test_an_attempt_goes_on_from_a_boundary_state(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    start = artifacts.add(state(4))

    async with running():
        coordinator.say(lease=lease(task(step_from=4, segment_index=1, state=start)))
        await coordinator.expect_state("FINISHED")

    records = [json.loads(report.signed_record_json)["record"] for report in coordinator.bodies("segment")]
    assert [(record["index"], record["step_from"]) for record in records] == [(1, 4), (2, 8)]
    assert [receipt.steps for receipt in coordinator.bodies("receipt")] == [4, 6]


async def test_a_repeated_lease_offer_starts_one_attempt(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 5})))
        coordinator.say(lease=lease(task(settings={"hold_at": 5})))
        replies = await coordinator.expect("lease_reply", 2)

    assert [reply.accepted for reply in replies] == [True, True]
    assert coordinator.states().count("PREPARING") == 1


async def test_a_node_without_a_free_slot_declines(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 5})))
        coordinator.say(lease=lease(task("attempt_2")))
        replies = await coordinator.expect("lease_reply", 2)

    assert [(reply.accepted, reply.reason) for reply in replies] == [
        (True, ""), (False, "All slots of this node are taken."),
    ]  # fmt: skip


async def test_a_stopped_attempt_saves_and_yields(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 6})))
        await coordinator.expect("segment")
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="The renter stopped the job.", grace_s=5))
        yielded = await coordinator.expect_state("YIELDED")

    assert yielded.reason == "The renter stopped the job."
    assert [json.loads(s.signed_record_json)["record"]["step_to"] for s in coordinator.bodies("segment")] == [4, 6]
    assert ref(state(6)).sha256 in artifacts.held


async def test_a_trainer_that_does_not_leave_is_killed_and_proven_work_counts(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    limits = config.limits.model_copy(update={"stop_grace_s": 0.1})

    async with running(config.model_copy(update={"limits": limits})):
        coordinator.say(lease=lease(task(settings={"hold_at": 6, "ignore_sigterm": True})))
        await coordinator.expect("segment")
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="Enough.", grace_s=60))
        await coordinator.expect_state("YIELDED")

    assert coordinator.states() == ["PREPARING", "RUNNING", "YIELDED"]


async def test_an_owner_who_stops_the_node_makes_its_attempts_yield(
    coordinator: ScriptedCoordinator, running: Running
) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 6})))
        await coordinator.expect("segment")

    assert coordinator.states()[-1] == "YIELDED"
    assert len(coordinator.bodies("segment")) == 2


@pytest.mark.parametrize(
    ("settings", "code", "renters_fault", "words"),
    [
        ({"fail_at": 2}, "bad_data", True, "A picture is broken. Nothing was trained. Mend it."),
        ({"crash_at": 2}, "unavailable", False, "out of luck"),
        ({"babble_at": 2}, "unavailable", False, "cannot be understood"),
    ],
)
async def test_a_failure_is_reported_with_its_sentence(
    settings: dict[str, Any], code: str, renters_fault: bool, words: str,
    coordinator: ScriptedCoordinator, running: Running,
) -> None:  # fmt: skip
    async with running():
        coordinator.say(lease=lease(task(settings=settings)))
        failed = await coordinator.expect_state("FAILED")

    assert (failed.code, failed.renters_fault) == (code, renters_fault)
    assert words in failed.reason


async def test_an_attempt_waits_for_its_data_until_it_is_stopped(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    artifacts.refuses = Unavailable("The coordinator is being updated.")

    async with running():
        coordinator.say(lease=lease())
        await coordinator.until(lambda: len(artifacts.requests) > 1)
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="The job was stopped.", grace_s=5))
        yielded = await coordinator.expect_state("YIELDED")

    assert yielded.reason == "The job was stopped."


async def test_missing_data_fails_the_attempt(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    artifacts.held.clear()

    async with running():
        coordinator.say(lease=lease())
        failed = await coordinator.expect_state("FAILED")

    assert failed.code == "not_found"


async def test_a_result_that_cannot_be_handed_over_is_no_success(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 5})))
        await coordinator.expect("segment")
        artifacts.refuses = NotAllowed("This node's files are not wanted.")
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="Enough.", grace_s=5))
        await coordinator.expect_state("YIELDED")
        segments = await coordinator.expect("segment", 2)
        coordinator.say(lease=lease(task("attempt_2")))
        failed = await coordinator.expect_state("FAILED", "attempt_2")

    assert [segment.uploaded for segment in segments] == [True, False]
    assert failed.code == "not_allowed"


async def test_what_was_just_handed_in_is_not_pruned(
    coordinator: ScriptedCoordinator, config: NodeConfig, artifacts: FakeArtifacts, running: Running
) -> None:
    limits = config.limits.model_copy(update={"cache_gib": 1e-9})  # so that whatever nobody needs is deleted
    cached = ArtifactCache(config.state_dir / "artifacts", adopt_bytes=0)

    async with running(config.model_copy(update={"limits": limits})):
        coordinator.say(lease=lease(task(settings={"lingers": True})))
        await coordinator.until(lambda: cached.has(ref(b"a model").sha256))
        coordinator.say(release=pb.ReleaseAttempt(attempt_id="attempt_0"))
        await coordinator.until(lambda: not cached.has(ref(DATA).sha256))
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="It was done.", grace_s=5))
        await coordinator.expect_state("FINISHED")

    assert artifacts.held[ref(b"a model").sha256] == b"a model"


async def test_a_failed_attempt_leaves_nothing_that_must_be_kept(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"boasts": True})))
        await coordinator.expect_state("FAILED")
        coordinator.say(release=pb.ReleaseAttempt(attempt_id="attempt_1"))
        coordinator.say(lease=lease(task("attempt_2")))
        await coordinator.expect("lease_reply", 2)

    with Journal(config.state_dir / JOURNAL) as journal:
        journal.release("attempt_2")
        assert journal.needed() == frozenset()


async def test_a_verifier_hands_over_the_states_it_was_to_keep(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    async with running():
        coordinator.say(audit=audit(keep_state=True))
        [bound] = await coordinator.expect("commitment")
        coordinator.say(reveal=pb.RevealRequest(audit_id=bound.audit_id))
        [reply] = await coordinator.expect("audit")

    replayed = Replayed.model_validate_json(reply.replayed_json)
    assert (replayed.state, replayed.start) == (ref(state(4)), ref(state(0)))
    assert {ref(state(4)).sha256, ref(state(0)).sha256} <= set(artifacts.held)


async def test_a_model_is_measured_on_the_examples_that_were_kept_from_its_provider(
    running: Running, coordinator: ScriptedCoordinator, artifacts: FakeArtifacts
) -> None:
    hidden, model = artifacts.add(b"hidden examples"), artifacts.add(b"a model")
    of = spec(held_out=hidden)
    measuring = audit("audit_1", data=hidden, model={"model.bin": model}, step_to=None)
    measuring.spec_json, measuring.signed_order_json = of.model_dump_json(), signed_order(of).model_dump_json()
    elsewhere = audit("audit_2", data=hidden, model={"../model.bin": model}, step_to=None)
    elsewhere.spec_json, elsewhere.signed_order_json = measuring.spec_json, measuring.signed_order_json

    async with running():
        coordinator.say(audit=measuring)
        coordinator.say(audit=elsewhere)
        [bound] = await coordinator.expect("commitment")
        [refused] = await coordinator.expect("audit")
        coordinator.say(reveal=pb.RevealRequest(audit_id=bound.audit_id))
        _, measured = await coordinator.expect("audit", 2)

    assert Evaluated.model_validate_json(measured.replayed_json).millionths == 900_000
    assert not refused.accepted
    assert "'../model.bin'" in refused.reason


async def test_audits_run_one_after_another_and_say_what_came_out(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    start = artifacts.add(state(4))

    async with running():
        coordinator.say(audit=audit("audit_1"))
        coordinator.say(audit=audit("audit_2", step_from=4, step_to=8, segment_index=1, state=start))
        coordinator.say(lease=lease())
        bound = await coordinator.expect("commitment", 2)
        [reply] = await coordinator.expect("lease_reply")
        assert coordinator.bodies("audit") == []
        for said in bound:
            coordinator.say(reveal=pb.RevealRequest(audit_id=said.audit_id))
        replies = await coordinator.expect("audit", 2)
        key = coordinator.greetings[0][0].key

    for said, answer in zip(bound, replies, strict=True):
        replayed = Replayed.model_validate_json(answer.replayed_json)
        assert said.digest == answer_digest(said.audit_id, answer.salt, replayed)
        signed: dict[str, object] = {"audit": id_bytes32(said.audit_id), "digest": said.digest}
        assert recover(MARKET.registry, AUDIT_COMMITMENT_TYPE, signed, said.signature) == key
    assert [(answer.audit_id, answer.accepted) for answer in replies] == [("audit_1", True), ("audit_2", True)]
    assert [json.loads(answer.replayed_json)["state_root"] for answer in replies] == [
        trainer.state_root(7, 4), trainer.state_root(7, 8),
    ]  # fmt: skip
    assert not reply.accepted


async def test_a_restarted_node_stands_by_the_answer_that_it_committed_to(
    coordinator: ScriptedCoordinator, running: Running
) -> None:
    async with running():
        coordinator.say(audit=audit())
        [bound] = await coordinator.expect("commitment")

    async with running():
        for _ in range(2):  # again, as by a coordinator that has not heard of it; the ended stream may take one
            coordinator.say(audit=audit())
        coordinator.say(reveal=pb.RevealRequest(audit_id="audit_1"))
        coordinator.say(reveal=pb.RevealRequest(audit_id="audit_2"))
        known, unknown = await coordinator.expect("audit", 2)
        again = await coordinator.expect("commitment", 2)

    assert again[-1] == bound
    assert bound.digest == answer_digest("audit_1", known.salt, Replayed.model_validate_json(known.replayed_json))
    assert (unknown.accepted, unknown.reason) == (False, "This node has no answer to it any more.")


async def test_a_kept_state_is_handed_over_until_it_is_released(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    wanted = pb.StateRequest(attempt_id="attempt_1", sha256=ref(state(4)).sha256)
    async with running():
        coordinator.say(lease=lease())
        await coordinator.expect_state("FINISHED")
        del artifacts.held[wanted.sha256]

        coordinator.say(state_request=wanted)
        await coordinator.expect("state")
        coordinator.say(release=pb.ReleaseAttempt(attempt_id="attempt_1"))
        coordinator.say(state_request=wanted)
        replies = await coordinator.expect("state", 2)

    assert [reply.uploaded for reply in replies] == [True, False]
    assert artifacts.held[wanted.sha256] == state(4)


async def test_a_new_price_is_offered_on_reload(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    dearer = config.model_copy(update={"ask_usd_per_gpu_hour": "0.50", "name": "ignored"})

    async with running(reload=lambda: dearer) as node:
        await coordinator.expect("offer")
        node.reload()
        await coordinator.until(lambda: coordinator.bodies("offer")[-1].ask_usd_micros_per_gpu_hour == 500_000)


async def test_a_refused_node_ends_with_the_reason(coordinator: ScriptedCoordinator, config: NodeConfig) -> None:
    coordinator.refusal = pb.Refused(what="Your bond is too small.", effect="No jobs come.", todo="Bond 10 USD.")

    with pytest.raises(NodeEnded, match=r"Your bond is too small\. No jobs come\. Bond 10 USD\.") as ended:
        await build(config, runner=ProcessRunner(FAKE_TRAINER)).run()

    assert ended.value.code == ExitCode.REFUSED


async def test_two_nodes_do_not_share_a_state_folder(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running():
        await coordinator.expect("offer")
        with pytest.raises(NodeEnded) as ended:
            await build(config, runner=ProcessRunner(FAKE_TRAINER)).run()

    assert ended.value.code == ExitCode.IN_USE


async def test_a_run_survives_the_coordinators_absence(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, running: Running
) -> None:
    coordinator.acknowledges = False
    async with running():
        coordinator.say(lease=lease())
        await coordinator.expect("segment")
        await coordinator.stop()
        back = ScriptedCoordinator(coordinator.address)
        await back.start()
        await back.expect_state("FINISHED")

    assert back.states() == ["PREPARING", "RUNNING", "FINISHED"]
    assert len(back.bodies("segment")) == 3
    await back.stop()


async def test_what_was_interrupted_is_reported_at_the_next_start(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    with Journal(config.state_dir / "journal.db") as journal:
        journal.begin("attempt_1", "attempt", keep_s=60)
        journal.begin("audit_1", "audit")
        journal.add(pb.NodeMessage(receipt=pb.Receipt(attempt_id="attempt_1", number=1)))
    (config.state_dir / "tasks" / "attempt_1" / "out").mkdir(parents=True)

    async with running():
        failed = await coordinator.expect_state("FAILED")
        [answer] = await coordinator.expect("audit")

    assert "restarted" in failed.reason
    assert not answer.accepted
    assert len(coordinator.bodies("receipt")) == 1
    assert list((config.state_dir / "tasks").iterdir()) == []


async def test_a_lease_for_somebody_elses_data_is_declined(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(lease=lease(task(data=ref(b"other data"))))
        coordinator.say(lease=lease(of=spec(seed=8)))
        replies = await coordinator.expect("lease_reply", 2)

    assert {reply.reason for reply in replies} == {"The task is not what the order asks for."}
