from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill_trainer.data import Example
from gristmill_trainer.sampling import Sampler, example_digest, split

sizes = st.integers(1, 60)


@settings(deadline=None)
@given(examples=sizes, batch=sizes, seed=st.integers(0, 2**63 - 1))
def test_each_pass_over_the_data_is_a_permutation(examples: int, batch: int, seed: int) -> None:
    sampler = Sampler(seed=seed, examples=examples, batch=batch)
    steps = -(-2 * examples // batch)

    drawn = [row for step in range(steps) for row in sampler.rows(step).tolist()]

    assert sorted(drawn[:examples]) == list(range(examples))
    assert sorted(drawn[examples : 2 * examples]) == list(range(examples))


@settings(deadline=None)
@given(examples=sizes, batch=sizes, step=st.integers(0, 500))
def test_a_batch_depends_on_seed_and_step_alone(examples: int, batch: int, step: int) -> None:
    used = Sampler(seed=3, examples=examples, batch=batch)
    for other in range(5):
        used.rows(other)
    fresh = Sampler(seed=3, examples=examples, batch=batch)

    assert used.rows(step).tolist() == fresh.rows(step).tolist()
    assert len(fresh.rows(step)) == batch


def test_another_seed_gives_another_order() -> None:
    one, other = (Sampler(seed=seed, examples=100, batch=100).rows(0).tolist() for seed in (0, 1))

    assert one != other


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), min_size=1, max_size=80))
def test_copies_stay_on_one_side_and_every_answer_is_learnt(rows: list[tuple[int, int]]) -> None:
    contents = [sha256(bytes([content, answer])).digest() for content, answer in rows]
    answers = [answer for _, answer in rows]

    learnt, held = split(contents, answers)

    assert sorted(learnt + held) == list(range(len(rows)))
    assert not {contents[row] for row in learnt} & {contents[row] for row in held}
    assert {answers[row] for row in learnt} == set(answers)


def test_a_fifth_of_each_answer_is_held_out() -> None:
    contents = [sha256(bytes([number])).digest() for number in range(150)]
    answers = [0] * 100 + [1] * 50

    _, held = split(contents, answers)

    assert [answers[row] for row in held].count(0) == 20
    assert [answers[row] for row in held].count(1) == 10


def test_an_example_is_more_than_its_content() -> None:
    assert example_digest(Example("p", "ab", b"c")) != example_digest(Example("p", "a", b"bc"))
