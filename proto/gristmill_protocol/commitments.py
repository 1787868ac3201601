"""What parties commit to before they know what follows: segment records and window roots, the draws, the answers."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise

from pydantic import Field

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.jobs import Hex, Message, Sha256Hex
from gristmill_protocol.merkle import merkle_root
from gristmill_protocol.progress import Evaluated, Replayed
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, struct_hash

PPM = 1_000_000


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


def draw_seed(*, beacon: bytes, job_id: str, window_id: str, root: bytes) -> bytes:
    """What every draw about a window follows from: SHA256(beacon || SHA256(job id) || SHA256(window id) || root).

    Args:
        beacon: prevrandao of the block after the one that anchored the window; unknown when root was committed to.
    """
    return sha256(beacon + id_bytes32(job_id) + id_bytes32(window_id) + root).digest()


def draw_segments(seed: bytes, *, first_index: int, count: int, samples_ppm: int, ends_job: bool) -> tuple[int, ...]:
    """The segment indices to audit, ascending; anyone can recompute it from public data, in integers alone.

    A job's segment 0 and the one that ends it are always audited as well, so they take no sample. The stream is
    SHA-256(seed || counter u64le), its first 8 bytes little-endian; numbers above the greatest multiple of the bound
    are rejected, none is favoured. Its first number, below a million, decides whether the fraction of samples_ppm makes
    one more sample. The next drive a partial Fisher-Yates shuffle: draws are without replacement.

    Args:
        seed: as draw_seed gives it.
        first_index: index within the job of the window's first segment.
        count: segments in the window.
        samples_ppm: how many to draw besides those, in millionths: 2_250_000 is two, and a third in a quarter of the
            windows.
        ends_job: whether the window's last segment reaches the job's last step.
    """
    indices = range(first_index, first_index + count)
    always = [index for index in indices if index == 0 or (ends_job and index == indices[-1])]
    pool = [index for index in indices if index not in always]
    stream = _Uniform(seed)
    whole, fraction_ppm = divmod(samples_ppm, PPM)
    samples = whole + (stream.below(PPM) < fraction_ppm)
    drawn = []
    for at in range(min(samples, len(pool))):
        other = at + stream.below(len(pool) - at)
        pool[at], pool[other] = pool[other], pool[at]
        drawn.append(pool[at])
    return tuple(sorted(always + drawn))


def draw_seconds(seed: bytes, drawn: Sequence[int], *, second_ppm: int) -> tuple[int, ...]:
    """Those of the drawn segments that two verifiers re-run from the start, each by a chance of second_ppm millionths.

    A number below a million from the stream of SHA256("second" || seed) decides for each, in the order of drawn.
    """
    stream = _Uniform(sha256(b"second" + seed).digest())
    return tuple(index for index in drawn if stream.below(PPM) < second_ppm)


def draw_verifier(stakes: Mapping[str, int], seed: bytes) -> str:
    """One of the node ids, with a chance in proportion to its stake; nobody counts for more than a tenth of the pool.

    Ten or fewer nodes are equal then, so that one rich verifier cannot check everything.

    Args:
        stakes: node id -> stake in micro-USD; at least one.
        seed: as verifier_seed gives it.
    """
    most = max(1, sum(stakes.values()) // 10)
    weights = {node_id: min(max(stakes[node_id], 1), most) for node_id in sorted(stakes)}
    # The modulo's bias is below 2^-190: a digest is far longer than any sum of stakes.
    at = int.from_bytes(sha256(b"verifier" + seed).digest()) % sum(weights.values())
    for node_id, weight in weights.items():
        at -= weight
        if at < 0:
            return node_id
    raise ValueError("no verifier to draw from")


def verifier_seed(seed: bytes, segment: int, why: str) -> bytes:
    """The seed of the draw of an audit's verifier: for each segment anew, and for each reason (AuditView.why_drawn)."""
    return sha256(seed + segment.to_bytes(8, "little") + why.encode()).digest()


def answer_digest(audit_id: str, salt: bytes, answer: Replayed | Evaluated) -> bytes:
    """What a verifier commits to before it says its answer: SHA256(0x04 || SHA256(audit id) || salt || answer).

    Args:
        salt: 32 random bytes, so that nobody finds the answer by trying likely ones.
        answer: its canonical JSON's SHA-256 is what enters.
    """
    return sha256(b"\x04" + id_bytes32(audit_id) + salt + sha256_json(answer.model_dump(mode="json"))).digest()


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
