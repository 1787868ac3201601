"""Judging others' disputes: run first, look later, convict nobody by one's own bits alone."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fakes import trainer
from fakes.provider_side import ScriptedCoordinator, audit
from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.progress import Replayed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.bench import digest_of, judge

Running = Callable[..., Any]

OURS = Replayed(
    step_from=0,
    step_to=4,
    state_root_prev=trainer.state_root(7, 0),
    state_root=trainer.state_root(7, 4),
    data_root=trainer.digest("data", 0, 4),
    metrics_root=trainer.digest("metrics", 0, 4),
)


def record(**changes: Any) -> dict[str, Any]:
    """A provider's signed record of the same segment."""
    whole = SegmentRecord(
        job_id="job_1", index=0, micro_root="11" * 32, started_ms=0, ended_ms=1, numeric_class="22" * 32,
        **{**OURS.model_dump(include=set(SegmentRecord.model_fields)), **changes},
    )  # fmt: skip
    return SignedRecord(record=whole, signature="0x").model_dump(mode="json")


def answer(**changes: Any) -> dict[str, Any]:
    return OURS.model_copy(update=changes).model_dump(mode="json")


def reveal_of(contract: str) -> pb.RefereeReveal:
    documents = [record(**ELSE), answer()]
    return pb.RefereeReveal(dispute_id=5, disputes=contract, documents_json=json.dumps(documents))


CONTRACT = "0x" + "d1" * 20
ELSE, THIRD = {"state_root": "ee" * 32}, {"state_root": "dd" * 32}


@pytest.mark.parametrize(
    ("documents", "ruling"),
    [
        ([record(), answer(**ELSE)], "clear"),
        ([record(**ELSE), answer()], "guilty"),
        ([record(**ELSE), answer(**THIRD)], "abstained"),
        ([record(data_root="ee" * 32), answer()], "guilty"),
        ([record(step_from=4, step_to=8), answer()], "abstained"),
        ([answer()], "abstained"),
        ([], "abstained"),
    ],
)
def test_whose_word_a_run_bears_out(documents: list[object], ruling: str) -> None:
    assert judge(documents, OURS) == ruling


@pytest.mark.slow
async def test_a_referee_tells_its_digest_before_it_is_shown_anything(
    coordinator: ScriptedCoordinator, running: Running
) -> None:
    request = pb.RefereeRequest(dispute_id=5, disputes=CONTRACT, again=audit("hearing_5"))
    reveal = reveal_of(CONTRACT)
    async with running():
        coordinator.say(referee_reveal=reveal)
        [early] = await coordinator.expect("referee")
        coordinator.say(referee=request)
        _, told = await coordinator.expect("referee", 2)
        coordinator.say(referee_reveal=reveal)
        *_, ruled = await coordinator.expect("referee", 3)

    assert "has not run the segment" in early.reason
    assert told.digest == digest_of(OURS)
    assert (ruled.ruled, "has not said which contract" in ruled.reason) == ("", True)


@pytest.mark.slow
async def test_a_number_is_another_dispute_in_another_contract(
    coordinator: ScriptedCoordinator, running: Running
) -> None:
    async with running():
        coordinator.say(referee=pb.RefereeRequest(dispute_id=5, disputes=CONTRACT, again=audit("hearing_5")))
        await coordinator.expect("referee")
        coordinator.say(referee_reveal=reveal_of("0x" + "d2" * 20))
        _, told = await coordinator.expect("referee", 2)

    assert "has not run the segment" in told.reason
