"""What a node does when its work is challenged: the re-run decides, and only what it was asked to run counts."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eth_account import Account

from fakes import trainer
from fakes.provider_side import MARKET, FakeArtifacts, ScriptedCoordinator, lease, ref, task
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, sign
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.accusations import Accusation, Accusations
from gristmill_provider.config import NodeConfig
from gristmill_provider.journal import JOURNAL
from gristmill_provider.keys import open_key
from gristmill_provider.payables import Payables

pytestmark = pytest.mark.slow

Running = Callable[..., Any]
SOON_S = 4_000_000_000


@asynccontextmanager
async def worked(coordinator: ScriptedCoordinator, running: Running, **options: Any) -> AsyncIterator[SignedRecord]:
    """A node that has finished an attempt; gives its second record."""
    async with running(**options):
        coordinator.say(lease=lease())
        await coordinator.expect_state("FINISHED")
        yield SignedRecord.model_validate_json(coordinator.bodies("segment")[1].signed_record_json)


def opened(*documents: Any, **changes: Any) -> pb.DisputeOpened:
    start = ref(trainer.state_file(7, 4))
    message = pb.DisputeOpened(
        dispute_id=5,
        disputes="0x" + "d1" * 20,
        attempt_id="attempt_1",
        segment=1,
        tier="fraud",
        reason="Segment 1 comes out differently when it is run again.",
        documents_json=json.dumps(documents),
        amount_usd_micros=10_000_000,
        answer_by_s=SOON_S,
        start=pb.Artifact(sha256=start.sha256, size_bytes=start.size_bytes),
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def noted(config: NodeConfig) -> list[Accusation]:
    journal = Payables.open(config.state_dir / JOURNAL)
    try:
        return Accusations(journal.db).all()
    finally:
        journal.close()


async def considered(coordinator: ScriptedCoordinator, config: NodeConfig) -> Accusation:
    """What the node has found out about the one dispute, and what it says that is in the way."""
    await coordinator.until(lambda: any(reply.note for reply in coordinator.bodies("dispute")))
    [found] = noted(config)
    return found


async def test_work_that_comes_out_as_signed_is_right(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(dispute=opened(record.model_dump(mode="json"), {"a": "verifier's answer"}))
        found = await considered(coordinator, config)

    assert (found.finding, found.pleaded) == ("right", "")
    assert found.steps == tuple(trainer.state_root(7, step) for step in (5, 6, 7, 8))
    assert "Set rpc_url." in found.note
    assert "gristmill-node disputes answer|concede 5" in found.note


async def test_work_that_comes_out_differently_is_wrong(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(dispute=opened(_signed(config, record, state_root="11" * 32)))
        found = await considered(coordinator, config)

    assert found.finding == "wrong"


async def test_a_machine_that_computes_otherwise_than_before_concedes_nothing_by_itself(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(dispute=opened(_signed(config, record, state_root="11" * 32, numeric_class="22" * 32)))
        found = await considered(coordinator, config)

    assert (found.finding, found.pleaded) == ("unclear", "")
    assert "computes otherwise than when it did the work" in found.note


async def test_what_the_node_did_not_sign_is_left_to_its_owner(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        signature = sign(Account.create(), MARKET.registry, SEGMENT_RECORD_TYPE, record.record.typed())
        forged = SignedRecord(record=record.record, signature=signature).model_dump(mode="json")
        coordinator.say(dispute=opened(forged))
        found = await considered(coordinator, config)

    assert (found.finding, found.pleaded) == ("unclear", "")
    assert "Nothing in it was signed by this node." in found.note


async def test_another_start_than_the_signed_one_convicts_nobody(
    coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(dispute=opened(_signed(config, record, state_root_prev="22" * 32)))
        found = await considered(coordinator, config)

    assert found.finding == "unclear"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attempt_id": "attempt_9"}, "does not know the attempt"),
        ({"tier": "state not served"}, "cannot settle"),
    ],
)
async def test_what_running_again_cannot_settle_is_said(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running, changes: dict[str, Any], words: str
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(dispute=opened(record.model_dump(mode="json"), **changes))
        found = await considered(coordinator, config)

    assert found.finding == "unclear"
    assert words in found.note


async def test_an_owner_may_have_nothing_contested(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    careful = config.model_copy(update={"contest_disputes": False, "rpc_url": "http://127.0.0.1:1"})
    async with worked(coordinator, running, settings=careful) as record:
        coordinator.say(dispute=opened(record.model_dump(mode="json")))
        found = await considered(coordinator, config)

    assert found.finding == "right"
    assert "contest_disputes is off" in found.note


async def test_a_busy_node_runs_it_when_it_has_a_slot(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with worked(coordinator, running) as record:
        coordinator.say(lease=lease(task("attempt_2", settings={"hold_at": 5})))
        await coordinator.expect_state("RUNNING", "attempt_2")
        message = opened(record.model_dump(mode="json"))
        coordinator.say(dispute=message)  # it waits
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_2", reason="Enough."))
        await coordinator.expect_state("YIELDED", "attempt_2")
        coordinator.say(dispute=message)
        found = await considered(coordinator, config)

    assert found.finding == "right"


def _signed(config: NodeConfig, honest: SignedRecord, **changes: str) -> dict[str, Any]:
    """The record with changes, as if the node had signed that."""
    record = honest.record.model_copy(update=changes)
    key = open_key(config.keystore, config.password_file)
    signature = sign(key, MARKET.registry, SEGMENT_RECORD_TYPE, record.typed())
    return SignedRecord(record=record, signature=signature).model_dump(mode="json")
