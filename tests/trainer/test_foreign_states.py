"""A state comes from a stranger: whatever its file holds, a verifier refuses it or reads numbers, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill_protocol.errors import WrongHash
from gristmill_trainer import session

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file(header: object, data: bytes = bytes(8), *, length: int | None = None) -> bytes:
    """A safetensors file: the header's length, the header, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


HOSTILE = {
    "empty": b"",
    "a pickle that would run a program": b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R.",
    "a header of exabytes": file({}, length=2**60),
    "a header longer than the file": file({"a": TENSOR}, length=10_000_000),
    "a tensor of terabytes": file({"a": TENSOR | {"shape": [2**40], "data_offsets": [0, 2**42]}}),
    "more elements than there are numbers": file({"a": TENSOR | {"shape": [2**62, 2**62]}}),
    "two tensors in one place": file({"a": TENSOR, "b": TENSOR}),
    "a tensor outside the file": file({"a": TENSOR | {"data_offsets": [8, 16]}}),
    "offsets that go back": file({"a": TENSOR | {"data_offsets": [8, 0]}}),
    "an unknown type": file({"a": TENSOR | {"dtype": "OBJECT"}}),
    "a header that is no JSON": file(b"{" * 1_000),
    "a header nested without end": file(b'{"a":' * 100_000),
    "a name that is a path": file({"../../../../tmp/a": TENSOR}),
    "names of nothing in the model": file({"param/\x00": TENSOR}),
}


@pytest.mark.slow
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_state_is_refused_and_leaves_nothing(
    content: bytes, make_task: Callable[..., Path], digits: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.write_bytes(content)
    settings = {"rounds": 1, "batch": 16, "width": 4}
    folder = make_task(digits, settings=settings, state=state, segment_steps=2, end_steps=0, step_from=2, step_to=4)
    before = sorted(folder.rglob("*"))

    with pytest.raises(WrongHash, match="start state"):
        session.replay(folder, lambda event: pytest.fail(f"it answered {event}"), lambda: False)

    assert sorted(folder.rglob("*")) == before
