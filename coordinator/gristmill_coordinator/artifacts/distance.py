"""How far two training states are apart that started from the same one, on machines that round differently.

Each distance is ||theirs - mine|| / ||mine - start|| over many tensors together: 0 for equal states, about 1 for work
that was not done. Files are those of gristmill_trainer/checkpoint.py; they are mapped, and read a piece at a time.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gristmill_coordinator.domain.tolerance import Distance as Distance
from gristmill_protocol.errors import BadData
from gristmill_protocol.state import DTYPES, SECTIONS, Tensor, state_root

_PIECE = 1 << 20  # elements: 8 MiB as float64
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_FIRST = ("exp_avg", "momentum_buffer")
_SECOND = "exp_avg_sq"


def distance(start: Path, mine: Path, theirs: Path) -> Distance:
    """How far their end state is from mine, relative to how far I came from the start.

    Args:
        start: the state that both began with; before the first step it holds no moments, they are zero then.
        mine: the end state of the machine that is believed here: its second moment weighs.
    Raises:
        BadData: a file is no state, or the states are not of one model.
    """
    before, my, their = _State(start), _State(mine), _State(theirs)
    _require_alike(my.like, their.like)
    _require_alike(before.like, {name: like for name, like in my.like.items() if name in before.like})
    fractions: dict[str, _Fraction] = defaultdict(_Fraction)
    with np.errstate(all="ignore"):  # numbers that are none come out as an infinite distance
        for name in my.like:
            group, weight = _group(my, name)
            if group == "exact":
                fractions[group].add_flag(my.raw(name), their.raw(name))
                continue
            weights = None if weight is None else my.pieces(weight)
            starts = before.pieces(name) if name in before.like else None
            for x, y in zip(their.pieces(name), my.pieces(name), strict=True):
                origin = np.zeros_like(y) if starts is None else next(starts)
                scale = None if weights is None else np.sqrt(next(weights))
                fractions[group].add(x - y, y - origin, scale)
    ratios = {group: fraction.ratio() for group, fraction in fractions.items()}
    delta = max(ratios.pop("weighted", 0.0), ratios.pop("plain", 0.0))
    return Distance(ratios.pop("first", delta), delta, max(ratios.values(), default=0.0))


def root_of(path: Path) -> str:
    """The state root of a state's file, hex.

    Raises:
        BadData: the file is no state.
    """
    state = _State(path)
    return state_root(state.tensors()).hex()


class _Fraction:
    """Two sums of squares, of differences and of ways gone."""

    def __init__(self) -> None:
        self._apart = self._way = 0.0

    def add(self, apart: NDArray[Any], way: NDArray[Any], scale: NDArray[Any] | None) -> None:
        if scale is not None:
            apart, way = apart * scale, way * scale
        self._apart += float(apart @ apart)
        self._way += float(way @ way)

    def add_flag(self, mine: NDArray[Any], theirs: NDArray[Any]) -> None:
        self._apart += 0.0 if np.array_equal(mine, theirs) else math.inf

    def ratio(self) -> float:
        if not (math.isfinite(self._apart) and math.isfinite(self._way)):
            return math.inf
        if self._way == 0.0:
            return 0.0 if self._apart == 0.0 else math.inf
        return math.sqrt(self._apart / self._way)


class _State:
    """The tensors of one file, flat."""

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy"):  # refuses headers that lie about where tensors are
                pass
        except (OSError, SafetensorError) as err:
            raise BadData(f"{path.name!r} is no training state: {err}.") from err
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        # Name -> type and shape.
        self.like = {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in header.items()}
        self.moved = {name.removeprefix("opt/").rpartition("/")[0] for name in self.like if name.startswith("opt/")}
        self._at = {name: [8 + size + offset for offset in tensor["data_offsets"]] for name, tensor in header.items()}
        self._bytes = np.memmap(path, np.uint8, "r")

    def tensors(self) -> Iterator[Tensor]:
        for name, (dtype, shape) in self.like.items():
            if dtype not in DTYPES or name.partition("/")[0] not in SECTIONS:
                raise BadData(f"The tensor {name!r} of {dtype} is none of a training state.")
            yield Tensor(name, dtype, shape, self.raw(name).data)

    def raw(self, name: str) -> NDArray[np.uint8]:
        begin, end = self._at[name]
        return self._bytes[begin:end]

    def pieces(self, name: str) -> Iterator[NDArray[np.float64]]:
        """A float tensor's numbers in order, some at a time."""
        dtype, _ = self.like[name]
        flat = self.raw(name).view(_FLOATS[dtype])
        for at in range(0, len(flat), _PIECE):
            piece = flat[at : at + _PIECE]
            if dtype == "BF16":  # the upper half of a float32
                piece = (piece.astype(np.uint32) << 16).view(np.float32)
            yield piece.astype(np.float64)


def _group(state: _State, name: str) -> tuple[str, str | None]:
    """Which distance a tensor counts for, and the tensor that weighs it."""
    dtype, shape = state.like[name]
    if dtype not in _FLOATS or shape == ():  # step counts, the seed
        return "exact", None
    if name.startswith("opt/"):
        slot = name.rpartition("/")[2]
        return ("first" if slot in _FIRST else slot), None
    param = name.removeprefix("param/")
    if param == name or (state.moved and param not in state.moved):
        return name, None  # buffers and frozen tensors, each for itself: a change drowns in no other's
    if f"opt/{param}/{_SECOND}" in state.like:
        return "weighted", f"opt/{param}/{_SECOND}"
    return "plain", None


def _require_alike(some: dict[str, Any], others: dict[str, Any]) -> None:
    odd = sorted(name for name in some.keys() | others.keys() if some.get(name) != others.get(name))
    if odd:
        raise BadData(f"The states are not of one model: {', '.join(odd[:3])}.")
