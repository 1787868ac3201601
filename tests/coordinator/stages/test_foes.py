"""Adversaries against a whole coordinator, and what comes of it."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from fakes.machine import Machine, lazy, root
from fakes.world import World
from gristmill_coordinator.stages import metering
from gristmill_coordinator.store.tables import anchors, audits, transactions, windows
from gristmill_protocol.commitments import SegmentRecord, SignedRecord, draw_seed, draw_segments
from gristmill_protocol.jobs import AttemptState, JobState, JobView, TrainTask, WindowState
from gristmill_protocol.merkle import InclusionProof
from gristmill_protocol.v1 import provider_pb2 as pb

pytestmark = pytest.mark.slow


@pytest.fixture
async def foe(world: World) -> Machine:
    """The cheapest of three machines, which gets the job."""
    await world.add_machine("oak", ask=120_000)
    await world.add_machine("elm", ask=120_000)
    return await world.add_machine("foe", ask=100_000)


def claims(machine: Machine, change: Callable[[SegmentRecord], dict[str, object]]) -> None:
    """Have a machine sign something else than what it did."""
    honest = machine._report

    def report(co: Any, run: Any, record: SegmentRecord, ref: Any) -> pb.SegmentReport:
        return honest(co, run, record.model_copy(update=change(record)), ref)

    machine._report = report  # type: ignore[method-assign]


async def short_job(world: World, request_id: str = "request-1") -> JobView:
    return await world.submit(await world.spec(settings={"rounds": 2}), request_id)


async def assert_found_out(world: World, foe: Machine, reason: str) -> JobView:
    """Its work does not count, for this reason, and is not paid."""
    job_id = (await short_job(world)).job_id
    await world.until_event(job_id, f"Work of 'foe' does not count: {reason}")
    view = await world.job(job_id)
    assert view.steps_accepted == 0
    assert view.windows[0].state is WindowState.VOID
    assert foe.provider not in world.chain.credits
    return view


async def test_a_state_that_does_not_match_its_root_is_not_served(world: World, foe: Machine) -> None:
    claims(foe, lambda record: {"state_root": root(b"a nicer state" + bytes(record.index)), **_prev(record)})

    await assert_found_out(world, foe, "What was sent as the state after segment")


def _prev(record: SegmentRecord) -> dict[str, object]:
    before = root(b"a nicer state" + bytes(record.index - 1)) if record.index else record.state_root_prev
    return {"state_root_prev": before}


async def test_a_state_that_stands_still_is_fraud_without_any_audit(world: World, foe: Machine) -> None:
    foe.train = lambda state, step: state

    view = await assert_found_out(world, foe, "Its records contradict one another: segment 0 left the state unchanged.")

    assert view.windows[0].audits == ()


async def test_steps_cannot_be_hidden_in_one_long_segment(world: World, foe: Machine) -> None:
    """Segments are drawn, steps are paid: one long faked segment among short honest ones would seldom be drawn."""
    honest_segment = foe._segment

    async def segment(co: Any, run: Any) -> None:
        if run.index == 4:
            run.task = run.task.model_copy(update={"segment_steps": 1_000, "end_steps": 0})
            foe.train = lazy
        await honest_segment(co, run)

    foe._segment = segment  # type: ignore[method-assign]

    await assert_found_out(
        world, foe, "Its records contradict one another: segment 4 ends at step 10, not at 5 as agreed."
    )


async def test_time_that_a_provider_claims_moves_no_money(world: World, foe: Machine) -> None:
    claims(foe, lambda record: {"started_ms": 0, "ended_ms": 10**15})
    foe_receipt = foe._receipt

    def receipt(co: Any, run: Any) -> pb.Receipt:
        run.index += 10**6  # by which gpu_ms is multiplied
        try:
            return foe_receipt(co, run)
        finally:
            run.index -= 10**6

    foe._receipt = receipt  # type: ignore[method-assign]

    submitted = await short_job(world)
    view = await world.finish(submitted.job_id)

    assert view.bill is not None
    assert view.bill.paid_usd_micros == submitted.price_usd_micros


async def test_a_record_of_another_job_is_refused(world: World, foe: Machine) -> None:
    first = await short_job(world)
    await world.finish(first.job_id)
    [old] = foe.runs.values()
    records = [message for kind, message in old.journal if kind == "segment"]
    second = await short_job(world, "request-2")
    await world.until_steps(second.job_id, 1)
    attempt_id = (await world.job(second.job_id)).attempts[0].attempt_id

    for report in records:
        assert isinstance(report, pb.SegmentReport)
        again = pb.SegmentReport()
        again.CopyFrom(report)
        again.attempt_id = attempt_id
        await metering.segment_reported(world.co, foe.node_id, again)

    assert (await world.job(second.job_id)).attempts[0].step_to <= 2
    assert (await world.finish(second.job_id)).state is JobState.DONE


async def test_a_verifier_is_not_told_what_it_should_find(world: World, foe: Machine) -> None:
    asked: list[pb.AuditRequest] = []
    for name in ("oak", "elm"):
        machine = world.machines[name]
        machine._answer = _noting(asked, machine._answer)  # type: ignore[method-assign]
    job_id = (await short_job(world)).job_id
    await world.finish(job_id)
    reports = [message for kind, message in next(iter(foe.runs.values())).journal if kind == "segment"]
    signed = [SignedRecord.model_validate_json(one.signed_record_json) for one in reports]  # type: ignore[attr-defined]
    states = [one.state.sha256 for one in reports]  # type: ignore[attr-defined]

    assert asked
    for request in asked:
        words = str(request)
        index = TrainTask.model_validate_json(request.task_json).segment_index
        record = signed[index].record
        assert not any(digest in words for digest in (record.state_root, record.data_root, record.metrics_root))
        assert states[index] not in words


def _noting(asked: list[pb.AuditRequest], answer: Any) -> Any:
    async def note(co: Any, request: pb.AuditRequest) -> None:
        asked.append(request)
        await answer(co, request)

    return note


async def test_what_is_drawn_follows_from_a_block_after_the_windows_root(world: World, foe: Machine) -> None:
    """Neither side could know it when it committed, and anybody can draw again from what is on chain."""
    job_id = (await short_job(world)).job_id
    await world.finish(job_id)
    async with world.co.store.read() as tx:
        window = await tx.row(sa.select(windows))
        assert window is not None
        anchor = await tx.row(sa.select(anchors).where(anchors.c.anchor_id == window.anchor_id))
        assert anchor is not None
        sent = await tx.row(sa.select(transactions).where(transactions.c.transaction_id == anchor.transaction_id))
        query = sa.select(audits.c.segment).where(audits.c.why.in_(("first", "last", "drawn")))
        drawn = [row.segment for row in await tx.rows(query.order_by(audits.c.segment))]
    assert sent is not None
    proof = InclusionProof(
        window.proof["index"], window.proof["count"], tuple(bytes.fromhex(one) for one in window.proof["siblings"])
    )
    beacon = await world.chain.beacon_after(sent.block)
    assert beacon is not None

    seed = draw_seed(
        beacon=beacon, job_id=job_id, window_id=window.window_id, root=bytes.fromhex(window.root)
    )  # fmt: skip
    again = draw_segments(
        seed, first_index=window.first_index, count=window.segments, samples_ppm=window.samples_ppm, ends_job=True
    )  # fmt: skip

    assert proof.root(bytes.fromhex(window.root)).hex() == anchor.root
    assert list(again) == drawn


async def test_a_stalled_chain_delays_the_draw_and_hurts_nobody(world: World, foe: Machine) -> None:
    job_id = (await short_job(world)).job_id
    await world.until_event(job_id, "wait for the draw")
    mine, world.chain.mine = world.chain.mine, lambda blocks=1: None  # type: ignore[method-assign]
    for _ in range(20):
        await world.tick(600.0)
    stalled = await world.job(job_id)

    world.chain.mine = mine  # type: ignore[method-assign]
    view = await world.finish(job_id)

    assert {one.state for one in stalled.windows} == {WindowState.COMMITTED}
    assert view.state is JobState.DONE
    assert (view.slashes, [one.state for one in view.attempts]) == ((), [AttemptState.FINISHED])
    assert world.chain.credits[foe.provider] > 0
