"""The coordinator as a node sees it: a real gRPC server that does what a test says, and an artifact store in memory."""

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import grpc.aio
import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from gristmill_protocol.errors import Conflict, GristmillError, NotFound, Problem
from gristmill_protocol.jobs import (
    ArtifactRef,
    DataStats,
    JobSpec,
    Order,
    Reservation,
    SignedOrder,
    SignedReservation,
    SignedStatement,
    Statement,
    StatementLine,
    TrainTask,
)
from gristmill_protocol.signing import (
    ORDER_TYPE,
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    Domain,
    order_message,
    reservation_message,
    sign,
    statement_message,
)
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_protocol.v1.provider_pb2_grpc import ProviderLinkServicer, add_ProviderLinkServicer_to_server
from gristmill_provider.owner import Market

OPERATOR: LocalAccount = Account.from_key("0x" + "0a" * 32)
RENTER: LocalAccount = Account.from_key("0x" + "0b" * 32)
STRANGER: LocalAccount = Account.from_key("0x" + "0c" * 32)

LEDGER = "0x" + "11" * 20
REGISTRY = "0x" + "22" * 20
MARKET = Market(
    ledger=Domain.ledger(31337, LEDGER),
    registry=Domain.registry(31337, REGISTRY),
    coordinator=1,
    operator=OPERATOR.address,
)
NONCE = 5
DEADLINE_S = 2**39
FORCED_FROM_S = DEADLINE_S - 2 * 86_400
DATA = b"a packed data set"
TOKEN = "let me in"

PATIENCE_S = 30.0  # a test fails before pytest's timeout does, which would leave the servers running


def ref(content: bytes) -> ArtifactRef:
    return ArtifactRef(sha256=sha256(content).hexdigest(), size_bytes=len(content))


def spec(**changes: Any) -> JobSpec:
    whole = JobSpec(
        recipe="image-sorter", data=ref(DATA), stats=DataStats(examples=4), seed=7, budget_usd_micros=1_000_000
    )
    return whole.model_copy(update=changes)


def task(attempt_id: str = "attempt_1", **changes: Any) -> TrainTask:
    whole = TrainTask(
        job_id="job_1", attempt_id=attempt_id, recipe="image-sorter", settings={}, seed=7, steps=10, segment_steps=4,
        data=ref(DATA),
    )  # fmt: skip
    return whole.model_copy(update=changes)


def signed_order(
    wanted: JobSpec, *, renter: LocalAccount = RENTER, market: Market = MARKET, **changes: Any
) -> SignedOrder:
    order = Order(
        key=renter.address, coordinator=1, spec_digest=wanted.digest().hex(), cap_usd_micros=600_000, nonce=NONCE,
        deadline_s=DEADLINE_S,
    ).model_copy(update=changes)  # fmt: skip
    return SignedOrder(order=order, signature=sign(renter, market.ledger, ORDER_TYPE, order_message(order)))


def reserved(
    *, renter: LocalAccount = RENTER, market: Market = MARKET, operator: LocalAccount = OPERATOR, **changes: Any
) -> SignedReservation:
    """The coordinator's promise to the node of these tests, provider 3."""
    whole = Reservation(
        key=renter.address, coordinator=market.coordinator, provider=3, nonce=NONCE, cap_usd_micros=600_000,
        accepted_usd_micros=0, forced_from_s=FORCED_FROM_S,
    ).model_copy(update=changes)  # fmt: skip
    signature = sign(operator, market.ledger, RESERVATION_TYPE, reservation_message(whole))
    return SignedReservation(reservation=whole, signature=signature)


def statement(
    *lines: tuple[int, int],
    renter: LocalAccount = RENTER,
    market: Market = MARKET,
    recipe: int = 1,
    verifier: int = 4,
    **changes: Any,
) -> SignedStatement:
    """A renter's statement that pays (provider, amount) each."""
    whole = Statement(
        nonce=NONCE,
        deadline_s=DEADLINE_S,
        lines=tuple(
            StatementLine(provider=provider, verifier=verifier, recipe=recipe, amount_usd_micros=amount)
            for provider, amount in lines
        ),
    ).model_copy(update=changes)
    signature = sign(renter, market.ledger, STATEMENT_TYPE, statement_message(whole))
    return SignedStatement(statement=whole, signature=signature)


