"""Records chain, draws are recomputable and fair, signatures name their signer."""

from collections import Counter
from hashlib import sha256

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.commitments import (
    PPM,
    SegmentRecord,
    answer_digest,
    chain_break,
    draw_seconds,
    draw_seed,
    draw_segments,
    draw_verifier,
    verifier_seed,
    window_root,
)
from gristmill_protocol.errors import BadSignature, GristmillError, NoOfferFits
from gristmill_protocol.progress import Replayed
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


@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 40), st.integers(1, 40), st.integers(0, 10**7), st.booleans()
)
def test_draws_are_distinct_and_in_the_window(
    seed: bytes, first: int, count: int, samples_ppm: int, ends_job: bool
) -> None:
    drawn = draw_segments(seed, first_index=first, count=count, samples_ppm=samples_ppm, ends_job=ends_job)

    assert list(drawn) == sorted(set(drawn))
    assert all(first <= index < first + count for index in drawn)
    always = {0} if first == 0 else set()
    always |= {first + count - 1} if ends_job else set()
    assert always <= set(drawn)
    sampled, pool = len(drawn) - len(always), count - len(always)
    assert min(samples_ppm // PPM, pool) <= sampled <= min(-(-samples_ppm // PPM), pool)


def seeds(count: int) -> list[bytes]:
    return [
        draw_seed(beacon=i.to_bytes(32, "big"), job_id="j", window_id="w", root=bytes([i % 256])) for i in range(count)
    ]


def test_every_segment_is_drawn_about_equally_often() -> None:
    counts: Counter[int] = Counter()
    for seed in seeds(3000):
        counts.update(draw_segments(seed, first_index=1, count=10, samples_ppm=3 * PPM, ends_job=False))

    assert all(800 < counts[index] < 1000 for index in range(1, 11))


def test_a_fraction_of_a_sample_is_drawn_in_that_share_of_windows() -> None:
    sizes = Counter(
        len(draw_segments(seed, first_index=1, count=10, samples_ppm=2_250_000, ends_job=False)) for seed in seeds(2000)
    )

    assert set(sizes) == {2, 3}
    assert 0.22 < sizes[3] / 2000 < 0.28


def test_the_draw_is_what_its_description_says() -> None:
    """Recomputed here from the docstring alone, as somebody with another programming language would."""
    seed = draw_seed(beacon=b"b" * 32, job_id="job_1", window_id="window_1.0", root=b"r" * 32)
    numbers = (int.from_bytes(sha256(seed + at.to_bytes(8, "little")).digest()[:8], "little") for at in range(9))
    samples = 1 + (next(numbers) % 1_000_000 < 500_000)
    pool = [7, 8, 9, 10]
    for at in range(samples):
        other = at + next(numbers) % (4 - at)
        pool[at], pool[other] = pool[other], pool[at]

    ids = sha256(b"job_1").digest() + sha256(b"window_1.0").digest()
    assert seed == sha256(b"b" * 32 + ids + b"r" * 32).digest()
    drawn = tuple(sorted(pool[:samples]))
    assert draw_segments(seed, first_index=7, count=4, samples_ppm=1_500_000, ends_job=False) == drawn
    assert draw_segments(seed, first_index=7, count=5, samples_ppm=1_500_000, ends_job=True) == (*drawn, 11)


def test_a_tenth_of_the_audits_has_a_second_verifier() -> None:
    drawn = (3, 5, 8)
    seconds = [draw_seconds(seed, drawn, second_ppm=100_000) for seed in seeds(2000)]

    assert all(set(some) <= set(drawn) for some in seconds)
    assert 0.08 < sum(map(len, seconds)) / 6000 < 0.12
    assert draw_seconds(b"", drawn, second_ppm=0) == ()
    assert draw_seconds(b"", drawn, second_ppm=PPM) == drawn


stakes = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 10**12), min_size=1, max_size=30)


@pytest.mark.slow
@given(stakes, st.binary(max_size=40))
def test_anyone_can_recompute_the_draw_of_a_verifier(stakes: dict[str, int], seed: bytes) -> None:
    drawn = draw_verifier(stakes, seed)

    assert drawn in stakes
    assert draw_verifier(dict(reversed(stakes.items())), seed) == drawn


def test_a_rich_verifier_counts_for_a_tenth_of_the_pool() -> None:
    stakes = {"rich": 10**12} | {f"poor{at}": 10**9 for at in range(99)}

    drawn = Counter(draw_verifier(stakes, verifier_seed(b"seed", at, "drawn")) for at in range(2_000))

    assert 0.4 < drawn["rich"] / 2_000 < 0.65  # a tenth of the pool's stake against 99 small ones: about a half


def test_an_answer_is_bound_to_its_audit_its_salt_and_every_digit() -> None:
    answer = Replayed(
        step_from=0, step_to=4, state_root_prev="a" * 64, state_root="b" * 64, data_root="c" * 64, metrics_root="d" * 64
    )
    others = [answer.model_copy(update={field: "e" * 64}) for field in ("state_root", "data_root", "metrics_root")]

    digests = {answer_digest("audit_1", b"s" * 32, one) for one in (answer, *others)}
    digests |= {answer_digest("audit_2", b"s" * 32, answer), answer_digest("audit_1", b"t" * 32, answer)}

    assert len(digests) == 6


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
