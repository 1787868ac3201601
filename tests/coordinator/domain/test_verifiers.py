"""The draw of verifiers."""

from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.domain.verifiers import draw

bonds = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 10**12), min_size=1, max_size=30)


@pytest.mark.slow
@given(bonds, st.binary(max_size=40))
def test_anyone_can_recompute_the_draw(bonds: dict[str, int], seed: bytes) -> None:
    drawn = draw(bonds, seed)

    assert drawn in bonds
    assert draw(dict(reversed(bonds.items())), seed) == drawn


def test_a_rich_verifier_counts_for_a_tenth_of_the_pool() -> None:
    bonds = {"rich": 10**12} | {f"poor{at}": 10**9 for at in range(99)}

    drawn = Counter(draw(bonds, sha256(bytes([at // 256, at % 256])).digest()) for at in range(2_000))

    assert 0.4 < drawn["rich"] / 2_000 < 0.65  # a tenth of the pool's bond against 99 small ones: about a half
