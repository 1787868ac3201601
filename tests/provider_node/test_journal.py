import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fakes.small_disk import small_disk
from gristmill_protocol.errors import Conflict, NoSpace
from gristmill_protocol.incidents import Incident
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.journal import Journal, held

Require = Callable[[bool, str], None]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.db") as opened:
        yield opened


def receipt(number: int) -> pb.NodeMessage:
    return pb.NodeMessage(receipt=pb.Receipt(number=number))


class Redelivery(RuleBasedStateMachine):
    """Whatever is added, acknowledged and interrupted: exactly the unacknowledged messages come again, in order."""

    def __init__(self) -> None:
        super().__init__()

        self.place = tempfile.TemporaryDirectory()
        self.path = Path(self.place.name) / "journal.db"
        self.journal = Journal(self.path)
        self.unacked: list[int] = []
        self.last = 0

    @rule(uploads=st.lists(st.text(max_size=3), max_size=2))
    def add(self, uploads: list[str]) -> None:
        numbered = self.journal.add(receipt(self.last + 1), uploads)
        assert numbered.seq > self.last
        self.last = numbered.seq
        self.unacked.append(numbered.seq)

    @rule(back=st.integers(0, 5))
    def acknowledge(self, back: int) -> None:
        self.journal.acknowledge(self.last - back)
        self.unacked = [seq for seq in self.unacked if seq > self.last - back]

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path)

    @invariant()
    def the_unacknowledged_come_again(self) -> None:
        found, seq = [], 0
        while (entry := self.journal.after(seq)) is not None:
            seq = entry.message.seq
            found.append(seq)
            assert entry.message.receipt.number == seq
        assert found == self.unacked

    def teardown(self) -> None:
        self.journal.close()
        self.place.cleanup()


Redelivery.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestRedelivery = pytest.mark.slow(Redelivery.TestCase)


def test_work_is_interrupted_until_its_last_message(journal: Journal) -> None:
    journal.begin("attempt_1", "attempt", keep_s=60)
    journal.begin("audit_1", "audit")

    journal.add(receipt(1), ends="audit_1", now_s=10)

    assert journal.interrupted() == [("attempt_1", "attempt")]
    assert journal.knows("audit_1")
    assert not journal.knows("attempt_2")


def test_work_is_reported_on_until_its_end_is_acknowledged(journal: Journal) -> None:
    journal.begin("attempt_1", "attempt")
    journal.begin("attempt_2", "attempt")
    journal.begin("audit_1", "audit")
    last = journal.add(receipt(1), ends="attempt_1")

    assert journal.unreported("attempt") == ["attempt_1", "attempt_2"]
    assert journal.unreported("audit") == ["audit_1"]

    journal.acknowledge(last.seq)
    assert journal.unreported("attempt") == ["attempt_2"]


def test_states_are_kept_until_they_are_released(journal: Journal) -> None:
    journal.begin("attempt_1", "attempt", keep_s=60)
    journal.keep("attempt_1", "aa")
    journal.add(receipt(1), ("bb",), ends="attempt_1", now_s=10)

    assert journal.keeps("attempt_1", "aa")
    assert not journal.keeps("attempt_2", "aa")
    assert journal.needed() == {"aa", "bb"}

    journal.release("attempt_1")
    journal.acknowledge(1)
    assert journal.needed() == frozenset()


def test_running_work_is_not_released(journal: Journal) -> None:
    journal.begin("attempt_1", "attempt", keep_s=0)
    journal.keep("attempt_1", "aa")

    journal.release("attempt_1")
    journal.release_expired(now_s=1e12)

    assert journal.keeps("attempt_1", "aa")


@pytest.mark.parametrize(("now_s", "kept"), [(69, True), (70, False)])
def test_states_expire_after_the_attempts_end(journal: Journal, now_s: float, kept: bool) -> None:
    journal.begin("attempt_1", "attempt", keep_s=60)
    journal.keep("attempt_1", "aa")
    journal.add(receipt(1), ends="attempt_1", now_s=10)

    journal.release_expired(now_s)

    assert journal.keeps("attempt_1", "aa") is kept


def test_a_state_folder_has_one_holder(tmp_path: Path) -> None:
    with held(tmp_path / "state"), pytest.raises(Conflict, match="Another node is running"):
        held(tmp_path / "state")
    held(tmp_path / "state").close()


def test_a_full_disk_is_said_and_what_was_journaled_stays(tmp_path: Path, require: Require) -> None:
    require(os.geteuid() == 0, "only root can mount a small disk")
    with small_disk(tmp_path / "disk", 1024**2) as disk:
        with Journal(disk.root / "journal.db") as journal:
            journal.begin("attempt_1", "attempt")
            disk.fill()
            large = pb.NodeMessage(attempt=pb.AttemptUpdate(reason="x" * 100_000))
            with pytest.raises(NoSpace, match=r"takes no more of this node's journal.*so the node ends.*Make room"):
                journal.add(large)
            with pytest.raises(NoSpace):
                journal.note_made("attempt_1", {str(number): "aa" for number in range(10_000)}, 0)
            with pytest.raises(NoSpace):
                journal.history.record(Incident(kind="clock", at_s=0, text="x" * 300), [str(n) for n in range(10_000)])
            assert journal.interrupted() == [("attempt_1", "attempt")]

        disk.make_room()
        with Journal(disk.root / "journal.db") as journal:
            assert journal.interrupted() == [("attempt_1", "attempt")]
            journal.add(receipt(1), ends="attempt_1")


def test_a_journal_for_which_there_is_no_room_is_said(tmp_path: Path, require: Require) -> None:
    require(os.geteuid() == 0, "only root can mount a small disk")
    with small_disk(tmp_path / "disk", 1024**2) as disk:
        disk.fill()
        with pytest.raises(NoSpace):
            Journal(disk.root / "journal.db")
