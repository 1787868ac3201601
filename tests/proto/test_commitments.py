"""Records chain, draws are recomputable and fair, signatures name their signer."""

from collections import Counter

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.commitments import SegmentRecord, chain_break, draw_segments, window_root
from gristmill_protocol.errors import BadSignature, GristmillError, NoOfferFits
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, Domain, recover, require_signer, sign

REGISTRY = Domain.registry(31337, "0x" + "11" * 20)


def record(index: int, /, **changes: object) -> SegmentRecord:
    values = {
        "job_id": "job_1",
        "index": index,
        "step_from": index * 10,
        "step_to": index * 10 + 10,
        "state_root_prev": f"{index:064x}",
        "state_root": f"{index + 1:064x}",
        "data_root": "a" * 64,
        "metrics_root": "b" * 64,
        "micro_root": "c" * 64,
        "started_ms": 1,
        "ended_ms": 2,
        "numeric_class": "d" * 64,
    }
    return SegmentRecord.model_validate(values | changes)


def test_an_unbroken_chain_passes() -> None:
    assert chain_break([record(i) for i in range(4)]) is None


@pytest.mark.parametrize(
    "changes",
    [{"index": 5}, {"step_from": 11}, {"state_root_prev": "9" * 64}, {"state_root": f"{1:064x}"}, {"step_to": 10}],
)
def test_a_broken_chain_is_named(changes: dict[str, object]) -> None:
    assert "segment" in str(chain_break([record(0), record(1, **changes)]))


@given(st.sampled_from(sorted(SegmentRecord.model_fields)))
def test_every_field_of_a_record_is_committed(field: str) -> None:
    honest = record(3)
    value = getattr(honest, field)
    other: object = value + 1 if isinstance(value, int) else "e" * 64 if field != "job_id" else "job_2"

    assert window_root([honest]) != window_root([record(3, **{field: other})])


@given(st.binary(min_size=32, max_size=32), st.integers(0, 40), st.integers(1, 40), st.integers(0, 10))
def test_draws_are_distinct_and_in_the_window(beacon: bytes, first: int, count: int, samples: int) -> None:
    drawn = draw_segments(
        beacon=beacon, job_id="j", window_id="w", root=b"r", first_index=first, count=count, samples=samples
    )

    assert list(drawn) == sorted(set(drawn))
    assert all(first <= index < first + count for index in drawn)
    assert (0 in drawn) == (first == 0)
    assert len(drawn) == min(samples, count - (first == 0)) + (first == 0)


def test_every_segment_is_drawn_about_equally_often() -> None:
    counts: Counter[int] = Counter()
    for i in range(3000):
        counts.update(
            draw_segments(
                beacon=i.to_bytes(32, "big"), job_id="j", window_id="w", root=b"r", first_index=1, count=10, samples=3
            )
        )

    assert all(800 < counts[index] < 1000 for index in range(1, 11))


def test_a_signature_names_its_signer_in_its_domain_only() -> None:
    account = Account.create()
    signature = sign(account, REGISTRY, SEGMENT_RECORD_TYPE, record(1).typed())

    require_signer(REGISTRY, SEGMENT_RECORD_TYPE, record(1).typed(), signature, account.address)
    with pytest.raises(BadSignature, match="not by"):
        require_signer(REGISTRY, SEGMENT_RECORD_TYPE, record(2).typed(), signature, account.address)
    with pytest.raises(BadSignature):
        require_signer(
            Domain.registry(1, REGISTRY.contract), SEGMENT_RECORD_TYPE, record(1).typed(), signature, account.address
        )


@pytest.mark.parametrize("signature", ["0x", "0x12", "zz", "0x" + "00" * 65])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(BadSignature, match="cannot be read"):
        recover(REGISTRY, SEGMENT_RECORD_TYPE, record(1).typed(), signature)


def test_an_error_survives_the_wire() -> None:
    error = NoOfferFits("No machine fits.", effect="Nothing was charged.", todo="Ask for less.", excluded={"memory": 3})

    again = GristmillError.from_problem(error.problem())

    assert type(again) is NoOfferFits
    assert (again.what, again.effect, again.todo, again.details) == (
        error.what,
        error.effect,
        error.todo,
        {"excluded": {"memory": 3}},
    )
