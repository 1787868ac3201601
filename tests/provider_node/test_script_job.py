"""A renter's own program on a real node, with the real trainer in a process of its own."""

import json
import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fakes import measured_trainer
from fakes.provider_side import FakeArtifacts, ScriptedCoordinator, audit, lease, signed_order, spec, task
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.jobs import DataStats, JobSpec, TrainTask
from gristmill_protocol.progress import Finished, Replayed
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.runner import ProcessRunner
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.recipe import Gpu

pytestmark = pytest.mark.slow

Running = Callable[..., Any]

PROGRAM = """
import os
words = sorted(open("words.txt").read().split())
open("out/sorted.txt", "w").write(os.environ["GRISTMILL_SEED"] + " " + " ".join(words))
"""
RESULT = b"7 hammer mill stone"


@pytest.fixture
def wanted(tmp_path: Path, artifacts: FakeArtifacts) -> tuple[JobSpec, TrainTask]:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train.py").write_text(PROGRAM)
    (folder / "words.txt").write_text("stone mill hammer")
    packed = DataView.open(folder, plain=True).pack(tmp_path / "packed")
    artifacts.add((tmp_path / "packed").read_bytes())
    plan = catalog.find("script").plan({"minutes": 1}, DataStats(examples=2), Gpu())
    whole = {"recipe": "script", "data": packed}
    return spec(**whole), task(**whole, settings=plan.settings, steps=1, segment_steps=1)


async def test_a_script_job_is_run_and_run_again_for_real(
    running: Running, coordinator: ScriptedCoordinator, artifacts: FakeArtifacts, wanted: tuple[JobSpec, TrainTask]
) -> None:
    of, todo = wanted
    check = audit()
    check.spec_json, check.signed_order_json = of.model_dump_json(), signed_order(of).model_dump_json()
    check.task_json = todo.model_copy(update={"attempt_id": "audit_1", "step_to": 1}).model_dump_json()
    # What the tests import is what the trainer runs, wherever it is installed.
    runner = ProcessRunner(
        (sys.executable, measured_trainer.__file__), env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )

    async with running(runner=runner):
        coordinator.say(lease=lease(todo, of=of, flops=1))
        [report] = await coordinator.expect("segment")
        finished = await coordinator.expect_state("FINISHED")
        coordinator.say(audit=check)
        [bound] = await coordinator.expect("commitment")
        coordinator.say(reveal=pb.RevealRequest(audit_id=bound.audit_id))
        [reply] = await coordinator.expect("audit")

    record = SignedRecord.model_validate_json(report.signed_record_json).record
    result = Finished.model_validate_json(finished.finished_json)
    replayed = Replayed.model_validate_json(reply.replayed_json)
    assert result.files == {"sorted.txt": sha256(RESULT).hexdigest()}
    assert artifacts.held[result.files["sorted.txt"]] == RESULT
    assert json.loads(artifacts.held[report.state.sha256])["sorted.txt"]["size_bytes"] == len(RESULT)
    assert record.state_root == result.state_root == replayed.state_root
    assert record.state_root_prev == replayed.state_root_prev
