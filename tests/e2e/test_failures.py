"""Whatever part dies, the job ends in the same bits and is paid exactly once."""

import json
from pathlib import Path

import pytest
from e2e.conftest import PATIENCE_S, until

from gristmill import Client, Job, JobState
from gristmill.cli import run as cli
from gristmill_contracts.ledger import Ledger
from gristmill_localnet.net import Localnet
from gristmill_protocol.jobs import AttemptState, JobView

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

SEED = 11


def order(renter: Client, digits: Path) -> Job:
    return renter.train("image-sorter", data=digits, quality="quick", budget="0.05", seed=SEED)


def finished(job: Job) -> JobView:
    job.result(timeout_s=PATIENCE_S)
    return job.view()


@pytest.fixture(scope="module")
def undisturbed(net: Localnet, digits: Path) -> JobView:
    """What the job comes to when nothing goes wrong."""
    with net.client() as renter:
        return finished(order(renter, digits))


def payments(net: Localnet, nonce: int) -> int:
    """How often the chain has paid a statement of the renter under this nonce."""
    ledger = Ledger(net.books.w3, net.books.deployment.ledger)
    events = ledger.contract.events.StatementSettled().get_logs(from_block=0)
    return sum(
        event["args"]["key"] == net.books.addresses["renter"] and event["args"]["nonce"] == nonce for event in events
    )


def test_the_same_job_gives_the_same_bits_and_the_chain_confirms_how_it_came_to_be(
    net: Localnet, renter: Client, digits: Path, undisturbed: JobView, tmp_path: Path
) -> None:
    job = order(renter, digits)
    again = finished(job)

    assert again.job_id != undisturbed.job_id
    assert again.final_state_root == undisturbed.final_state_root
    assert again.scorecard == undisturbed.scorecard
    rpc = ["--rpc", json.loads((net.folder / "coordinator.json").read_text())["rpc_url"]]
    deployment = ["--deployment", str(net.folder / "deployment.json")]
    model = str(job.download(tmp_path / "model"))
    assert cli(["verify", model, *rpc, *deployment, "--operator", net.books.addresses["operator"]]) == 0
    assert cli(["audit", "verify", again.job_id, "--coordinator", net.url, *rpc]) == 0


def test_a_killed_coordinator_comes_back_and_pays_once(
    net: Localnet, renter: Client, digits: Path, undisturbed: JobView
) -> None:
    before = net.books.holdings()
    job = order(renter, digits)
    until(job, lambda view: view.state is JobState.RUNNING and view.steps_done > 0)

    net.coordinator.kill()
    net.coordinator.restart()
    net.coordinator.wait_for("coordinator_started", timeout_s=60)
    view = finished(job)

    assert view.final_state_root == undisturbed.final_state_root
    assert [attempt.state for attempt in view.attempts] == [AttemptState.FINISHED]
    assert job.plan is not None
    assert payments(net, job.plan.quote.nonce) == 1
    assert view.bill is not None
    after = net.books.holdings()
    assert before["renter"] - after["renter"] == view.bill.paid_usd_micros == view.price_usd_micros
    assert sum(before.values()) == sum(after.values())


def test_a_killed_node_s_job_goes_on_elsewhere_to_the_same_bits(
    net: Localnet, renter: Client, digits: Path, undisturbed: JobView
) -> None:
    job = order(renter, digits)
    moving = until(job, lambda view: bool(view.attempts) and view.attempts[-1].step_to >= view.steps_total // 4)
    first = net.nodes[moving.attempts[-1].provider_name]

    first.process.kill()
    view = finished(job)

    first.process.restart()
    lost, last = view.attempts[0], view.attempts[-1]
    assert lost.state is AttemptState.LOST
    assert (last.state, last.provider_name != lost.provider_name) == (AttemptState.FINISHED, True)
    assert last.step_from > 0, "it started over instead of going on from the last accepted checkpoint"
    assert view.final_state_root == undisturbed.final_state_root
    assert view.bill is not None
    assert view.bill.paid_usd_micros <= view.cap_usd_micros
