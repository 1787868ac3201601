"""Answers a challenge (gristmill_protocol.challenges): the same bits on a processor and on a graphics card.

Only operations on integers, and products of matrices whose every sum float32 holds exactly.
"""

import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from gristmill_protocol import merkle
from gristmill_protocol.challenges import (
    CHUNK,
    M1,
    M2,
    M3,
    Commitment,
    Draw,
    OpenedLeaf,
    Opening,
    Sizes,
    chunk_digest,
    first_link,
    key,
    opened,
    parents,
)
from gristmill_protocol.errors import BadRequest, Unavailable
from gristmill_protocol.progress import ChallengeCommitted, ChallengeOpened, ChallengeReady, TrainerEvent

T = TypeVar("T", Sizes, Draw)

_LOOK_EVERY_S = 0.005
_PATIENCE_S = 180.0
_STRIP_WORDS = 2**24  # of a product that are folded at once


def answer(folder: Path, device: torch.device, emit: Callable[[TrainerEvent], None]) -> None:
    """Be ready, wait for input/seed, commit, wait for input/draw.json, open.

    Raises:
        BadRequest: a file makes no sense.
        Unavailable: the next file does not come.
    """
    sizes = _read(folder / "challenge.json", Sizes)
    _product(torch.ones(8, 8, device=device), torch.ones(8, 8, device=device))  # libraries load before the clock runs
    emit(ChallengeReady())
    prover = Prover(bytes.fromhex(_awaited(folder / "input" / "seed").read_text()), sizes, device)
    emit(ChallengeCommitted(commitment=prover.commit()))
    draw = _read(_awaited(folder / "input" / "draw.json"), Draw)
    emit(ChallengeOpened(opening=prover.open(draw)))


class Prover:
    """One challenge on one device."""

    def __init__(self, seed: bytes, sizes: Sizes, device: torch.device) -> None:
        self._seed = seed
        self._sizes = sizes
        self._device = device
        self._folds: list[bytes] = []
        self._sums: list[bytes] = []
        self._memory_seed = b""
        self._offsets = _words(0, sizes.lanes, device).mul_(_signed(M1))
        self._fill = torch.empty(0)

    def commit(self) -> Commitment:
        """Do the work, all of it."""
        links = list(self._compute())
        self._memory_seed = links[-1]
        self._fill = self._filled()
        roots = list(self._sweep())
        return Commitment(rounds=tuple(h.hex() for h in links), sweeps=tuple(root.hex() for root in roots))

    def open(self, draw: Draw) -> Opening:
        """What was drawn.

        Raises:
            BadRequest: there is no such round or leaf.
        """
        try:
            folds = tuple(self._folds[at] for at in draw.rounds)
            targets = [leaf for at in draw.leaves for leaf in opened(self._memory_seed, at, self._sizes)]
            levels = [self._chunk_digests(sums) for sums in self._sums]
            return Opening(folds=folds, leaves=tuple(self._open_leaf(leaf, levels) for leaf in targets))
        except IndexError as err:
            raise BadRequest("The draw names what the challenge has not.") from err

    def _compute(self) -> Iterator[bytes]:
        """The chain's links, one a round."""
        n, limit, device = self._sizes.n, self._sizes.limit, self._device
        right = _matrix(key(self._seed, "right"), n, limit, device)
        link = first_link(self._seed)
        for _ in range(self._sizes.rounds):
            product = _product(_matrix(key(link, "left"), n, limit, device), right)
            self._folds.append(_bytes(_fold(product, key(link, "fold"))))
            link = sha256(link + self._folds[-1]).digest()
            yield link

    def _filled(self) -> Tensor:  # (blocks, leaves, lanes) int64
        sizes, seed = self._sizes, self._memory_seed
        fill = torch.empty(sizes.blocks, sizes.leaves, sizes.lanes, dtype=torch.int64, device=self._device)
        counter = _words(1, 1 + sizes.leaves * sizes.lanes, self._device).mul_(_signed(M1))
        fill[0] = _mix(counter.add_(_signed(key(seed, "first")))).view(sizes.leaves, sizes.lanes)
        for block in range(1, sizes.blocks):
            before, second, third = (torch.roll(fill[at], by, (0, 1)) for at, *by in parents(seed, block, sizes))
            mixed = before.add_(second.bitwise_xor_(third)).add_(_signed(key(seed, "constant", block)))
            fill[block] = _mix(mixed)
        return fill

    def _sweep(self) -> Iterator[bytes]:
        """The Merkle root of each sweep's sums."""
        link = self._memory_seed
        for _ in range(self._sizes.sweeps):
            offsets = self._offsets + _signed(key(link, "sweep"))
            self._sums.append(b"".join(_bytes(_mix(block + offsets).sum(1)) for block in self._fill))
            root = merkle.merkle_root(self._chunk_digests(self._sums[-1]))
            link = sha256(link + root).digest()
            yield root

    def _open_leaf(self, leaf: int, levels: list[list[bytes]]) -> OpenedLeaf:
        block, at = divmod(leaf, self._sizes.leaves)
        chunk = leaf // CHUNK
        return OpenedLeaf(
            data=_bytes(self._fill[block, at]),
            chunks=tuple(sums[8 * CHUNK * chunk : 8 * CHUNK * (chunk + 1)] for sums in self._sums),
            siblings=tuple(b"".join(merkle.prove(level, chunk).siblings) for level in levels),
        )

    @staticmethod
    def _chunk_digests(sums: bytes) -> list[bytes]:
        return [chunk_digest(sums[at : at + 8 * CHUNK]) for at in range(0, len(sums), 8 * CHUNK)]


