"""What is committed of each step: three Merkle trees over one digest a step, or a micro-batch.

data leaf    = SHA256("gristmill/data\\0" || step u64le || digest of each example of the batch, in order)
metrics leaf = SHA256("gristmill/metrics\\0" || step u64le || canonical JSON of the logged numbers)
micro leaf   = SHA256("gristmill/micro\\0" || step u64le || micro-batch u64le || its loss f64le)
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.merkle import merkle_root


@dataclass
class StepLog:
    """What the steps since the last segment's end did; it is hashed when the segment ends, not between two steps."""

    _steps: list[tuple[int, Sequence[bytes], Mapping[str, float], Sequence[float]]] = field(default_factory=list)

    def add(
        self, step: int, *, examples: Sequence[bytes], metrics: Mapping[str, float], losses: Sequence[float]
    ) -> None:
        """Record one step: digests of its examples in order, its numbers, the loss of each micro-batch."""
        self._steps.append((step, examples, metrics, losses))

    def roots(self) -> dict[str, str]:
        """The three roots in hex, by the field names of a segment record."""
        data, metrics, micro = [], [], []
        for step, examples, numbers, losses in self._steps:
            at = step.to_bytes(8, "little")
            data.append(sha256(b"gristmill/data\0" + at + b"".join(examples)).digest())
            metrics.append(sha256(b"gristmill/metrics\0" + at + canonical_json(dict(numbers))).digest())
            for index, loss in enumerate(losses):
                micro.append(sha256(b"gristmill/micro\0" + at + struct.pack("<Qd", index, loss)).digest())
        return {
            "data_root": merkle_root(data).hex(),
            "metrics_root": merkle_root(metrics).hex(),
            "micro_root": merkle_root(micro).hex(),
        }
