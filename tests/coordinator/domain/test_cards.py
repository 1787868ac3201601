"""What a test of a card leads to: never to punishment, and to judgement of time only where the kind is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain import cards
from gristmill_coordinator.domain.cards import Card, ChallengeState, Standing

DAY_S = 86_400.0


def node(node_id: str = "a", owner: str = "0x1", **changes: object) -> Card:
    values: dict[str, object] = {
        "device": "Card", "standing": Standing.PROVEN, "tested_s": 1000.0, "proven_s": 1000.0, **changes
    }  # fmt: skip
    return Card(node_id=node_id, owner=owner, **values)  # type: ignore[arg-type]


def judged(wrong: str = "", *, elapsed_ms: int = 1000, usual_ms: int | None = 1000, known: bool = True) -> Standing:
    return cards.judge(
        wrong, timed=True, elapsed_ms=elapsed_ms, usual_ms=usual_ms, driver="535.1", known=known
    ).standing


def test_a_right_answer_proves_a_card_of_an_unknown_kind_for_now() -> None:
    assert judged(usual_ms=None, elapsed_ms=10**9) is Standing.PROVISIONAL


@pytest.mark.parametrize(("elapsed_ms", "standing"), [(1350, Standing.PROVEN), (1351, Standing.REMOVED)])
def test_a_known_kind_may_take_135_percent_of_the_median(elapsed_ms: int, standing: Standing) -> None:
    assert judged(elapsed_ms=elapsed_ms) is standing


def test_processors_are_not_judged_by_time_since_all_have_one_name() -> None:
    timed = cards.is_timed(cards.kind("CPU", "ab" * 32, is_cpu=True))
    verdict = cards.judge("", timed=timed, elapsed_ms=9000, usual_ms=1000, driver="", known=True)

    assert verdict.standing is Standing.PROVEN
    assert cards.is_timed(cards.kind("NVIDIA H100", "ab" * 32, is_cpu=False))


def test_a_wrong_answer_removes_the_offer_where_the_driver_is_known_to_work() -> None:
    assert judged("the product of round 1 is wrong") is Standing.REMOVED


def test_a_wrong_answer_with_an_unknown_driver_is_held_against_nobody() -> None:
    verdict = cards.judge("x is wrong", timed=True, elapsed_ms=1, usual_ms=None, driver="999.0", known=False)

    assert verdict.standing is Standing.QUARANTINED
    assert "the driver '999.0': the driver may be at fault" in verdict.text
    assert "nothing is held against it" in verdict.text


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.integers(1, 10_000), min_size=1, max_size=5)))
def test_the_median_needs_five_other_owners_and_counts_each_once(passed: dict[str, list[int]]) -> None:
    usual = cards.usual_ms(passed, without="a")

    others = [times for owner, times in passed.items() if owner != "a"]
    assert (usual is None) == (len(others) < 5)
    if usual is not None:
        assert min(map(min, others)) <= usual <= max(map(max, others))
        assert cards.usual_ms({**passed, "b": passed.get("b", []) * 50}, without="a") == usual


def test_many_nodes_of_one_owner_dont_move_the_median() -> None:
    honest = {owner: [1000] for owner in "bcdef"}

    assert cards.usual_ms({**honest, "g": [9000] * 100}, without="a") == 1000


@pytest.mark.parametrize(
    ("tested", "due_s"),
    [
        (node(standing=Standing.UNTESTED, tested_s=0.0, proven_s=0.0), 0.0),
        (node(standing=Standing.UNTESTED, proven_s=0.0), 1060.0),
        (node(standing=Standing.REMOVED, proven_s=500.0), 1600.0),
        (node(), 1000.0 + DAY_S),
        (node(tested_s=1000.0 + DAY_S), 1600.0 + DAY_S),  # it did not take the last one
    ],
)
def test_when_a_test_is_due(tested: Card, due_s: float) -> None:
    assert cards.due_s(tested, every_s=DAY_S, again_s=600.0) == due_s


def test_an_owners_cards_are_tested_together() -> None:
    mine = [node("a"), node("b"), node("c", owner="0x2", device="Other card")]

    assert cards.cohort(mine[:1], mine, before_s=2000.0, entropy=b"e") == ["a", "b"]


def test_a_cohort_has_strangers_by_chance() -> None:
    """One card behind many names has to answer for several of them at once, sooner or later."""
    idle = [node(f"n{number}", owner=f"0x{number}") for number in range(30)]

    cohorts = {tuple(cards.cohort(idle[:1], idle, before_s=2000.0, entropy=bytes([at]))) for at in range(20)}

    assert {len(one) for one in cohorts} == {8}
    assert len(cohorts) == 20
    assert all("n0" in one for one in cohorts)


def test_who_was_just_tested_is_left_in_peace() -> None:
    idle = [node("a"), node("b", tested_s=1999.0)]

    assert cards.cohort(idle[:1], idle, before_s=1500.0, entropy=b"e") == ["a"]


@pytest.mark.parametrize(
    ("tested", "begun", "busy", "standing"),
    [
        (node(), False, False, Standing.PROVEN),
        (node(), True, True, Standing.PROVEN),  # a job came first
        (node(), True, False, Standing.QUARANTINED),
        (node(proven_s=1000.0 - 4 * DAY_S), False, False, Standing.QUARANTINED),
        (node(standing=Standing.UNTESTED), False, False, Standing.UNTESTED),
    ],
)
def test_no_answer_counts_once_the_seed_is_known_or_tests_are_dodged(
    tested: Card, begun: bool, busy: bool, standing: Standing
) -> None:
    verdict = cards.unanswered(tested, "It slept.", begun=begun, busy=busy, now=2000.0, every_s=DAY_S)

    assert (verdict.state, verdict.standing) == (ChallengeState.VOID, standing)
