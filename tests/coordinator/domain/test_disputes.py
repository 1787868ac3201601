"""What faults cost, and how a dispute stands by its events."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.disputes import (
    LEAST_AT_STAKE_USD_MICROS,
    Course,
    Fault,
    Move,
    Outcome,
    Phase,
    Tier,
    course,
    due,
    first_difference,
    in_question_usd_micros,
    tier,
)

LOCK = 30_000_000


@pytest.mark.parametrize(
    ("fault", "before", "means", "costs"),
    [
        (Fault.DIFFERS, False, Tier.FRAUD, LOCK),
        (Fault.BROKEN, False, Tier.FRAUD, LOCK),
        (Fault.UNSERVED, False, Tier.UNSERVED, LOCK // 20),
        (Fault.UNSERVED, True, Tier.FRAUD, LOCK),
    ],
)
def test_what_a_fault_means_and_costs(fault: Fault, before: bool, means: Tier, costs: int) -> None:
    assert tier(fault, unserved_before=before) is means
    assert in_question_usd_micros(means, LOCK) == costs


def test_a_small_jobs_fraud_is_still_worth_a_dispute() -> None:
    assert in_question_usd_micros(Tier.FRAUD, 557) == LEAST_AT_STAKE_USD_MICROS
    assert in_question_usd_micros(Tier.UNSERVED, 557) == LEAST_AT_STAKE_USD_MICROS // 20


@dataclass
class Event:
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    block: int = 1
    tx_hash: str = "0x01"


OPENED = (
    Event("Entered", {"id": 7, "phase": 1, "deadline": 100}),
    Event("Opened", {"id": 7, "amount": LOCK}),
)
ANSWERED = (
    Event("Answered", {"id": 7, "evidence": "0xab"}, 5),
    Event("Entered", {"id": 7, "phase": 2, "deadline": 200}, 5),
)
DRAWN = Event("Drawn", {"id": 7, "referees": [4, 5, 6]}, 8, "0x08")


def test_a_dispute_stands_as_its_events_say() -> None:
    vote = Event("Ruled", {"id": 7, "referee": 5, "guilty": True}, 9, "0x09")

    found = course([*OPENED, *ANSWERED, DRAWN, vote])

    assert found == Course(
        7,
        LOCK,
        Phase.RULING,
        200,
        answered=True,
        evidence="0xab",
        draw_block=6,
        referees=(4, 5, 6),
        votes={5: True},
        tx_hash="0x09",
    )


def test_referees_who_did_not_decide_give_way_to_five() -> None:
    again = Event("Entered", {"id": 7, "phase": 2, "deadline": 300}, 50)

    found = course([*OPENED, *ANSWERED, DRAWN, again])

    assert (found.seats, found.referees, found.votes, found.draw_block) == (5, (), {}, 51)


def test_it_is_closed_with_what_it_cost() -> None:
    closed = Event("Closed", {"id": 7, "outcome": 2, "slashed": LOCK}, 9, "0x09")

    found = course([*OPENED, closed])

    assert (found.phase, found.outcome, found.slashed_usd_micros) == (Phase.CLOSED, Outcome.UNANSWERED, LOCK)
    assert due(found, now_s=10**9, block=10**9) is None


@pytest.mark.parametrize(
    ("events", "now_s", "block", "move"),
    [
        (OPENED, 100, 99, None),
        (OPENED, 101, 99, Move.ADVANCE),
        ((*OPENED, *ANSWERED), 150, 6, None),
        ((*OPENED, *ANSWERED), 150, 7, Move.DRAW),
        ((*OPENED, *ANSWERED, Event("DrawMoved", {"id": 7, "drawBlock": 400}, 399)), 150, 400, None),
        ((*OPENED, *ANSWERED, DRAWN), 200, 99, None),
        ((*OPENED, *ANSWERED, DRAWN), 201, 99, Move.ADVANCE),
    ],
)
def test_what_is_due(events: tuple[Event, ...], now_s: float, block: int, move: Move | None) -> None:
    assert due(course(events), now_s=now_s, block=block) is move


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_lists_are_one_up_to_where_they_part(mine: list[int], theirs: list[int]) -> None:
    ours, others = [str(one) for one in mine], [str(one) for one in theirs]

    at = first_difference(others, ours)

    if at is None:
        assert ours == others
    else:
        assert ours[:at] == others[:at]
        assert ours[at : at + 1] != others[at : at + 1]
