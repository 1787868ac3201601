"""Stage 5, audit: commit, anchor, draw, re-execute elsewhere, compare."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.v1 import provider_pb2 as pb


async def audit_replied(co: Coordinator, node_id: str, reply: pb.AuditReply) -> None:
    """Store a verifier's answer; the first answer to an audit stands."""
    raise NotImplementedError


async def state_replied(co: Coordinator, node_id: str, reply: pb.StateReply) -> None:
    """A node has uploaded the boundary state it was asked for, or cannot."""
    raise NotImplementedError
