"""A whole process of nodes: the owner's rules, several cards, several coordinators, trouble with the card."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fakes import trainer
from fakes.node_process import as_file
from fakes.provider_side import FakeArtifacts, ScriptedCoordinator, audit, lease, task
from gristmill_protocol.incidents import read_incidents
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider import switch
from gristmill_provider.cli import app
from gristmill_provider.config import CoordinatorConfig, GpuConfig, NodeConfig
from gristmill_provider.exit_codes import ExitCode, NodeEnded
from gristmill_provider.fleet import build
from gristmill_provider.history import History
from gristmill_provider.journal import JOURNAL, Journal
from gristmill_provider.rules import Rules
from gristmill_provider.runner import Ended, Kind, ProcessRunner, Run

pytestmark = pytest.mark.slow

LOOK_S = 0.02
HOLDS = task(settings={"hold_at": 6})
Running = Callable[..., Any]


@pytest.fixture
def on_card(config: NodeConfig, cards: Any) -> NodeConfig:
    """The first card is offered."""
    assert cards
    return config.model_copy(update={"cpu": False})


@pytest.fixture
async def elsewhere() -> AsyncIterator[ScriptedCoordinator]:
    """A second coordinator."""
    with tempfile.TemporaryDirectory(prefix="gm") as folder:
        scripted = ScriptedCoordinator(f"unix:{folder}/s")
        await scripted.start()
        yield scripted
        await scripted.stop()


def history(config: NodeConfig) -> History:
    return History.open(config.state_dir / JOURNAL)


async def offered(coordinator: ScriptedCoordinator, *, paused: bool) -> None:
    """Wait until the last offer is paused, or not."""
    await coordinator.until(lambda: [offer.paused for offer in coordinator.bodies("offer")][-1:] == [paused])


async def test_a_pause_makes_work_leave_and_a_resume_brings_the_offer_back(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running(look_every_s=LOOK_S):
        coordinator.say(lease=lease(HOLDS))
        await coordinator.expect("segment")
        switch.pause(config.state_dir)
        yielded = await coordinator.expect_state("YIELDED")
        await offered(coordinator, paused=True)
        coordinator.say(lease=lease(task("attempt_2")))
        coordinator.say(audit=audit())
        _, declined = await coordinator.expect("lease_reply", 2)
        [refused] = await coordinator.expect("audit")
        switch.resume(config.state_dir)
        await offered(coordinator, paused=False)
        coordinator.say(lease=lease(task("attempt_3")))
        await coordinator.expect_state("FINISHED", "attempt_3")

    assert yielded.reason == "The owner needs the machine."
    assert [json.loads(s.signed_record_json)["record"]["step_to"] for s in coordinator.bodies("segment")][:2] == [4, 6]
    assert (declined.accepted, declined.reason) == (False, "The owner needs the machine.")
    assert (refused.accepted, refused.reason) == (False, "The owner needs the machine.")


async def test_a_pause_lasts_over_a_restart(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running(look_every_s=LOOK_S):
        await offered(coordinator, paused=False)
    switch.pause(config.state_dir)
    coordinator.received.clear()

    async with running(look_every_s=LOOK_S):
        await offered(coordinator, paused=True)  # measured the last time, so it need not wait to be connected


async def test_a_node_that_was_never_measured_waits_until_work_may_run(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    switch.pause(config.state_dir)

    async with running(look_every_s=LOOK_S):
        assert coordinator.greetings == []
        switch.resume(config.state_dir)
        await offered(coordinator, paused=False)


async def test_an_audit_that_runs_is_broken_off(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running(look_every_s=LOOK_S):
        coordinator.say(audit=audit(settings={"hold_at": 2}))
        await coordinator.until(lambda: any("audit_1" in beat.audit_ids for beat in coordinator.bodies("heartbeat")))
        switch.pause(config.state_dir)
        [refused] = await coordinator.expect("audit")

    assert (refused.accepted, refused.reason) == (False, "The owner needs the machine.")


async def test_new_rules_are_taken_at_once(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    stricter = config.model_copy(update={"owner": Rules(yield_to_programs=[Path(sys.executable).name])})

    async with running(reload=lambda: stricter, look_every_s=LOOK_S) as node:
        await offered(coordinator, paused=False)
        node.reload()
        await offered(coordinator, paused=True)


async def test_a_card_that_is_lost_in_the_middle_of_a_job_is_named_to_both_sides(
    coordinator: ScriptedCoordinator, cards: Any, on_card: NodeConfig, running: Running
) -> None:
    async with running(on_card, look_every_s=LOOK_S):
        coordinator.say(lease=lease(HOLDS))
        await coordinator.expect("segment")
        cards.set(XIDS="79", LOST=1)
        ended = await coordinator.expect_state("YIELDED")
        [(hello, *_)] = coordinator.greetings

    assert "GPU is lost" in ended.reason
    told = read_incidents("attempt_1", ended.incidents_json, ended.incidents_signature, key=hello.key)
    assert [incident.kind for incident in told] == ["xid", "card_lost"]
    mine = history(on_card)
    assert [one.kind for one in mine.incidents(work_id="attempt_1")] == ["xid", "card_lost"]
    assert "card_lost" in {span.cause for span in mine.spans()}
    mine.close()


class OutOfMemory(ProcessRunner):
    """Runs end as those do that the kernel ends for want of memory."""

    async def start(self, task_dir: Path, kind: Kind) -> Run:
        run = await super().start(task_dir, kind)
        wait = run.wait

        async def ended() -> Ended:
            return replace(await wait(), out_of_memory=kind == "run")

        run.wait = ended  # type: ignore[method-assign]
        return run


async def test_a_job_that_wants_too_much_memory_is_named_to_both_sides(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running(runner=OutOfMemory((sys.executable, trainer.__file__))):
        coordinator.say(lease=lease(task(settings={"crash_at": 2})))
        failed = await coordinator.expect_state("FAILED")
        [(hello, *_)] = coordinator.greetings

    told = read_incidents("attempt_1", failed.incidents_json, failed.incidents_signature, key=hello.key)
    assert [(one.kind, one.text) for one in told] == [
        ("out_of_memory", "The training program needed more memory than an attempt may take on this machine."),
    ]


async def test_two_cards_work_side_by_side(
    coordinator: ScriptedCoordinator, cards: Any, on_card: NodeConfig, running: Running
) -> None:
    cards.set(None, COUNT=2)
    cards.set(1, NAME="NVIDIA H100 80GB HBM3")
    second = GpuConfig(gpu=cards.UUIDS[1], ask_usd_per_gpu_hour="0.20")
    both = on_card.model_copy(update={"gpu": cards.UUIDS[0], "more_gpus": (second,)})

    async with running(both, look_every_s=LOOK_S) as node:
        offers = await coordinator.expect("offer", 2)
        coordinator.say(lease=lease(HOLDS))
        coordinator.say(lease=lease(task("attempt_2", settings={"hold_at": 6})))
        await coordinator.until(lambda: len(coordinator.bodies("segment")) >= 2)
        cards.set(1, LOST=1)
        await coordinator.until(
            lambda: [coordinator.states(one)[-1] for one in ("attempt_1", "attempt_2")].count("YIELDED") == 1
        )
        ids = {one.node_id for one in node.nodes}

    assert {(offer.device, offer.ask_usd_micros_per_gpu_hour) for offer in offers} == {
        ("NVIDIA GeForce RTX 4090", 300_000), ("NVIDIA H100 80GB HBM3", 200_000),
    }  # fmt: skip
    assert {hello.node_id for hello, *_ in coordinator.greetings} == ids
    assert len(ids) == 2


async def test_a_card_is_never_sold_to_two_coordinators_at_once(
    coordinator: ScriptedCoordinator, elsewhere: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    further = CoordinatorConfig(coordinator=elsewhere.address, coordinator_url="http://127.0.0.1:1", provider_id=3)

    async with running(config.model_copy(update={"more_coordinators": (further,)}), look_every_s=LOOK_S):
        await offered(coordinator, paused=False)
        await offered(elsewhere, paused=False)
        coordinator.say(lease=lease(HOLDS))
        await coordinator.expect("segment")
        await offered(elsewhere, paused=True)
        elsewhere.say(lease=lease(task("attempt_2")))
        [declined] = await elsewhere.expect("lease_reply")
        coordinator.say(stop=pb.StopAttempt(attempt_id="attempt_1", reason="Enough.", grace_s=5))
        await coordinator.expect_state("YIELDED")
        await offered(elsewhere, paused=False)
        elsewhere.say(lease=lease(task("attempt_3")))
        await elsewhere.expect_state("FINISHED", "attempt_3")

    assert (declined.accepted, declined.reason) == (False, "All slots of this node are taken.")


async def test_a_node_that_one_coordinator_refuses_works_for_the_other(
    coordinator: ScriptedCoordinator, elsewhere: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    elsewhere.refusal = pb.Refused(what="Your bond is too small.")
    further = CoordinatorConfig(coordinator=elsewhere.address, coordinator_url="http://127.0.0.1:1", provider_id=3)

    async def work() -> None:
        async with running(config.model_copy(update={"more_coordinators": (further,)}), look_every_s=LOOK_S):
            coordinator.say(lease=lease())
            await coordinator.expect_state("FINISHED")
            switch.pause(config.state_dir)
            await offered(coordinator, paused=True)

    with pytest.raises(NodeEnded) as ended:
        await work()

    assert ended.value.code == ExitCode.REFUSED


async def test_another_process_with_the_same_key_and_id_ends_this_one(
    coordinator: ScriptedCoordinator, config: NodeConfig, artifacts: FakeArtifacts
) -> None:
    node = build(config, runner=ProcessRunner((sys.executable, trainer.__file__)), transport=artifacts.transport())
    coordinator.say(refused=pb.Refused(what="Another process has connected.", replaced=True))

    with pytest.raises(NodeEnded, match="Another process has connected") as ended:
        await node.run()

    assert ended.value.code == ExitCode.IN_USE


async def test_a_wrong_clock_is_noticed_when_the_coordinator_greets(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    coordinator.clock_ahead_s = -3600

    async with running():
        await offered(coordinator, paused=False)

    mine = history(config)
    [incident] = mine.incidents()
    assert incident.kind == "clock"
    assert "3600 s ahead of the coordinator's" in incident.text
    mine.close()


async def test_a_machine_that_was_started_anew_says_so(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    with Journal(config.state_dir / JOURNAL) as journal:
        journal.history.set_mark("boot_id", "an earlier life of the machine")
        journal.begin("attempt_1", "attempt", keep_s=60)

    async with running():
        failed = await coordinator.expect_state("FAILED")
        [(hello, *_)] = coordinator.greetings

    told = read_incidents("attempt_1", failed.incidents_json, failed.incidents_signature, key=hello.key)
    assert [incident.kind for incident in told] == ["reboot"]


async def test_lost_standing_is_an_incident_and_a_reason_to_be_idle(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Running
) -> None:
    async with running(look_every_s=LOOK_S):
        await offered(coordinator, paused=False)
        coordinator.say(card=pb.CardVerdict(standing="removed", reason="It took twice as long as others."))
        coordinator.say(lease=lease())
        await coordinator.expect_state("FINISHED")

    file = as_file(config)
    shown = json.loads(CliRunner().invoke(app, ["evidence", "--config", str(file), "--json"]).stdout)
    told = CliRunner().invoke(app, ["evidence", "--config", str(file)]).stdout

    why = "The coordinator holds the card for removed: It took twice as long as others."
    assert [(one["kind"], one["text"]) for one in shown["incidents"]] == [("standing", why)]
    assert {"working"} <= {span["cause"] for span in shown["spans"]}
    assert why in told


def test_pause_and_resume_are_commands(config: NodeConfig) -> None:
    file = as_file(config)

    def typed(*words: str) -> str:
        return CliRunner().invoke(app, [words[0], "--config", str(file), *words[1:]]).stdout

    assert typed("resume") == "It was not paused.\n"
    assert typed("pause") == "Paused.\n"
    assert switch.paused_until_s(config.state_dir) == float("inf")
    assert typed("pause", "--minutes", "90") == "Paused for 90 min.\n"
    assert typed("resume") == "Work may run again, within your rules.\n"
    assert switch.paused_until_s(config.state_dir) is None
