"""The stream to the coordinator: greets, delivers what is journaled until acknowledged, comes back when cut off."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import GristmillError, NotAllowed, NotSignedIn, Unavailable
from gristmill_protocol.signing import GREETING_TYPE, Domain, sign
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_protocol.v1.provider_pb2_grpc import ProviderLinkStub
from gristmill_provider.config import is_loopback
from gristmill_provider.journal import Entry, Journal
from gristmill_provider.owner import Market

logger = structlog.get_logger(__name__)

Outgoing = asyncio.Queue[pb.NodeMessage]

_GREETING_TIMEOUT_S = 20
_MAX_MESSAGE_BYTES = 16 * 1024**2
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),  # notices a coordinator that vanished without a word
    ("grpc.keepalive_timeout_ms", 10_000),
)
_LOST = (grpc.aio.AioRpcError, ConnectionError, TimeoutError)


class Replaced(NotAllowed):
    """Another process runs with this node's id and key, and has taken its place."""


@dataclass(frozen=True)
class Coordinator:
    """Where the coordinator is, and how often a lost connection is tried again.

    Args:
        address: host:port; TLS, unless it is this very machine.
        certificates: of its authority, PEM; None: the public ones.
        retry_s: shortest and longest pause between tries; each is doubled, and up to half of it taken off by chance.
    """

    address: str
    certificates: bytes | None = None
    retry_s: tuple[float, float] = (0.5, 30.0)


def open_channel(coordinator: Coordinator) -> grpc.aio.Channel:
    """A channel to it; nothing is dialled yet."""
    address = coordinator.address
    if address.startswith("unix:") or is_loopback(address.rpartition(":")[0]):
        return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(coordinator.certificates)
    return grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)


