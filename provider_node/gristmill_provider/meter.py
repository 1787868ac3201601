"""What a node signs of its work: a record of each segment, and receipts that count up."""

from eth_account.signers.local import LocalAccount

from gristmill_protocol.commitments import SegmentRecord, SignedRecord
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.progress import SegmentDone
from gristmill_protocol.signing import RECEIPT_TYPE, SEGMENT_RECORD_TYPE, Domain, sign
from gristmill_protocol.v1 import provider_pb2 as pb


class Meter:
    """Signs for one attempt.

    Args:
        domain: the Registry's.
        numeric_class: the machine's, hex.
        step_from: where the attempt began.
    """

    def __init__(
        self, key: LocalAccount, domain: Domain, *, job_id: str, attempt_id: str, numeric_class: str, step_from: int
    ) -> None:
        self._key = key
        self._domain = domain
        self._job_id = job_id
        self._attempt_id = attempt_id
        self._numeric_class = numeric_class
        self._step_from = step_from
        self._receipts = 0
        self._gpu_ms = 0

    def record(self, segment: SegmentDone) -> SignedRecord:
        """The segment's claim, with what the trainer cannot know, signed."""
        record = SegmentRecord(
            job_id=self._job_id,
            numeric_class=self._numeric_class,
            **segment.model_dump(exclude={"event", "state_file", "state_sha256"}),
        )
        signature = sign(self._key, self._domain, SEGMENT_RECORD_TYPE, record.typed())
        return SignedRecord(record=record, signature=signature)

    def receipt(self, segment: SegmentDone) -> pb.Receipt:
        """The attempt's use up to and with this segment, signed; call it once a segment, in order."""
        self._receipts += 1
        self._gpu_ms += max(0, segment.ended_ms - segment.started_ms)
        receipt = pb.Receipt(
            attempt_id=self._attempt_id,
            number=self._receipts,
            steps=segment.step_to - self._step_from,
            gpu_ms=self._gpu_ms,
        )
        receipt.signature = sign(self._key, self._domain, RECEIPT_TYPE, receipt_message(receipt))
        return receipt


def receipt_message(receipt: pb.Receipt) -> dict[str, object]:
    """The EIP-712 message of RECEIPT_TYPE."""
    return {
        "attempt": id_bytes32(receipt.attempt_id),
        "number": receipt.number,
        "steps": receipt.steps,
        "gpuMs": receipt.gpu_ms,
    }
