"""The canonical digest of a training state: equal bits give equal roots on every machine and in every library.

    chunk      = SHA256(0x00 || up to 4 MiB of raw little-endian bytes)
    T          = MerkleRoot(chunks)
    leaf       = SHA256(0x01 || len(name) u64le || name || dtype u8 || ndim u8 || dims u64le || nbytes u64le || T)
    state_root = MerkleRoot(leaves)

A tensor's name is its section and its fully qualified name, as in "param/head.weight" or "opt/head.weight/exp_avg".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from math import prod

from gristmill_protocol.merkle import merkle_root

CHUNK_BYTES = 4 * 1024 * 1024

# Sections in canonical order; inside one, tensors are sorted by the UTF-8 bytes of their name.
SECTIONS = ("meta", "param", "buffer", "opt", "sched", "scaler", "rng")

# Codes are part of the digest: never renumber. Names are those of safetensors; the second value is bytes per element.
DTYPES = {
    "BOOL": (0, 1),
    "U8": (1, 1),
    "I8": (2, 1),
    "I16": (3, 2),
    "U16": (4, 2),
    "I32": (5, 4),
    "U32": (6, 4),
    "I64": (7, 8),
    "U64": (8, 8),
    "F16": (9, 2),
    "BF16": (10, 2),
    "F32": (11, 4),
    "F64": (12, 8),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a state.

    Args:
        name: section/qualified.name, the section being one of SECTIONS.
        dtype: a key of DTYPES.
        data: raw little-endian bytes, row-major, contiguous.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        expected = prod(self.shape) * DTYPES[self.dtype][1]
        if memoryview(self.data).nbytes != expected:
            raise ValueError(f"tensor {self.name!r} of {self.dtype}{self.shape} needs {expected} bytes")
        if self.section not in SECTIONS:
            raise ValueError(f"tensor {self.name!r} is in no section of {SECTIONS}")

    @property
    def section(self) -> str:
        return self.name.partition("/")[0]


def state_root(tensors: Iterable[Tensor]) -> bytes:
    """SHA-256 Merkle root over the tensors in canonical order, whatever order they come in.

    Raises:
        ValueError: two tensors share a name.
    """
    ordered = sorted(tensors, key=lambda tensor: (SECTIONS.index(tensor.section), tensor.name.encode()))
    names = [tensor.name for tensor in ordered]
    if len(set(names)) != len(names):
        raise ValueError("two tensors of a state share a name")
    return merkle_root([tensor_leaf(tensor) for tensor in ordered])


def tensor_leaf(tensor: Tensor) -> bytes:
    """Digest of one tensor: its name, type, shape and content."""
    data = memoryview(tensor.data).cast("B")
    chunks = [sha256(b"\x00" + data[at : at + CHUNK_BYTES]).digest() for at in range(0, data.nbytes, CHUNK_BYTES)]
    name = tensor.name.encode()
    header = [b"\x01", _u64(len(name)), name, bytes([DTYPES[tensor.dtype][0], len(tensor.shape)])]
    header += [_u64(dim) for dim in tensor.shape]
    return sha256(b"".join([*header, _u64(data.nbytes), merkle_root(chunks)])).digest()


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")
