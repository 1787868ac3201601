"""A node signs how a model came to be only if its journal says the same of the node's part."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.certified import MARKET, Certified, digest
from fakes.provider_side import MARKET as NODES_MARKET
from fakes.provider_side import OPERATOR, ScriptedCoordinator, payable, reserved, statement
from gristmill_protocol.certificate import CertificateStatement
from gristmill_protocol.errors import BadData, BadRequest
from gristmill_protocol.jobs import StatementLine
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.certifying import require_true
from gristmill_provider.journal import Journal
from gristmill_provider.payables import Lease

TRUE = Certified()
PREDICATE = TRUE.predicate()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal of the machine that did the job, which 90 micro-USD were promised for."""
    with Journal(tmp_path / "journal.db") as journal:
        made = {f"segment {signed.record.index}": signed.record.leaf().hex() for signed in TRUE.records()}
        files = {f"file {one.name}": one.digest.sha256 for one in TRUE.statement().subject}
        journal.note_made("attempt_1", made | files, 0)
        journal.payables.expect(Lease(NODES_MARKET.ledger, "job_1", "attempt_1", 2**39, reserved()))
        journal.payables.take(payable(statement((3, 90)), reserved(accepted_usd_micros=90)), NODES_MARKET)
        yield journal


def check(journal: Journal, said: CertificateStatement, *, node_id: str = "node_1") -> None:
    require_true(said.payload(), journal, NODES_MARKET, node_id=node_id)


def test_a_true_statement_may_be_signed(journal: Journal) -> None:
    assert MARKET.operator == OPERATOR.address

    check(journal, TRUE.statement())
    journal.payables.note_paid(journal.payables.owed()[0])
    check(journal, TRUE.statement())


def _lines(amount: int) -> dict[str, Any]:
    lines = (StatementLine(provider=3, verifier=4, recipe=1, amount_usd_micros=amount),)
    return {"payment": PREDICATE.payment.model_copy(update={"lines": lines})}


def _record(**changes: Any) -> dict[str, Any]:
    [part] = PREDICATE.windows
    record = part.records[1].record.model_copy(update=changes)
    records = (part.records[0], part.records[1].model_copy(update={"record": record}))
    return {"windows": (part.model_copy(update={"records": records}),)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (_record(state_root=digest("x")), "Segment 1 is not what this node signed"),
        (_record(index=9), "Segment 9 is not what this node signed"),
        (_lines(89), "this provider earned 0.000089 USD; 0.00009 USD was accepted"),
        ({"payment": PREDICATE.payment.model_copy(update={"lines": ()})}, "earned 0.00 USD"),
        ({"market": MARKET.model_copy(update={"coordinator": 2})}, "another market"),
        ({"market": MARKET.model_copy(update={"operator": MARKET.ledger})}, "another market"),
        ({"attempts": ()}, "names no attempt of this node"),
    ],
)
def test_what_the_journal_has_otherwise_is_not_signed(journal: Journal, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        check(journal, TRUE.statement(**changes))


def test_files_that_this_node_did_not_make_are_not_signed(journal: Journal) -> None:
    other = Certified(files={**TRUE.files, "model.safetensors": b"another model"})
    more = Certified(files={**TRUE.files, "more.bin": b""})

    for lie in (other, more):
        with pytest.raises(BadRequest, match="other files"):
            check(journal, lie.statement())


def test_another_machine_s_part_is_not_vouched_for(journal: Journal) -> None:
    with pytest.raises(BadRequest, match="no attempt"):
        check(journal, TRUE.statement(), node_id="node_2")
    with pytest.raises(BadData, match="no training certificate"):
        require_true(b"{}", journal, NODES_MARKET, node_id="node_1")


def test_what_was_made_is_remembered_for_90_days(journal: Journal) -> None:
    journal.release_expired(90 * 86_400 - 1)
    assert len(journal.made("attempt_1")) == 10
    journal.release_expired(90 * 86_400 + 1)
    assert journal.made("attempt_1") == {}


@pytest.mark.slow
async def test_a_node_answers_with_why_it_does_not_sign(coordinator: ScriptedCoordinator, running: Any) -> None:
    async with running():
        await coordinator.expect("offer")
        coordinator.say(certificate=pb.CertificateRequest(job_id="job_1", statement=TRUE.statement().payload()))
        [reply] = await coordinator.expect("certificate")

    assert (reply.job_id, reply.signature, reply.reason) == ("job_1", "", "It names no attempt of this node.")
