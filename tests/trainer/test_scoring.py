import pytest

from gristmill_trainer.scoring import Guess, compared, score


def guesses(*counts: tuple[str, str, int]) -> list[Guess]:
    rows = [(answer, said) for answer, said, count in counts for _ in range(count)]
    return [Guess(f"{number:03}", answer, said, 0.5) for number, (answer, said) in enumerate(rows)]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ([("4", "4", 60), ("9", "9", 137), ("9", "4", 4), ("4", "9", 1)],
         "It gets 98 of 100 right. When it is wrong, it is mostly 9 taken for 4."),
        ([("4", "4", 500), ("9", "9", 499), ("9", "4", 1)],
         "It gets 99 of 100 right. When it is wrong, it is 9 taken for 4."),
        ([("4", "4", 9), ("9", "9", 9), ("9", "4", 2)],
         "It gets 18 of 20 right. When it is wrong, it is 9 taken for 4."),
        ([("4", "4", 9), ("9", "9", 9)], "It gets all 18 examples right that it had never seen."),
        ([("4", "4", 90), ("9", "4", 20)],
         "It gets 82 of 100 right, which always giving the commonest answer would reach as well: it learnt nothing."),
        ([], "There were no examples left to measure it on."),
    ],
)  # fmt: skip
def test_the_result_in_words(counts: list[tuple[str, str, int]], sentence: str) -> None:
    assert score(guesses(*counts), commonest="4").sentence == sentence


def test_the_result_is_held_against_answering_without_looking() -> None:
    card = score(guesses(("4", "4", 60), ("9", "9", 137), ("9", "4", 4)), commonest="9")

    assert compared(card) == "Always giving the most common answer, without looking, would get 70 of 100 right."
    assert compared(score([], commonest="")) == ""


def test_the_result_in_numbers() -> None:
    card = score(guesses(("a", "a", 6), ("b", "b", 2), ("b", "a", 1), ("b", "c", 1)), commonest="a")

    assert (card.accuracy, card.baseline, card.held_out, card.correct) == (0.8, 0.6, 10, 8)
    assert [(one.answer, one.taken_for, one.count) for one in card.confusions] == [("b", "a", 1), ("b", "c", 1)]


def test_the_surest_mistakes_are_shown_first() -> None:
    made = [Guess("x", "a", "b", 0.6), Guess("y", "a", "b", 0.9), Guess("z", "a", "a", 1.0)]

    assert [mistake.place for mistake in score(made, commonest="a").worst] == ["y", "x"]
