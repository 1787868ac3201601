"""The recipes on real data: they learn, and they are as large as their plans say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gristmill_protocol.jobs import TrainTask
from gristmill_protocol.progress import Finished, SegmentDone, TrainerEvent
from gristmill_trainer import catalog, session
from gristmill_trainer.data import DataView
from gristmill_trainer.determinism import generator
from gristmill_trainer.recipe import Gpu
from gristmill_trainer.recipes.image_sorter.train import scaled, vary
from gristmill_trainer.recipes.text_sorter.features import Vocabulary, features

MakeTask = Callable[..., Path]


def train(folder: Path) -> tuple[Finished, list[TrainerEvent]]:
    events: list[TrainerEvent] = []
    session.run(folder, events.append, lambda: False)
    assert isinstance(events[-1], Finished)
    return events[-1], events


@pytest.mark.slow
def test_digits_are_learnt(all_digits: Path, make_task: MakeTask) -> None:
    finished, _ = train(make_task(all_digits, settings={"quality": "quick"}))

    assert finished.scorecard["accuracy"] >= 0.96
    assert finished.scorecard["baseline"] < 0.15
    assert finished.scorecard["held_out"] == 359


@pytest.mark.slow
def test_topics_are_learnt(topics: Path, make_task: MakeTask) -> None:
    finished, _ = train(make_task(topics, settings={"quality": "quick"}))

    assert finished.scorecard["accuracy"] >= 0.85
    assert finished.scorecard["baseline"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "topics"])
def test_a_state_is_as_large_as_planned(kind: str, make_task: MakeTask, request: pytest.FixtureRequest) -> None:
    folder = make_task(request.getfixturevalue(kind), settings={"quality": "quick", "rounds": 1})
    task = TrainTask.model_validate_json((folder / "task.json").read_text())
    recipe = catalog.find(task.recipe)
    plan = recipe.plan(task.settings, recipe.check(DataView.open(folder / "input" / "data")).stats, Gpu())

    _, events = train(folder)

    state = next(folder / event.state_file for event in events if isinstance(event, SegmentDone))
    assert state.stat().st_size == pytest.approx(plan.state_bytes, rel=0.1)


def test_pictures_are_varied_a_little_and_always_in_the_same_way() -> None:
    pictures = scaled(torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(4, 1, 1, 1))

    once, again, otherwise = (vary(pictures, generator(1, "vary", step), mirror=False) for step in (3, 3, 4))

    assert torch.equal(once, again)
    assert not torch.equal(once, otherwise)
    assert len({one.numpy().tobytes() for one in once}) == 4
    assert (once - pictures).abs().mean() < 0.15


def test_mirroring_turns_some_pictures_over() -> None:
    slope = scaled(torch.arange(0, 64, 8, dtype=torch.uint8).expand(32, 1, 8, 8))

    varied = vary(slope, generator(1, "vary", 0), mirror=True)

    rising = varied[:, 0, :, -1].mean(1) > varied[:, 0, :, 0].mean(1)
    assert 5 < rising.sum() < 27


def test_a_text_is_its_words_pairs_and_pieces() -> None:
    hashes, counts = features("to be, to be")

    words = ["to", "be", ","]
    pairs = ["to be", "be ,", ", to"]
    pieces = [" to", "to ", " to ", " be", "be ", " be ", " , "]
    assert len(hashes) == len(words + pairs + pieces)
    assert counts.max() == 2


def test_a_vocabulary_holds_the_commonest_features_that_texts_share() -> None:
    texts = [features(text) for text in ("red apple", "red pear", "red plum", "sour plum")]

    known = Vocabulary.of(texts, at_most=100)

    alone, _ = features("apple")
    red, _ = features("red")
    assert set(red) <= set(known.hashes)
    assert not set(alone) & set(known.hashes)
    assert len(Vocabulary.of(texts, at_most=3).hashes) == 3


def test_an_encoded_text_has_length_one_and_an_unknown_one_nothing() -> None:
    known = Vocabulary.of([features("red apple"), features("red apple pie")], at_most=100)

    numbers, weights = known.encode(features("a red apple"))
    nothing, _ = known.encode(features("xyz"))

    assert len(numbers) == len(weights) > 5
    assert float((weights**2).sum()) == pytest.approx(1)
    assert len(nothing) == 0
