"""Nodes as they come and go: who they are on chain, what they offer, when they were last heard."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.v1 import provider_pb2 as pb


async def node_connected(co: Coordinator, hello: pb.Hello) -> None:
    """Know a node whose key has been proven by its greeting.

    Raises:
        NotAllowed: the provider's on-chain node key is another, or its bond is too small.
        Conflict: the node id belongs to another provider.
    """
    raise NotImplementedError


async def offer_received(co: Coordinator, node_id: str, offer: pb.Offer) -> None:
    """Put a node's offer in the book, replacing its older one.

    Raises:
        BadRequest: the offer makes no sense.
    """
    raise NotImplementedError


async def heartbeat(co: Coordinator, node_id: str, beat: pb.Heartbeat) -> None:
    """Note that a node is alive and what it is doing."""
    raise NotImplementedError


async def node_disconnected(co: Coordinator, node_id: str) -> None:
    """Note that a node's stream ended; its attempts go on until it has been silent for too long."""
    raise NotImplementedError
