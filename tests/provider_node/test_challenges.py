"""Tests of the card, as the node takes part in them: real stream, real process, scripted coordinator."""

from collections.abc import Callable
from typing import Any

import pytest

from fakes.prover import TINY
from fakes.provider_side import ScriptedCoordinator, lease, task
from gristmill_protocol.challenges import Draw
from gristmill_protocol.v1 import provider_pb2 as pb

pytestmark = pytest.mark.slow

Running = Callable[..., Any]
SEED = bytes(range(32))
DRAW = Draw(rounds=(0,), rows=(0,), leaves=(0,))


def request(n: int = 8, challenge_id: str = "challenge_1") -> pb.ChallengeRequest:
    return pb.ChallengeRequest(challenge_id=challenge_id, sizes_json=TINY.model_copy(update={"n": n}).model_dump_json())


def start(challenge_id: str = "challenge_1") -> pb.ChallengeStart:
    return pb.ChallengeStart(challenge_id=challenge_id, seed=SEED)


async def test_a_test_is_answered_step_by_step(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(challenge_request=request())
        await coordinator.expect("challenge")
        coordinator.say(challenge_start=start())
        [ready, committed] = await coordinator.expect("challenge", 2)
        coordinator.say(challenge_open=pb.ChallengeOpen(challenge_id="challenge_1", draw_json=DRAW.model_dump_json()))
        [_, _, opened] = await coordinator.expect("challenge", 3)

    assert ready.ready
    assert SEED.hex() in committed.commitment_json
    assert opened.opening_json == '{"folds":[],"leaves":[]}'


async def test_a_job_comes_before_a_test(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(challenge_request=request(n=24))
        await coordinator.expect("challenge")
        coordinator.say(lease=lease())
        await coordinator.expect_state("FINISHED")
        [_, refusal] = await coordinator.expect("challenge", 2)

    assert refusal.refused == "The machine was given other work."


async def test_a_busy_machine_refuses_a_test(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(lease=lease(task(settings={"hold_at": 5})))
        await coordinator.expect_state("RUNNING")
        coordinator.say(challenge_request=request())
        [refusal] = await coordinator.expect("challenge")

    assert refusal.refused == "The machine was given other work."


async def test_a_test_that_fails_is_told_with_its_reason(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(challenge_request=request(n=16))
        await coordinator.expect("challenge")
        coordinator.say(challenge_start=start())
        [_, refusal] = await coordinator.expect("challenge", 2)

    assert refusal.refused == "The card's memory is too small."


async def test_a_new_test_replaces_one_that_hangs(coordinator: ScriptedCoordinator, running: Running) -> None:
    async with running():
        coordinator.say(challenge_request=request(n=24))
        await coordinator.expect("challenge")
        coordinator.say(challenge_start=start("challenge_of_an_earlier_life"))
        coordinator.say(challenge_request=request(challenge_id="challenge_2"))
        replies = await coordinator.expect("challenge", 3)

    assert [(one.challenge_id, one.WhichOneof("said")) for one in replies] == [
        ("challenge_1", "ready"), ("challenge_1", "refused"), ("challenge_2", "ready"),
    ]  # fmt: skip


async def test_a_verdict_is_in_the_log(
    coordinator: ScriptedCoordinator, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running():
        coordinator.say(card=pb.CardVerdict(standing="quarantined", reason="Its card was slow."))
        coordinator.say(challenge_request=request(n=16))
        await coordinator.expect("challenge")

    assert "Its card was slow." in "".join(capsys.readouterr())
