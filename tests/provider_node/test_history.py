from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill_protocol.errors import NotFound
from gristmill_protocol.incidents import Incident
from gristmill_provider.history import History, Span
from gristmill_provider.journal import JOURNAL, Journal

DAY_S = 86_400
XID = Incident(kind="xid", at_s=1_000, text="The graphics driver reported error 79.")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with Journal(tmp_path / JOURNAL) as journal:
        yield journal.history


def test_an_incident_is_kept_with_all_work_that_ran(history: History) -> None:
    history.record(XID, ["attempt_1", "audit_2"])
    history.record(Incident(kind="reboot", at_s=900, text="The machine was started anew."))

    assert [(one.kind, one.at_s, one.work_id) for one in history.incidents()] == [
        ("reboot", 900, ""), ("xid", 1_000, "attempt_1"), ("xid", 1_000, "audit_2"),
    ]  # fmt: skip
    assert [one.text for one in history.incidents(work_id="audit_2")] == [XID.text]
    assert history.incidents(since_s=1_001) == []


def test_a_span_grows_while_nothing_changes(history: History) -> None:
    for now_s in (1_000, 1_060, 1_120):
        history.note("hours", "The hours begin at 22:00.", now_s)
    history.note("working", "", 1_180)
    history.note("working", "", 1_240)

    assert history.spans() == [
        Span(1_000, 1_180, "hours", "The hours begin at 22:00."), Span(1_180, 1_240, "working", ""),
    ]  # fmt: skip


def test_a_time_without_the_node_belongs_to_no_span(history: History) -> None:
    history.note("no_work", "", 1_000)
    history.note("no_work", "", 1_060)
    history.note("no_work", "", 9_000)

    assert [(span.from_s, span.to_s) for span in history.spans()] == [(1_000, 1_060), (9_000, 9_000)]


def test_a_clock_that_steps_back_hides_nothing(history: History) -> None:
    history.note("no_work", "", 5_000)
    history.note("no_work", "", 1_000)
    history.note("no_work", "", 1_060)

    assert sorted((span.from_s, span.to_s) for span in history.spans())[0] == (1_000, 1_060)


def test_old_rows_are_forgotten(history: History) -> None:
    history.record(XID)
    history.note("no_work", "", 1_000)

    history.forget_old(1_000 + 91 * DAY_S)

    assert (history.incidents(), history.spans()) == ([], [])


def test_it_is_read_beside_a_running_node(history: History, tmp_path: Path) -> None:
    history.record(XID)

    beside = History.open(tmp_path / JOURNAL)

    assert [one.text for one in beside.incidents()] == [XID.text]
    beside.close()
    with pytest.raises(NotFound, match="no journal"):
        History.open(tmp_path / "none.db")
