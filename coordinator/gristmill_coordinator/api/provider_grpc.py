"""The node's side door: prove who it is, then pass each of its messages to the stage that it is for, in order."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import structlog

from gristmill_coordinator.api.auth import issue, node_subject
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.links import Outbox
from gristmill_coordinator.market import nodes
from gristmill_coordinator.market.operators import network
from gristmill_coordinator.stages import (
    audit,
    certifying,
    challenges,
    dispatch,
    disputes,
    hearings,
    metering,
    payables,
)
from gristmill_protocol.errors import BadRequest, GristmillError, PortInUse, Unavailable
from gristmill_protocol.ids import node_prefix
from gristmill_protocol.signing import GREETING_TYPE, require_signer
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_protocol.v1.provider_pb2_grpc import ProviderLinkServicer, add_ProviderLinkServicer_to_server

logger = structlog.get_logger(__name__)

TOKEN_TTL_S = 86_400

_GREETING_TIMEOUT_S = 20
_MAX_MESSAGE_BYTES = 16 * 1024**2
_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a lottery
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

Handler = Callable[[Coordinator, str, Any], Awaitable[None]]

_HANDLERS: dict[str, Handler] = {
    "offer": nodes.offer_received,
    "heartbeat": nodes.heartbeat,
    "lease_reply": dispatch.lease_replied,
    "attempt": dispatch.attempt_updated,
    "progress": metering.progress_reported,
    "segment": metering.segment_reported,
    "receipt": metering.receipt_reported,
    "state": audit.state_replied,
    "commitment": audit.audit_committed,
    "audit": audit.audit_replied,
    "challenge": challenges.challenge_replied,
    "certificate": certifying.certificate_replied,
    "dispute": disputes.stance_told,
    "referee": hearings.digest_told,
}


async def serve(co: Coordinator, address: str) -> grpc.aio.Server:
    """A started server for nodes at host:port (or unix:path); stop it with its stop().

    Raises:
        BadSettings: no certificate for an address that others can reach.
        PortInUse: another program listens there.
    """
    server = grpc.aio.server(options=_SERVER_OPTIONS)
    add_ProviderLinkServicer_to_server(ProviderLink(co), server)
    co.config.require_encryption(address)
    certificate, key = co.config.tls_certificate, co.config.tls_key
    try:
        if certificate is not None and key is not None:
            pair = (key.read_bytes(), certificate.read_bytes())
            server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(address)
    except RuntimeError as err:  # all that grpc says of a port it cannot have
        raise PortInUse(
            f"{address} is in use or cannot be listened on.",
            effect="The coordinator was not started.",
            todo="Stop the other program, or choose another grpc_address.",
        ) from err
    await server.start()
    return server


class ProviderLink(ProviderLinkServicer):
    """The stream of provider.proto."""

    def __init__(self, co: Coordinator) -> None:
        self._co = co

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        try:
            async with asyncio.timeout(_GREETING_TIMEOUT_S):
                node_id = await self._greet(context)
        except Unavailable as err:  # no verdict on the node: it has to try again
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(err))
        except GristmillError as refusal:
            logger.info("node_refused", peer=context.peer(), reason=str(refusal))
            await context.write(_refused(refusal))
            return
        except (TimeoutError, EOFError):
            return
        await self._talk(node_id, context)

    async def _greet(self, context: Any) -> str:
        """The id of a node that has proven its key."""
        hello: pb.Hello = (await _expect(context, "hello")).hello
        if not hello.node_id.startswith(node_prefix(hello.key)) or len(hello.node_id) > 100:
            raise BadRequest(
                f"The node id {hello.node_id!r} does not belong to the key {hello.key}.",
                effect="The node is not connected.",
                todo="Let the node choose its id itself: delete node_id in its state folder.",
            )
        info = self._co.chain.info
        challenge = secrets.token_bytes(32)
        asked = pb.Challenge(
            challenge=challenge,
            chain_id=info.chain_id,
            registry=info.registry,
            ledger=info.ledger,
            coordinator=info.coordinator_id,
            operator=info.operator,
        )
        await context.write(pb.CoordinatorMessage(challenge=asked))
        greeting: pb.Greeting = (await _expect(context, "greeting")).greeting
        signed: dict[str, object] = {"challenge": challenge, "provider": hello.provider}
        require_signer(info.registry_domain, GREETING_TYPE, signed, greeting.signature, hello.key)
        await nodes.node_connected(self._co, hello, network(context.peer()))
        return hello.node_id

    async def _talk(self, node_id: str, context: Any) -> None:
        """Until the node is silent for too long, leaves, or is replaced by a newer stream of itself."""
        co = self._co
        outbox = co.links.register(node_id)
        co.links.send(node_id, self._welcome(node_id))
        logger.info("node_connected", node_id=node_id)
        try:
            await payables.node_returned(co, node_id)
            await _until_one_ends(self._listen(node_id, context), _write(outbox, context), self._renew_token(node_id))
        finally:
            if co.links.unregister(node_id, outbox):
                await nodes.node_disconnected(co, node_id)
                logger.info("node_disconnected", node_id=node_id)

    async def _listen(self, node_id: str, context: Any) -> None:
        silence_s = self._co.config.heartbeat_s * self._co.config.missed_heartbeats
        with suppress(EOFError):
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        message = await _read(context)
                except TimeoutError:
                    logger.warning("node_silent", node_id=node_id, silence_s=silence_s)
                    return
                if not await self._handle(node_id, message):
                    return
                if message.seq:
                    self._co.links.send(node_id, pb.CoordinatorMessage(ack=pb.Ack(seq=message.seq)))

    async def _handle(self, node_id: str, message: pb.NodeMessage) -> bool:
        """Pass a message to its stage; False if the stream has to end, so that the node sends it again later."""
        kind = message.WhichOneof("body")
        handler = _HANDLERS.get(kind or "")
        if handler is None:
            logger.warning("node_message_ignored", node_id=node_id, kind=kind)
            return True
        try:
            await handler(self._co, node_id, getattr(message, kind or ""))
        except Unavailable as err:
            logger.warning("node_message_postponed", node_id=node_id, kind=kind, reason=str(err))
            return False
        except GristmillError as err:
            # To see it again would change nothing: a journaled one is acknowledged, or it would block those behind it.
            logger.warning("node_message_refused", node_id=node_id, kind=kind, reason=str(err))
            if kind == "offer":
                self._co.links.dismiss(node_id, _refused(err))
        except Exception:
            logger.exception("node_message_broke", node_id=node_id, kind=kind)
            return False
        return True

    async def _renew_token(self, node_id: str) -> None:
        while True:
            await asyncio.sleep(TOKEN_TTL_S / 2)
            self._co.links.send(node_id, self._welcome(node_id))

    def _welcome(self, node_id: str) -> pb.CoordinatorMessage:
        config = self._co.config
        token = issue(self._co.secret, node_subject(node_id), TOKEN_TTL_S, self._co.clock())
        welcome = pb.Welcome(token=token, heartbeat_s=config.heartbeat_s, lease_reply_s=config.lease_reply_s)
        welcome.now_ms = int(self._co.clock() * 1000)
        return pb.CoordinatorMessage(welcome=welcome)


async def _write(outbox: Outbox, context: Any) -> None:
    while (message := await outbox.get()) is not None:
        await context.write(message)


async def _read(context: Any) -> pb.NodeMessage:
    """Raises:
    EOFError: the node has ended the stream.
    """
    message = await context.read()
    if message is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
        raise EOFError
    assert isinstance(message, pb.NodeMessage)
    return message


async def _expect(context: Any, kind: str) -> pb.NodeMessage:
    message = await _read(context)
    if message.WhichOneof("body") != kind:
        raise BadRequest(f"The node sent {message.WhichOneof('body')!r} where {kind!r} was due.")
    return message


async def _until_one_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them together until the first ends; its exception, if any, is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _refused(err: GristmillError) -> pb.CoordinatorMessage:
    return pb.CoordinatorMessage(refused=pb.Refused(what=err.what, effect=err.effect, todo=err.todo))
