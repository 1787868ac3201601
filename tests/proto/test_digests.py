"""Merkle trees and state digests agree with vectors computed independently (make_vectors.py)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.merkle import merkle_root, prove
from gristmill_protocol.state import CHUNK_BYTES, Tensor, state_root, tensor_leaf

digests = st.binary(min_size=32, max_size=32)


def test_merkle_roots_equal_the_golden_vectors(vectors: Path) -> None:
    for tree in json.loads((vectors / "digests.json").read_text())["merkle"]:
        leaves = [bytes.fromhex(leaf) for leaf in tree["leaves"]]

        assert merkle_root(leaves).hex() == tree["root"]


def test_state_roots_equal_the_golden_vectors_in_any_order(vectors: Path) -> None:
    for state in json.loads((vectors / "digests.json").read_text())["state"]:
        tensors = [
            Tensor(item["name"], item["dtype"], tuple(item["shape"]), bytes.fromhex(item["data"]))
            for item in state["tensors"]
        ]

        assert [tensor_leaf(tensor).hex() for tensor in tensors] == state["leaves"]
        assert state_root(reversed(tensors)).hex() == state["root"]


@given(st.lists(digests, min_size=1, max_size=40), st.data())
def test_a_proof_gives_the_root_for_its_leaf_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(digests)
    proof = prove(leaves, index)

    assert proof.root(leaves[index]) == merkle_root(leaves)
    assert (proof.root(other) == merkle_root(leaves)) == (other == leaves[index])


@given(st.binary(min_size=1, max_size=64), st.data())
def test_any_changed_byte_changes_the_root(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))

    before = state_root([Tensor("param/w", "U8", (len(content),), content)])
    after = state_root([Tensor("param/w", "U8", (len(content),), bytes(changed))])

    assert before != after


def test_a_tensor_over_one_chunk_is_hashed_in_chunks() -> None:
    content = bytes(CHUNK_BYTES + 1)
    flipped = content[:-1] + b"\x01"

    assert tensor_leaf(Tensor("param/w", "U8", (len(content),), content)) != tensor_leaf(
        Tensor("param/w", "U8", (len(content),), flipped)
    )


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "data"),
    [("param/w", "F32", (2,), b"1234"), ("weights/w", "U8", (1,), b"1"), ("param/w", "U8", (), b"")],
)
def test_a_tensor_that_contradicts_itself_is_refused(
    name: str, dtype: str, shape: tuple[int, ...], data: bytes
) -> None:
    with pytest.raises(ValueError, match="tensor"):
        Tensor(name, dtype, shape, data)


def test_two_tensors_of_one_name_are_refused() -> None:
    tensor = Tensor("param/w", "U8", (1,), b"1")

    with pytest.raises(ValueError, match="share a name"):
        state_root([tensor, tensor])
