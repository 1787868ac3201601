"""What a provider commits to before it knows what will be checked: segment records, window roots and the draw."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

from pydantic import Field

from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import Hex, Message, Sha256Hex
from gristmill_protocol.merkle import merkle_root
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, struct_hash


class SegmentRecord(Message):
    """One segment's claim: from this state, over these batches, to that state."""

    job_id: str
    index: int = Field(ge=0, lt=2**32)
    step_from: int = Field(ge=0)
    step_to: int = Field(gt=0)
    state_root_prev: Sha256Hex
    state_root: Sha256Hex
    data_root: Sha256Hex  # over one digest a step: which examples, in which order
    metrics_root: Sha256Hex  # over one digest a step: the logged numbers
    micro_root: Sha256Hex  # over one digest a micro-batch: its loss
    started_ms: int
    ended_ms: int
    numeric_class: Sha256Hex

    def typed(self) -> dict[str, object]:
        """The EIP-712 message of SEGMENT_RECORD_TYPE."""
        return {
            "job": id_bytes32(self.job_id),
            "index": self.index,
            "stepFrom": self.step_from,
            "stepTo": self.step_to,
            "stateRootPrev": bytes.fromhex(self.state_root_prev),
            "stateRoot": bytes.fromhex(self.state_root),
            "dataRoot": bytes.fromhex(self.data_root),
            "metricsRoot": bytes.fromhex(self.metrics_root),
            "microRoot": bytes.fromhex(self.micro_root),
            "startedMs": self.started_ms,
            "endedMs": self.ended_ms,
            "numericClass": bytes.fromhex(self.numeric_class),
        }

    def leaf(self) -> bytes:
        """The record's leaf in its window's tree: SHA256(0x01 || EIP-712 struct hash)."""
        return sha256(b"\x01" + struct_hash(SEGMENT_RECORD_TYPE, self.typed())).digest()


class SignedRecord(Message):
    record: SegmentRecord
    signature: Hex


def window_root(records: Sequence[SegmentRecord]) -> bytes:
    """Root over a window's records in order."""
    return merkle_root([record.leaf() for record in records])


def chain_break(records: Sequence[SegmentRecord]) -> str | None:
    """Why consecutive records do not form one training run, or None if they do."""
    for record in records:
        if record.step_to <= record.step_from:
            return f"segment {record.index} covers no step"
        if record.state_root == record.state_root_prev:
            return f"segment {record.index} left the state unchanged"
    for before, after in pairwise(records):
        if (after.index, after.step_from, after.state_root_prev) != (
            before.index + 1,
            before.step_to,
            before.state_root,
        ):
            return f"segment {after.index} does not continue segment {before.index}"
    return None


def draw_segments(
    *, beacon: bytes, job_id: str, window_id: str, root: bytes, first_index: int, count: int, samples: int
) -> tuple[int, ...]:
    """The segment indices to audit, ascending; anyone can recompute it from public data.

    A job's segment 0 is always audited as well, so it takes no sample. Draws are without replacement: a partial
    Fisher-Yates shuffle driven by SHA-256(seed || counter), with rejection sampling so that no index is favoured.

    Args:
        first_index: index within the job of the window's first segment.
        count: segments in the window.
        samples: how many to draw besides segment 0.
    """
    seed = sha256(beacon + id_bytes32(job_id) + id_bytes32(window_id) + root).digest()
    indices = list(range(first_index, first_index + count))
    always = [index for index in indices if index == 0]
    pool = [index for index in indices if index != 0]
    drawn = []
    stream = _Uniform(seed)
    for at in range(min(samples, len(pool))):
        other = at + stream.below(len(pool) - at)
        pool[at], pool[other] = pool[other], pool[at]
        drawn.append(pool[at])
    return tuple(sorted(always + drawn))


class _Uniform:
    """Uniform integers from a seed, by hashing a counter."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._counter = 0

    def below(self, bound: int) -> int:
        limit = (1 << 64) - (1 << 64) % bound
        while True:
            digest = sha256(self._seed + self._counter.to_bytes(8, "little")).digest()
            self._counter += 1
            value = int.from_bytes(digest[:8], "little")
            if value < limit:
                return value % bound
