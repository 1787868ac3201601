"""Stage 4, metering: signed segment records and receipts, taken once each, and progress for people."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.v1 import provider_pb2 as pb


async def segment_reported(co: Coordinator, node_id: str, report: pb.SegmentReport) -> None:
    """Store a segment's signed record; the first record of an index stands."""
    raise NotImplementedError


async def receipt_reported(co: Coordinator, node_id: str, receipt: pb.Receipt) -> None:
    """Store a signed receipt if its number is the highest so far."""
    raise NotImplementedError


async def progress_reported(co: Coordinator, node_id: str, progress: pb.Progress) -> None:
    """Show a step to the renter, at most about once a second."""
    raise NotImplementedError
