"""Stage 3, dispatch: the lease is offered to the node, and the attempt follows what the node says."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.v1 import provider_pb2 as pb


async def lease_replied(co: Coordinator, node_id: str, reply: pb.LeaseReply) -> None:
    """A node takes or declines the attempt it was offered."""
    raise NotImplementedError


async def attempt_updated(co: Coordinator, node_id: str, update: pb.AttemptUpdate) -> None:
    """An attempt moves on; an update about another node's attempt, or one that ended, changes nothing."""
    raise NotImplementedError