def _signed(number: int) -> int:
    """The same 64 bits as torch writes them."""
    return number - 2**64 if number >= 2**63 else number


def _words(start: int, end: int, device: torch.device) -> Tensor:  # (end - start,) int64
    return torch.arange(start, end, dtype=torch.int64, device=device)


def _mix(words: Tensor) -> Tensor:
    """splitmix64's finalizer, in place; torch shifts signed numbers, hence the masks."""
    for shift, factor in ((30, M2), (27, M3)):
        words.bitwise_xor_((words >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(_signed(factor))
    return words.bitwise_xor_((words >> 31).bitwise_and_((1 << 33) - 1))


def _matrix(number: int, n: int, limit: int, device: torch.device) -> Tensor:  # (n, n) float32
    words = _mix(_words(1, 1 + n * n // 8, device).mul_(_signed(M1)).add_(_signed(number)))
    entries = words.view(torch.uint8).remainder_(2 * limit + 1).to(torch.float32)
    return entries.sub_(limit).view(n, n)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, exactly: with tensor cores on a card that has them, which hold such entries and sum in float32."""
    if left.device.type == "cuda":
        return torch.mm(left.to(torch.bfloat16), right.to(torch.bfloat16), out_dtype=torch.float32)
    return left @ right


def _fold(product: Tensor, number: int) -> Tensor:  # (n, n) float32 -> (n,) int64
    n = len(product)
    offsets = _words(0, n, product.device).mul_(_signed(M1)).add_(_signed(number))
    strips = torch.split(product, max(1, _STRIP_WORDS // n))
    return torch.cat([_mix(strip.to(torch.int64).add_(offsets)).sum(1) for strip in strips])


def _bytes(words: Tensor) -> bytes:
    return words.cpu().numpy().astype("<i8", copy=False).tobytes()


def _read(path: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as err:
        raise BadRequest(f"{str(path)!r} cannot be read: {err}.", effect="The challenge is not answered.") from err


def _awaited(path: Path) -> Path:
    """The path of a file that the node puts there, whole, by renaming it."""
    until = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if time.monotonic() > until:
            raise Unavailable(f"{path.name!r} did not come within {_PATIENCE_S:.0f} s.")
        time.sleep(_LOOK_EVERY_S)
    return path
