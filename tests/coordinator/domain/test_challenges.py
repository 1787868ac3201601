"""Answers to challenges: the honest one holds, and no shortcut does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.prover import TINY, Leaf, Matrix, Prover
from gristmill_coordinator.domain import challenges
from gristmill_protocol.challenges import Commitment, Draw, OpenedLeaf, Opening, Sizes, parents

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "challenges.json").read_text())
SEED = b"s" * 32
WIDE = Sizes(n=64, rounds=2, lanes=4, leaves=2, blocks=4, sweeps=1)  # for cheats at the product


def verdict(prover: Prover, seed: bytes = SEED) -> str:
    """What the coordinator finds wrong with a prover's answer to the challenge of this seed."""
    commitment = prover.commit()
    drawn = challenges.draw(b"drawn after the commitment", prover.sizes)
    return challenges.wrong(seed, prover.sizes, commitment, drawn, prover.open(drawn))


@pytest.mark.parametrize("vector", VECTORS)
def test_the_golden_answer_holds(vector: dict[str, Any]) -> None:
    opening = Opening.model_validate_json(json.dumps(vector["opening"]))
    drawn, sizes = Draw.model_validate(vector["draw"]), Sizes.model_validate(vector["sizes"])

    wrong = challenges.wrong(
        bytes.fromhex(vector["seed"]), sizes, Commitment.model_validate(vector["commitment"]), drawn, opening
    )

    assert wrong == ""


@pytest.mark.parametrize("sizes", [TINY, WIDE])
def test_an_honest_answer_holds(sizes: Sizes) -> None:
    assert verdict(Prover(SEED, sizes)) == ""


class LinearSketch(Prover):
    """Multiplies a quarter of the width: (A S)(S' B), with random signs S."""

    def product(self, left: Matrix, right: Matrix) -> Matrix:
        n, width = self.sizes.n, self.sizes.n // 4
        signs = np.random.default_rng(1).choice([-1, 1], (n, width))
        sketched = (np.array(left) @ signs) @ (signs.T @ np.array(right)) / width
        return [[round(x) for x in row] for row in sketched.tolist()]


class LowRank(Prover):
    """Leaves out the smallest eighth of A's singular values."""

    def product(self, left: Matrix, right: Matrix) -> Matrix:
        u, s, vt = np.linalg.svd(np.array(left, float))
        rank = self.sizes.n * 7 // 8
        cheap = (u[:, :rank] * s[:rank]) @ (vt[:rank] @ np.array(right, float))
        return [[round(x) for x in row] for row in cheap.tolist()]


class SkippedRows(Prover):
    """Computes two rows of three."""

    def product(self, left: Matrix, right: Matrix) -> Matrix:
        skipped = [row if at % 3 else [0] * len(row) for at, row in enumerate(left)]
        return super().product(skipped, right)


@pytest.mark.parametrize("cheat", [LinearSketch, LowRank, SkippedRows])
def test_a_shortcut_through_the_product_fails(cheat: type[Prover]) -> None:
    assert "the product of round" in verdict(cheat(SEED, WIDE))


class Truncated(Prover):
    """Has half of the memory, and zeros for the rest."""

    def block(self, block: int) -> list[Leaf]:
        if block < self.sizes.blocks // 2:
            return super().block(block)
        return [[0] * self.sizes.lanes] * self.sizes.leaves


class Duplicated(Prover):
    """Has half of the memory, and goes over it twice."""

    def block(self, block: int) -> list[Leaf]:
        half = self.sizes.blocks // 2
        return super().block(block) if block < half else self.fill[block - half]


class Chained(Prover):
    """Mixes each block from the one before alone: then one block of memory is enough."""

    def block(self, block: int) -> list[Leaf]:
        kept = self.fill
        if block:
            self.fill = [kept[-1]] * block
        made = super().block(block)
        self.fill = kept
        return made


@pytest.mark.parametrize("cheat", [Truncated, Duplicated, Chained])
def test_a_smaller_memory_fails(cheat: type[Prover]) -> None:
    assert "of the memory is not what it has to hold" in verdict(cheat(SEED))