def payable(paying: SignedStatement, promise: SignedReservation, attempt_id: str = "attempt_1") -> pb.Payable:
    return pb.Payable(
        attempt_id=attempt_id,
        signed_statement_json=paying.model_dump_json(),
        signed_reservation_json=promise.model_dump_json(),
    )


def lease(
    wanted: TrainTask | None = None,
    *,
    of: JobSpec | None = None,
    renter: LocalAccount = RENTER,
    order: SignedOrder | None = None,
    promise: SignedReservation | None = None,
    **changes: Any,
) -> pb.LeaseOffer:
    """A lease that a node in order takes."""
    of, wanted = of or spec(), wanted or task()
    order, promise = order or signed_order(of, renter=renter), promise or reserved(renter=renter)
    whole = pb.LeaseOffer(
        lease_id="lease_1",
        attempt_id=wanted.attempt_id,
        job_id=wanted.job_id,
        signed_order_json=order.model_dump_json(),
        spec_json=of.model_dump_json(),
        task_json=wanted.model_dump_json(),
        price_usd_micros=400_000,
        recipe_id=1,
        signed_reservation_json=promise.model_dump_json(),
        keep_states_s=60,
        flops=3_600_000_000_000,  # an hour at the fake trainer's speed
    )
    for name, value in changes.items():
        setattr(whole, name, value)
    return whole


def audit(audit_id: str = "audit_1", **changes: Any) -> pb.AuditRequest:
    of, wanted = spec(), task("attempt_of_another", **{"step_to": 4, **changes})
    return pb.AuditRequest(
        audit_id=audit_id,
        signed_order_json=signed_order(of).model_dump_json(),
        spec_json=of.model_dump_json(),
        task_json=wanted.model_dump_json(),
    )


