"""The nodes that are connected to this process, and the way to say something to one of them."""

import asyncio

from gristmill_protocol.v1 import provider_pb2 as pb

# A node that leaves this many messages unread is as good as gone.
_MAX_WAITING = 256

_REPLACED = pb.CoordinatorMessage(
    refused=pb.Refused(
        what="Another process has connected with this node's id and key.",
        effect="It takes this one's place.",
        todo="Stop one of them, or give it a state_dir of its own that was never copied.",
        replaced=True,
    )
)

Outbox = asyncio.Queue[pb.CoordinatorMessage | None]  # None: the stream has to end


class Links:
    """One outgoing queue per connected node; the servicer fills and empties the registry, stages only send."""

    def __init__(self) -> None:
        self._outboxes: dict[str, Outbox] = {}

    def register(self, node_id: str) -> Outbox:
        """The queue whose messages go to the node. An older stream of the same node hears so and ends."""
        older = self._outboxes.get(node_id)
        if older is not None:
            _end(older, _REPLACED)
        outbox: Outbox = asyncio.Queue(_MAX_WAITING)
        self._outboxes[node_id] = outbox
        return outbox

    def unregister(self, node_id: str, outbox: Outbox) -> bool:
        """Forget the stream that reads outbox; False if a newer stream of the node has replaced it."""
        if self._outboxes.get(node_id) is not outbox:
            return False
        del self._outboxes[node_id]
        return True

    def send(self, node_id: str, message: pb.CoordinatorMessage) -> bool:
        """Queue a message for a node; False if it is not connected here. True is no proof that it arrives."""
        outbox = self._outboxes.get(node_id)
        if outbox is None:
            return False
        try:
            outbox.put_nowait(message)
        except asyncio.QueueFull:
            _end(outbox)
            return False
        return True

    def dismiss(self, node_id: str, message: pb.CoordinatorMessage) -> None:
        """Say a last thing to a node, instead of what is still waiting; its stream ends after it."""
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            _end(outbox, message)

    def connected(self) -> frozenset[str]:
        """Ids of the nodes that are connected to this process."""
        return frozenset(self._outboxes)


def _end(outbox: Outbox, *last: pb.CoordinatorMessage) -> None:
    while not outbox.empty():
        outbox.get_nowait()
    for message in (*last, None):
        outbox.put_nowait(message)
