"""What a node keeps of what it is owed: only what pays it, and the highest of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.provider_side import (
    DEADLINE_S,
    FORCED_FROM_S,
    MARKET,
    STRANGER,
    ScriptedCoordinator,
    lease,
    payable,
    reserved,
    statement,
)
from gristmill_protocol.errors import BadRequest, BadSignature
from gristmill_protocol.signing import Domain
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.config import NodeConfig
from gristmill_provider.journal import Journal
from gristmill_provider.owner import Market
from gristmill_provider.payables import Lease

LEASE = Lease(MARKET.ledger, "job_1", "attempt_1", DEADLINE_S, reserved())
DAY_S = 86_400


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with one lease taken."""
    with Journal(tmp_path / "journal.db") as opened:
        opened.payables.expect(LEASE)
        yield opened


def worth(amount: int, *others: tuple[int, int], **changes: Any) -> pb.Payable:
    """A statement with one line of ours, and the promise that goes with it."""
    promise = reserved(**{"accepted_usd_micros": amount, **changes})
    return payable(statement((3, amount), *others), promise)


def test_what_is_accepted_is_owed(journal: Journal) -> None:
    journal.payables.take(worth(100_000), MARKET)

    [owed] = journal.payables.owed()
    assert (owed.job_id, owed.attempt_id, owed.share_usd_micros) == ("job_1", "attempt_1", 100_000)
    assert owed.paying == statement((3, 100_000))
    assert owed.promise == reserved(accepted_usd_micros=100_000)
    assert owed.ledger == MARKET.ledger


def test_it_outlives_the_node(journal: Journal, tmp_path: Path) -> None:
    journal.payables.take(worth(100_000), MARKET)
    journal.close()

    with Journal(tmp_path / "journal.db") as again:
        assert [owed.share_usd_micros for owed in again.payables.owed()] == [100_000]


def test_a_lease_alone_is_owed_nothing(journal: Journal) -> None:
    assert journal.payables.owed() == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (pb.Payable(attempt_id="attempt_1"), "cannot be read"),
        (worth(1, nonce=6), "No lease of this node"),
        (payable(statement((3, 1), renter=STRANGER), reserved(accepted_usd_micros=1)), "was signed by"),
        (worth(1, operator=STRANGER), "was signed by"),
        (worth(1, provider=4), "another provider's"),
        (worth(1, coordinator=2), "another coordinator's"),
        (worth(1, forced_from_s=FORCED_FROM_S + 1), "only later than was promised"),
        (worth(1, accepted_usd_micros=2), "does not pay us what"),
        (payable(statement((4, 1)), reserved()), "does not pay us what"),
        (payable(statement((3, 1), nonce=6), reserved(accepted_usd_micros=1)), "different nonces"),
        (payable(statement((3, 1), deadline_s=DEADLINE_S - 1), reserved(accepted_usd_micros=1)), "for as long as"),
        (worth(500_000, (4, 100_001)), "more than the reservation allows"),
    ],
)
def test_what_is_not_worth_what_it_says_is_refused(journal: Journal, told: pb.Payable, words: str) -> None:
    with pytest.raises((BadRequest, BadSignature), match=words):
        journal.payables.take(told, MARKET)

    assert journal.payables.owed() == []


def test_the_same_promise_under_a_new_operator_key_replaces_the_old(journal: Journal) -> None:
    journal.payables.take(worth(1), MARKET)
    rotated = Market(MARKET.ledger, MARKET.registry, MARKET.coordinator, STRANGER.address)

    journal.payables.take(worth(1, operator=STRANGER), rotated)

    assert [owed.promise for owed in journal.payables.owed()] == [reserved(accepted_usd_micros=1, operator=STRANGER)]


def test_a_second_lease_under_the_nonce_keeps_what_the_first_earned(journal: Journal) -> None:
    journal.payables.take(worth(1), MARKET)

    journal.payables.expect(Lease(MARKET.ledger, "job_1", "attempt_2", DEADLINE_S, reserved()))
    assert [owed.share_usd_micros for owed in journal.payables.owed()] == [1]
    journal.payables.take(payable(statement((3, 2)), reserved(accepted_usd_micros=2), "attempt_2"), MARKET)

    assert [(owed.attempt_id, owed.share_usd_micros) for owed in journal.payables.owed()] == [("attempt_2", 2)]


def test_one_nonce_on_two_chains_is_two_jobs(journal: Journal) -> None:
    other = Market(Domain.ledger(1, MARKET.ledger.contract), MARKET.registry, MARKET.coordinator, MARKET.operator)
    elsewhere = reserved(market=other, accepted_usd_micros=7)
    journal.payables.expect(Lease(other.ledger, "job_9", "attempt_9", DEADLINE_S, elsewhere))

    journal.payables.take(payable(statement((3, 7), market=other), elsewhere, "attempt_9"), other)
    journal.payables.take(worth(5), MARKET)

    assert {owed.ledger.chain_id: owed.share_usd_micros for owed in journal.payables.owed()} == {1: 7, 31337: 5}


def test_what_is_paid_is_owed_no_more(journal: Journal) -> None:
    journal.payables.note_paid(journal.payables.take(worth(1), MARKET))

    assert journal.payables.owed() == []


@pytest.mark.parametrize(("late_s", "kept"), [(1, True), (91 * DAY_S, False)])
def test_statements_outlast_their_deadline_for_a_while(journal: Journal, late_s: int, kept: bool) -> None:
    journal.payables.take(worth(1), MARKET)

    journal.payables.forget_expired(DEADLINE_S + late_s)

    assert bool(journal.payables.owed()) is kept


def test_a_lease_that_earned_nothing_is_forgotten_at_its_deadline(journal: Journal) -> None:
    journal.payables.forget_expired(DEADLINE_S + 1)

    with pytest.raises(BadRequest, match="No lease of this node"):
        journal.payables.take(worth(1), MARKET)


amounts = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8)


@settings(deadline=None)  # each example syncs a file of its own, which takes as long as the disk wants
@given(told=amounts)
def test_the_highest_wins_and_our_share_never_shrinks(told: list[tuple[int, int]], tmp_path_factory: Any) -> None:
    best = (0, 0)
    with Journal(tmp_path_factory.mktemp("journal") / "journal.db") as journal:
        journal.payables.expect(LEASE)
        for ours, others in told:
            offered = (ours, ours + others)
            message = worth(ours, (4, others))
            if offered < best:
                with pytest.raises(BadRequest, match="less than what was accepted before"):
                    journal.payables.take(message, MARKET)
            else:
                journal.payables.take(message, MARKET)
            best = max(best, offered)

            [owed] = journal.payables.owed()
            assert (owed.share_usd_micros, owed.total_usd_micros) == best


@pytest.mark.slow
async def test_a_node_keeps_what_it_is_told_after_its_attempt_and_a_restart(
    coordinator: ScriptedCoordinator, config: NodeConfig, running: Callable[..., Any]
) -> None:
    async with running():
        coordinator.say(lease=lease())
        await coordinator.expect_state("FINISHED")
    async with running():
        await coordinator.expect("offer", 2)
        coordinator.say(payable=worth(400_000, operator=STRANGER))
        coordinator.say(payable=worth(300_000))
        coordinator.say(payable=worth(400_000))
        coordinator.say(payable=worth(200_000))
        coordinator.say(lease=lease())  # answered after what was said before it
        await coordinator.expect("lease_reply", 2)

    with Journal(config.state_dir / "journal.db") as journal:
        assert [(owed.job_id, owed.share_usd_micros) for owed in journal.payables.owed()] == [("job_1", 400_000)]
        assert journal.payables.markets() == [MARKET]
