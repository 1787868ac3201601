from gristmill_coordinator.links import Links
from gristmill_protocol.v1 import provider_pb2 as pb

ACK = pb.CoordinatorMessage(ack=pb.Ack(seq=1))


def test_a_message_reaches_the_connected_node_only() -> None:
    links = Links()
    outbox = links.register("node_a")

    assert links.send("node_a", ACK)
    assert not links.send("node_b", ACK)

    assert outbox.get_nowait() == ACK
    assert links.connected() == {"node_a"}


def test_a_newer_stream_of_a_node_ends_the_older() -> None:
    links = Links()
    older = links.register("node_a")
    links.send("node_a", ACK)

    newer = links.register("node_a")
    links.send("node_a", ACK)

    said = older.get_nowait()
    assert said is not None
    assert said.refused.replaced
    assert older.get_nowait() is None
    assert newer.get_nowait() == ACK
    assert not links.unregister("node_a", older)
    assert links.connected() == {"node_a"}
    assert links.unregister("node_a", newer)
    assert links.connected() == frozenset()


def test_a_node_that_does_not_read_is_cut_off() -> None:
    links = Links()
    outbox = links.register("node_a")

    sent = [links.send("node_a", ACK) for _ in range(257)]

    assert sent == [True] * 256 + [False]
    assert outbox.get_nowait() is None


def test_a_dismissed_node_hears_why_and_nothing_else() -> None:
    links = Links()
    outbox = links.register("node_a")
    links.send("node_a", ACK)
    why = pb.CoordinatorMessage(refused=pb.Refused(what="no"))

    links.dismiss("node_a", why)

    assert [outbox.get_nowait(), outbox.get_nowait()] == [why, None]
    assert outbox.empty()