class FakeArtifacts:
    """The artifact endpoints, as an httpx transport."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.refuses: GristmillError | None = None
        self.requests: list[httpx.Request] = []
        self.broken_off: dict[str, bytes] = {}  # what has come of an upload
        self.forgets = False  # that, when the rest comes
        self.cut_after: int | None = None  # bytes of the next download that get through
        self.add(DATA)

    def add(self, content: bytes) -> ArtifactRef:
        self.held[ref(content).sha256] = content
        return ref(content)

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        name = request.url.path.removeprefix("/v1/artifacts/")
        if self.refuses is not None:
            return self._problem(self.refuses)
        if request.method == "PUT":
            if self.forgets and request.headers["upload-offset"] != "0":
                return self._problem(Conflict("Less than that has been received."))
            content = self.broken_off.pop(name, b"")[: int(request.headers["upload-offset"])] + request.content
            assert sha256(content).hexdigest() == name
            self.held[name] = content
            return httpx.Response(201)
        if name not in self.held:
            missing = self._problem(NotFound("There is no such artifact."))
            missing.headers["Upload-Offset"] = str(len(self.broken_off.get(name, b"")))
            return missing
        return self._content(request, self.held[name])

    def _content(self, request: httpx.Request, content: bytes) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(200)
        first = int(request.headers.get("range", "bytes=0-")[len("bytes=") : -1])
        status = 206 if "range" in request.headers else 200
        if self.cut_after is None:
            return httpx.Response(status, content=content[first:])
        part, self.cut_after = content[first : first + self.cut_after], None
        return httpx.Response(status, stream=_CutOff(part))

    @staticmethod
    def _problem(err: GristmillError) -> httpx.Response:
        problem: Problem = err.problem()
        return httpx.Response(
            {"not_found": 404, "conflict": 409, "unavailable": 503}.get(err.code, 400), json=problem.model_dump()
        )


class _CutOff(httpx.AsyncByteStream):
    def __init__(self, part: bytes) -> None:
        self._part = part

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield self._part
        raise httpx.ReadError("the line is dead")


class ScriptedCoordinator(ProviderLinkServicer):
    """Greets every node that proves its key, records what it says, acknowledges unless told not to."""

    def __init__(self, address: str, market: Market = MARKET) -> None:
        self.address = address
        self._market = market
        self.received: list[pb.NodeMessage] = []
        self.greetings: list[tuple[pb.Hello, pb.Greeting, bytes]] = []
        self.acknowledges = True
        self.refusal: pb.Refused | None = None
        self.patience_s = PATIENCE_S
        self.clock_ahead_s = 0.0  # of the machine's
        self._changed = asyncio.Condition()
        self._outbox: asyncio.Queue[pb.CoordinatorMessage | None] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Task[pb.CoordinatorMessage | None]] = {}  # node id -> for the outbox
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        add_ProviderLinkServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def say(self, **body: Any) -> None:
        self._outbox.put_nowait(pb.CoordinatorMessage(**body))

    def hang_up(self) -> None:
        self._outbox.put_nowait(None)

    def bodies(self, kind: str) -> list[Any]:
        """What was received of a kind; a journaled message that came again counts once."""
        unique = {m.SerializeToString() if m.seq else at: m for at, m in enumerate(self.received)}
        return [getattr(m, kind) for m in unique.values() if m.WhichOneof("body") == kind]

    def states(self, attempt_id: str = "attempt_1") -> list[str]:
        updates = [update for update in self.bodies("attempt") if update.attempt_id == attempt_id]
        return [pb.AttemptUpdate.State.Name(update.state) for update in updates]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(self.patience_s), self._changed:
            await self._changed.wait_for(true)

    async def expect(self, kind: str, count: int = 1) -> list[Any]:
        await self.until(lambda: len(self.bodies(kind)) >= count)
        return self.bodies(kind)

    async def expect_state(self, state: str, attempt_id: str = "attempt_1") -> pb.AttemptUpdate:
        await self.until(lambda: state in self.states(attempt_id))
        updates = [update for update in self.bodies("attempt") if update.attempt_id == attempt_id]
        return updates[self.states(attempt_id).index(state)]

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        hello = (await context.read()).hello
        challenge = sha256(hello.node_id.encode()).digest()
        market = self._market
        asked = pb.Challenge(
            challenge=challenge, chain_id=market.ledger.chain_id, registry=market.registry.contract,
            ledger=market.ledger.contract, coordinator=market.coordinator, operator=market.operator,
        )  # fmt: skip
        await context.write(pb.CoordinatorMessage(challenge=asked))
        greeting = (await context.read()).greeting
        self.greetings.append((hello, greeting, challenge))
        if self.refusal is not None:
            await context.write(pb.CoordinatorMessage(refused=self.refusal))
            return
        now_ms = int((time.time() + self.clock_ahead_s) * 1000)
        welcome = pb.Welcome(token=TOKEN, heartbeat_s=1, lease_reply_s=5, now_ms=now_ms)
        await context.write(pb.CoordinatorMessage(welcome=welcome))
        alone = asyncio.Lock()  # one message of a stream at a time
        reading = asyncio.create_task(self._read(context, alone))
        try:
            await self._write(context, hello.node_id, reading, alone)
        finally:
            reading.cancel()

    async def _write(self, context: Any, node_id: str, reading: asyncio.Task[None], alone: asyncio.Lock) -> None:
        """Say what is in the outbox until the stream ends, or a later one of the same node takes its place."""
        if node_id in self._waiting:
            self._waiting[node_id].cancel()
        while True:
            waiting = self._waiting[node_id] = asyncio.create_task(self._outbox.get())
            await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() or waiting.cancelled():
                waiting.cancel()
                return
            message = waiting.result()
            if message is None:
                return
            async with alone:
                await context.write(message)

    async def _read(self, context: Any, alone: asyncio.Lock) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            async with self._changed:
                self.received.append(message)
                self._changed.notify_all()
            if message.seq and self.acknowledges:
                async with alone:
                    await context.write(pb.CoordinatorMessage(ack=pb.Ack(seq=message.seq)))
