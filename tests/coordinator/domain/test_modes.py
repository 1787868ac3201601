from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain import modes
from gristmill_coordinator.domain.windows import Finding
from gristmill_protocol.commitments import SegmentRecord
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.jobs import ArtifactRef, DataStats, JobSpec
from gristmill_protocol.modes import Mode
from gristmill_protocol.progress import Evaluated, Replayed

THRESHOLD = 900_000
DATA, HIDDEN = ArtifactRef(sha256="11" * 32, size_bytes=1), ArtifactRef(sha256="22" * 32, size_bytes=1)

roots = st.sampled_from(["aa" * 32, "bb" * 32, "cc" * 32])
counts = st.integers(0, 100)


def record(root: str) -> SegmentRecord:
    return SegmentRecord(
        job_id="job_1", index=0, step_from=0, step_to=1, state_root_prev="00" * 32, state_root=root,
        data_root="00" * 32, metrics_root="00" * 32, micro_root="00" * 32, started_ms=0, ended_ms=1,
        numeric_class="00" * 32,
    )  # fmt: skip


def replayed(root: str) -> Replayed:
    zero = "00" * 32
    return Replayed(step_from=0, step_to=1, state_root_prev=zero, state_root=root, data_root=zero, metrics_root=zero)


def evaluated(*correct: int) -> list[Evaluated]:
    return [Evaluated(correct=one, examples=100) for one in correct]


def spec(**changes: Any) -> JobSpec:
    values = {"recipe": "r", "data": DATA, "stats": DataStats(examples=1), "budget_usd_micros": 1}
    return JobSpec.model_validate({**values, **changes})


@given(st.sampled_from([3, 5, 7]).flatmap(lambda n: st.tuples(roots, st.lists(roots, min_size=n - 1, max_size=n - 1))))
def test_what_more_than_half_came_to_counts_and_only_that(case: tuple[str, list[str]]) -> None:
    mine, theirs = case
    owners = 1 + len(theirs)
    votes = {root: [mine, *theirs].count(root) for root in [mine, *theirs]}
    winner = next((root for root, count in votes.items() if count > owners / 2), None)

    ruling = modes.vote(record(mine), [replayed(root) for root in theirs], owners=owners)

    assert (ruling.finding is None) == (winner == mine)
    assert ruling.right == tuple(root == winner for root in theirs)
    assert ruling.ends_job == (winner is None)
    assert (ruling.finding is Finding.OUTVOTED) == (winner not in (None, mine))
    assert bool(ruling.reason) == (ruling.finding is not None)


@given(st.sampled_from([3, 5, 7]), st.data())
def test_a_minority_that_colludes_never_decides(owners: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, owners // 2))
    cheats = data.draw(st.booleans()) and bad > 0
    others = ["bb" * 32] * (bad - cheats) + ["aa" * 32] * (owners - 1 - bad + cheats)

    ruling = modes.vote(record("bb" * 32 if cheats else "aa" * 32), [replayed(one) for one in others], owners=owners)

    assert (ruling.finding is None) == (not cheats)
    assert ruling.right == tuple(one == "aa" * 32 for one in others)


def test_one_that_could_not_run_it_is_no_vote_and_too_few_are_no_verdict() -> None:
    agreed = modes.vote(record("aa" * 32), [replayed("aa" * 32)], owners=3)
    alone = modes.vote(record("aa" * 32), [replayed("bb" * 32)], owners=3)

    assert agreed.finding is None
    assert (alone.finding, alone.ends_job) == (Finding.NOT_RUN, False)


@given(counts, counts, counts)
def test_most_measurements_decide(first: int, second: int, third: int) -> None:
    answers = evaluated(first, second)
    if modes.third_needed(answers, THRESHOLD):
        answers += evaluated(third)
    good = [one.correct >= 90 for one in answers]

    ruling = modes.measure(answers, THRESHOLD, missed_before=False)

    assert len(answers) == (2 if good[0] == good[1] else 3)
    assert (ruling.finding is None) == (sum(good) >= 2)
    assert sum(ruling.right) >= 2
    assert not ruling.ends_job


def test_a_missed_threshold_says_the_number() -> None:
    ruling = modes.measure(evaluated(31, 33), THRESHOLD, missed_before=True)

    assert ruling.reason == "It gets 33 % of the hidden examples right; 90 % was asked for."
    assert (ruling.finding, ruling.ends_job) == (Finding.MISSED, True)


def test_more_right_answers_than_examples_are_no_better_than_all() -> None:
    assert Evaluated(correct=200, examples=100).millionths == 1_000_000


def test_a_job_may_have_the_mode_asked_for_or_the_strongest_first() -> None:
    assert modes.choices(spec(), whole=False) == (Mode.BITWISE, Mode.TOLERANCE)
    assert modes.choices(spec(), whole=True) == (Mode.REPLICATE,)
    assert modes.choices(spec(mode="tolerance"), whole=False) == (Mode.TOLERANCE,)
    assert modes.choices(spec(mode="outcome", held_out=HIDDEN, threshold=1), whole=False) == (Mode.OUTCOME,)


@pytest.mark.parametrize(
    ("whole", "changes"),
    [
        (True, {"mode": "bitwise"}),
        (True, {"mode": "outcome", "held_out": HIDDEN, "threshold": 1}),
        (False, {"mode": "replicate"}),
        (False, {"mode": "reputation"}),
        (False, {"mode": "outcome"}),
        (False, {"mode": "outcome", "held_out": HIDDEN}),
        (False, {"mode": "outcome", "threshold": 1}),
        (False, {"mode": "outcome", "held_out": DATA, "threshold": 1}),
        (False, {"held_out": HIDDEN, "threshold": 1}),
    ],
)
def test_a_mode_that_a_job_cannot_have_is_refused(whole: bool, changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        modes.choices(spec(**changes), whole=whole)

    assert refused.value.effect == "Nothing was started or charged."
    assert refused.value.todo


def test_checks_are_numbered_and_found_by_their_number() -> None:
    names = modes.checks(Mode.REPLICATE, spec(replicas=5))

    assert names == ("replica 1", "replica 2", "replica 3", "replica 4")
    assert [modes.slot(name) for name in names] == [0, 1, 2, 3]
    assert all(modes.is_whole(name) for name in (*names, *modes.checks(Mode.OUTCOME, spec())))
    assert not any(modes.is_whole(why) for why in ("first", "drawn", "second opinion"))
