"""What is committed of each step: three Merkle trees over one digest a step, or a micro-batch.

data leaf    = SHA256("gristmill/data\\0" || step u64le || digest of each example of the batch, in order)
metrics leaf = SHA256("gristmill/metrics\\0" || step u64le || canonical JSON of the logged numbers)
micro leaf   = SHA256("gristmill/micro\\0" || step u64le || micro-batch u64le || its loss f64le)
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.merkle import merkle_root


@dataclass
class StepLog:
    """Leaves of the steps since the last segment's end."""

    _data: list[bytes] = field(default_factory=list)
    _metrics: list[bytes] = field(default_factory=list)
    _micro: list[bytes] = field(default_factory=list)

    def add(
        self, step: int, *, examples: Iterable[bytes], metrics: Mapping[str, float], losses: Iterable[float]
    ) -> None:
        """Record one step: digests of its examples in order, its numbers, the loss of each micro-batch."""
        at = step.to_bytes(8, "little")
        self._data.append(sha256(b"gristmill/data\0" + at + b"".join(examples)).digest())
        self._metrics.append(sha256(b"gristmill/metrics\0" + at + canonical_json(dict(metrics))).digest())
        for index, loss in enumerate(losses):
            self._micro.append(sha256(b"gristmill/micro\0" + at + struct.pack("<Qd", index, loss)).digest())

    def roots(self) -> dict[str, str]:
        """The three roots in hex, by the field names of a segment record."""
        return {
            "data_root": merkle_root(self._data).hex(),
            "metrics_root": merkle_root(self._metrics).hex(),
            "micro_root": merkle_root(self._micro).hex(),
        }