class Forger(Truncated):
    """Opens what a leaf has to hold, worked out after the commitment, instead of what its sweeps went over."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self.honest = Prover(seed)
        self.honest.commit()

    def open_leaf(self, leaf: int) -> OpenedLeaf:
        return super().open_leaf(leaf).model_copy(update={"data": self.honest.open_leaf(leaf).data})


def test_a_leaf_that_was_worked_out_afterwards_fails() -> None:
    assert "is not what the sweeps went over" in verdict(Forger(SEED))


class Forgetful(Prover):
    """Keeps nine blocks of ten, and makes the others again whenever it needs them: right, but at a price."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self.made = 0
        self.kept: dict[int, list[Leaf]] = {}

    def block(self, block: int) -> list[Leaf]:
        needed = [self.get(parent) for parent, _, _ in parents(self.memory_seed, block, self.sizes)] if block else []
        whole, self.fill = self.fill, [[]] * block
        if block:
            for (parent, _, _), found in zip(parents(self.memory_seed, block, self.sizes), needed, strict=True):
                self.fill[parent] = found
        made = super().block(block)
        self.fill = whole
        self.made += 1
        if block % 10:
            self.kept[block] = made
        return made

    def get(self, block: int) -> list[Leaf]:
        return self.kept[block] if block in self.kept else self.block(block)

    def sweep_work(self) -> int:
        """Blocks that all sweeps make again."""
        before = self.made
        for _ in range(self.sizes.sweeps):
            for block in range(self.sizes.blocks):
                self.get(block)
        return self.made - before


def test_a_memory_that_lacks_a_tenth_makes_a_third_of_the_fill_again() -> None:
    forgetful = Forgetful(SEED)

    assert verdict(forgetful) == ""
    again = forgetful.made - TINY.blocks + forgetful.sweep_work()
    assert again > TINY.blocks / 3


def test_the_answer_to_another_seed_fails() -> None:
    assert "are not the ones it committed to" in verdict(Prover(b"another card's seed"))


def test_another_nodes_answer_fails() -> None:
    """It answers that node's seed. Relaying one's own seed to a faster card is not stopped, see docs/providers.md."""
    other = Prover(b"o" * 32)

    assert verdict(other, seed=b"o" * 32) == ""
    assert verdict(Prover(b"o" * 32), seed=SEED) != ""


@pytest.fixture(scope="module")
def honest() -> tuple[Commitment, Draw, bytes]:
    prover = Prover(SEED)
    commitment = prover.commit()
    drawn = challenges.draw(b"entropy", TINY)
    return commitment, drawn, prover.open(drawn).model_dump_json().encode()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_byte_of_an_opening_may_differ(honest: tuple[Commitment, Draw, bytes], data: st.DataObject) -> None:
    commitment, drawn, text = honest
    opening = json.loads(text)
    kind = data.draw(st.sampled_from(["folds", "data", "chunks", "siblings"]))
    place = opening["folds"] if kind == "folds" else data.draw(st.sampled_from(opening["leaves"]))
    at = data.draw(st.integers(0, len(place) - 1)) if kind == "folds" else kind
    if kind in ("chunks", "siblings"):
        place, at = place[kind], data.draw(st.integers(0, TINY.sweeps - 1))
    spoilt = list(place[at])
    where = data.draw(st.integers(0, len(spoilt) - 5))  # not in the padding
    spoilt[where] = "A" if spoilt[where] != "A" else "B"
    place[at] = "".join(spoilt)

    assert challenges.wrong(SEED, TINY, commitment, drawn, Opening.model_validate_json(json.dumps(opening))) != ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"folds": ()}, "other rounds"),
        ({"leaves": ()}, "other leaves"),
    ],
)
def test_an_incomplete_opening_fails(
    honest: tuple[Commitment, Draw, bytes], change: dict[str, object], why: str
) -> None:
    commitment, drawn, text = honest
    opening = Opening.model_validate_json(text).model_copy(update=change)

    assert why in challenges.wrong(SEED, TINY, commitment, drawn, opening)


def test_a_shorter_chain_fails(honest: tuple[Commitment, Draw, bytes]) -> None:
    commitment, drawn, text = honest
    shorter = commitment.model_copy(update={"rounds": commitment.rounds[:-1]})

    assert "another number" in challenges.wrong(SEED, TINY, shorter, drawn, Opening.model_validate_json(text))


def test_a_card_is_asked_for_all_but_a_little_of_its_memory() -> None:
    asked = challenges.sizes(False, 24 * 2**30)

    assert 20 * 2**30 < asked.fill_bytes < 22 * 2**30


def test_a_processor_is_asked_little() -> None:
    assert challenges.sizes(True, 2**40).fill_bytes < 64 * 2**20


@given(st.binary(min_size=1, max_size=8))
def test_a_draw_names_what_is_there_once_each(entropy: bytes) -> None:
    drawn = challenges.draw(entropy, TINY)

    for chosen, below in ((drawn.rounds, TINY.rounds), (drawn.rows, TINY.n), (drawn.leaves, TINY.all_leaves)):
        assert len(set(chosen)) == len(chosen)
        assert all(0 <= one < below for one in chosen)
