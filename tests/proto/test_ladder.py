"""A ladder covers every rung and one move, all under one nonce and none above the cap."""

from math import comb

from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.jobs import Plan, Quote, QuotedProvider, QuotedReplica
from gristmill_protocol.ladder import Work, ladder_statements, statement_for
from gristmill_protocol.modes import Mode
from gristmill_protocol.signing import encode_lines

prices = st.integers(1, 10**9)


def quote(steps: int, segment_steps: int, quoted: list[int], end_steps: int = 0) -> Quote:
    candidates = tuple(
        QuotedProvider(
            node_id=f"node_{i}",
            provider=i + 1,
            verifier=i + 11,
            price_usd_micros=price,
            device="CPU",
            expected_seconds=1,
        )
        for i, price in enumerate(quoted)
    )
    return Quote(
        quote_id="quote_1",
        spec_digest="0" * 64,
        plan=Plan(
            settings={},
            steps=steps,
            segment_steps=segment_steps,
            end_steps=end_steps,
            flops=1,
            peak_bytes=1,
            state_bytes=1,
        ),
        candidates=candidates,
        price_usd_micros=quoted[0],
        cap_usd_micros=max(quoted),
        seconds_low=1,
        seconds_high=2,
        recipe_id=1,
        verifier_bps=600,
        royalty_bps=300,
        nonce=7,
        deadline_s=2_000_000_000,
        expires_s=2_000_000_000,
        offers_considered=2,
        mode=Mode.BITWISE,
        guarantee="",
        verification="",
    )


@given(st.integers(1, 500), st.integers(1, 60), st.lists(prices, min_size=1, max_size=2))
def test_no_rung_exceeds_the_dearest_candidate(steps: int, segment_steps: int, quoted: list[int]) -> None:
    offered = quote(steps, segment_steps, quoted)

    statements = ladder_statements(offered)

    assert {statement.nonce for statement in statements} == {7}
    assert all(0 < statement.total_usd_micros <= offered.cap_usd_micros for statement in statements)
    assert any(statement.total_usd_micros == quoted[0] for statement in statements)


@given(st.integers(1, 500), st.integers(1, 60), st.lists(prices, min_size=2, max_size=2), st.data())
def test_a_job_that_moved_once_at_a_boundary_is_covered(
    steps: int, segment_steps: int, quoted: list[int], data: st.DataObject
) -> None:
    offered = quote(steps, segment_steps, quoted, end_steps=data.draw(st.integers(0, segment_steps)))
    first, second = offered.candidates
    done = data.draw(st.sampled_from([0, *offered.plan.grid.ends()][:-1]))
    work = [Work(first.provider, first.verifier, first.price_usd_micros, done)] if done else []
    work.append(Work(second.provider, second.verifier, second.price_usd_micros, steps - done))

    due = statement_for(offered, work)

    assert due is None or due in ladder_statements(offered)


def test_windows_of_one_provider_are_one_line() -> None:
    offered = quote(10, 3, [100])
    parts = [Work(1, 11, 100, 3), Work(1, 11, 100, 7)]

    statement = statement_for(offered, parts)

    assert statement is not None
    assert [line.amount_usd_micros for line in statement.lines] == [100]
    assert len(encode_lines(statement)) == 24


def test_nothing_earned_is_no_statement() -> None:
    assert statement_for(quote(10, 3, [100]), []) is None


@given(st.sampled_from([2, 4, 6]), prices, st.booleans())
def test_a_replicated_jobs_ladder_pays_every_majority_with_the_machine_and_no_minority(
    replicas: int, price: int, moves: bool
) -> None:
    quoted = quote(1, 1, [price, price] if moves else [price]).model_copy(
        update={
            "replicas": tuple(
                QuotedReplica(node_id=f"r{n}", provider=100 + n, price_usd_micros=price + n) for n in range(replicas)
            )
        }
    )
    owners = {one.provider: one.price_usd_micros for one in (*quoted.candidates, *quoted.replicas)}

    ladder = ladder_statements(quoted)

    sets = [frozenset(line.provider for line in statement.lines) for statement in ladder]
    agreeing = sum(comb(replicas, count) for count in range(replicas // 2, replicas + 1))
    assert len(set(sets)) == len(ladder) == agreeing * len(quoted.candidates)
    for statement, paid in zip(ladder, sets, strict=True):
        assert 2 * len(paid) > replicas + 1
        assert len(paid & {one.provider for one in quoted.candidates}) == 1
        assert all(line.amount_usd_micros == owners[line.provider] for line in statement.lines)
        assert all(line.verifier in paid - {line.provider} for line in statement.lines)