class Link:
    """One node's connection.

    Args:
        hello: who the node is; its key is the address of key.
        upload: sees that the coordinator has an artifact.
        offer: what the node sells right now.
        heartbeat: what it is doing right now.
        on_message: called with each message that is not the link's own business.
        on_time: called with the coordinator's clock, unix seconds, when it has greeted.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        hello: pb.Hello,
        key: LocalAccount,
        journal: Journal,
        upload: Callable[[str], Awaitable[None]],
        offer: Callable[[], pb.Offer],
        heartbeat: Callable[[], pb.Heartbeat],
        on_message: Callable[[pb.CoordinatorMessage], None],
        on_time: Callable[[float], None],
    ) -> None:
        self._coordinator = coordinator
        self._hello = hello
        self._key = key
        self._journal = journal
        self._upload = upload
        self._offer = offer
        self._heartbeat = heartbeat
        self._on_message = on_message
        self._on_time = on_time
        self._journal_changed = asyncio.Event()
        self._outgoing: Outgoing | None = None  # None: not connected
        self._welcome = pb.Welcome()
        self._market: Market | None = None

    @property
    def token(self) -> str:
        """Bearer token for the artifact endpoints, as it was given last."""
        return self._welcome.token

    @property
    def market(self) -> Market:
        """Whom the node deals with. Known before the first message comes in."""
        if self._market is None:
            raise Unavailable("The coordinator has not introduced itself yet.")
        return self._market

    @property
    def node_id(self) -> str:
        return self._hello.node_id

    @property
    def connected(self) -> bool:
        return self._outgoing is not None

    def send(self, message: pb.NodeMessage) -> None:
        """Say something that is worth nothing once late: it is dropped while there is no connection."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)

    def deliver(
        self, message: pb.NodeMessage, uploads: tuple[str, ...] = (), *, ends: str = "", now_s: float = 0
    ) -> None:
        """Say something that must arrive, now or after the next restart; arguments as in Journal.add."""
        self._journal.add(message, uploads, ends=ends, now_s=now_s)
        self._journal_changed.set()

    def send_offer(self) -> None:
        """Tell the coordinator that the offer has changed; a new connection begins with it anyway."""
        self.send(pb.NodeMessage(offer=self._offer()))

    async def drained(self) -> None:
        """Return once everything journaled is acknowledged."""
        while self._journal.after(0) is not None:
            self._journal_changed.clear()
            await self._journal_changed.wait()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            NotAllowed: the coordinator refused the node at its first greeting.
            Replaced: another process has taken the node's place.
        """
        shortest, longest = self._coordinator.retry_s
        pause = shortest
        while True:
            try:
                await self._connect()
                pause = shortest
            except NotAllowed as refusal:
                if self._market is None or isinstance(refusal, Replaced):
                    raise
                logger.error("coordinator_refused", reason=str(refusal))
                pause = longest
            except _LOST as err:
                logger.warning("coordinator_unreachable", address=self._coordinator.address, reason=_short(err))
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, longest)

    async def _connect(self) -> None:
        """Greet and talk; returns when a stream that was welcomed has ended, raises when it never was."""
        async with open_channel(self._coordinator) as channel:
            outgoing: Outgoing = asyncio.Queue()
            stream = ProviderLinkStub(channel).Connect(_written(outgoing))
            async with asyncio.timeout(_GREETING_TIMEOUT_S):
                await self._greet(stream, outgoing)
            logger.info("coordinator_connected", address=self._coordinator.address)
            self._outgoing = outgoing
            self.send_offer()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._beat())
                    tasks.create_task(self._deliver())
                    await self._listen(stream)
            except* _LOST as lost:
                logger.warning("coordinator_lost", reason=_short(lost.exceptions[0]))
            except* Replaced as replaced:
                raise replaced.exceptions[0] from replaced
            except* NotAllowed as refused:
                logger.error("coordinator_refused", reason=str(refused.exceptions[0]))
            finally:
                self._outgoing = None

    async def _greet(self, stream: Any, outgoing: Outgoing) -> None:
        outgoing.put_nowait(pb.NodeMessage(hello=self._hello))
        challenge = (await _read(stream, "challenge")).challenge
        registry = Domain.registry(challenge.chain_id, challenge.registry)
        message: dict[str, object] = {"challenge": challenge.challenge, "provider": self._hello.provider}
        signature = sign(self._key, registry, GREETING_TYPE, message)
        outgoing.put_nowait(pb.NodeMessage(greeting=pb.Greeting(signature=signature)))
        self._welcome = (await _read(stream, "welcome")).welcome
        self._market = Market(
            ledger=Domain.ledger(challenge.chain_id, challenge.ledger),
            registry=registry,
            coordinator=challenge.coordinator,
            operator=challenge.operator,
        )
        self._journal.payables.meet(self._market)
        self._on_time(self._welcome.now_ms / 1000)

    async def _listen(self, stream: Any) -> None:
        """Take what comes in until the stream ends, then raise ConnectionError: that ends its siblings."""
        while True:
            message = await _read(stream)
            match message.WhichOneof("body"):
                case "ack":
                    self._journal.acknowledge(message.ack.seq)
                    self._journal_changed.set()
                case "welcome":  # the token is renewed before it expires
                    self._welcome = message.welcome
                case _:
                    self._on_message(message)

    async def _beat(self) -> None:
        while True:
            self.send(pb.NodeMessage(heartbeat=self._heartbeat()))
            await asyncio.sleep(max(1, self._welcome.heartbeat_s))

    async def _deliver(self) -> None:
        """Send what is journaled, in order, each message after its artifacts."""
        sent = 0
        while True:
            entry = self._journal.after(sent)
            if entry is None:
                self._journal_changed.clear()
                await self._journal_changed.wait()
                continue
            self.send(await self._with_uploads(entry))
            sent = entry.message.seq

    async def _with_uploads(self, entry: Entry) -> pb.NodeMessage:
        """The entry's message once its artifacts are with the coordinator, or what is true if they never will be."""
        pause = self._coordinator.retry_s[0]
        for sha256 in entry.uploads:
            while True:
                try:
                    await self._upload(sha256)
                    break
                except (Unavailable, NotSignedIn) as err:
                    logger.warning("upload_postponed", sha256=sha256, reason=str(err))
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, self._coordinator.retry_s[1])
                except GristmillError as err:
                    logger.error("upload_refused", sha256=sha256, reason=str(err))
                    return _without_upload(entry.message, err)
        return entry.message


def _without_upload(message: pb.NodeMessage, refusal: GristmillError) -> pb.NodeMessage:
    honest = pb.NodeMessage()
    honest.CopyFrom(message)
    match message.WhichOneof("body"):
        case "segment":
            honest.segment.uploaded = False
        case "attempt":
            failed = pb.AttemptUpdate(attempt_id=message.attempt.attempt_id, state=pb.AttemptUpdate.FAILED)
            failed.code, failed.reason = refusal.code, f"The result could not be handed over. {refusal}"
            honest.attempt.CopyFrom(failed)
    return honest


async def _read(stream: Any, wanted: str = "") -> pb.CoordinatorMessage:
    """The next message of the stream.

    Raises:
        NotAllowed: the coordinator says why it does not take the node.
        ConnectionError: the stream ended, or the message is not of the wanted kind.
    """
    message = await stream.read()
    if message is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
        raise ConnectionError("the coordinator ended the stream")
    assert isinstance(message, pb.CoordinatorMessage)
    kind = message.WhichOneof("body")
    if kind == "refused":
        refused = message.refused
        kind_of = Replaced if refused.replaced else NotAllowed
        raise kind_of(refused.what, effect=refused.effect, todo=refused.todo)
    if wanted and kind != wanted:
        raise ConnectionError(f"the coordinator sent {kind!r} where {wanted!r} was due")
    return message


async def _written(outgoing: Outgoing) -> AsyncIterator[pb.NodeMessage]:
    while True:
        yield await outgoing.get()


def _short(err: BaseException) -> str:
    return (err.details() or "") if isinstance(err, grpc.aio.AioRpcError) else str(err) or type(err).__name__
