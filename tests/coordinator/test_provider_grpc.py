"""The nodes' border: a scripted node on the raw stream, then real nodes that run a job's whole life."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes import trainer
from fakes.machine import Machine
from fakes.world import World
from gristmill_coordinator.api import provider_grpc
from gristmill_coordinator.api.auth import verify
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.config import Config
from gristmill_coordinator.stages import payables
from gristmill_protocol.errors import BadSettings, PortInUse
from gristmill_protocol.ids import node_prefix
from gristmill_protocol.jobs import JobState
from gristmill_protocol.keystore import create_key
from gristmill_protocol.signing import GREETING_TYPE, sign
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_protocol.v1.provider_pb2_grpc import ProviderLinkStub
from gristmill_provider.config import NodeConfig
from gristmill_provider.fleet import Fleet, build
from gristmill_provider.journal import JOURNAL
from gristmill_provider.payables import Payable, Payables
from gristmill_provider.runner import ProcessRunner

pytestmark = pytest.mark.slow

KEY: LocalAccount = Account.from_key("0x" + "0d" * 32)
OTHER: LocalAccount = Account.from_key("0x" + "0e" * 32)
NODE_ID = node_prefix(KEY.address) + "1"


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gm") as folder:
        yield f"unix:{folder}/s"


@pytest.fixture
async def world(tmp_path: Path, address: str) -> AsyncIterator[World]:
    """A market on SQLite that nodes can dial."""
    config = Config(data_dir=tmp_path, anchor_every_s=0, heartbeat_s=1, missed_heartbeats=3)
    world = World(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'coordinator.db'}", config)
    await world.start()
    server = await provider_grpc.serve(world.co, address)
    yield world
    await server.stop(None)
    await world.stop()


@pytest.fixture
def provider(world: World) -> int:
    return world.chain.add_provider(node_key=KEY.address)


class RawNode:
    """One stream, message by message."""

    def __init__(self, stream: Any, world: World) -> None:
        self.stream = stream
        self._registry = world.chain.info.registry_domain

    async def say(self, **body: Any) -> None:
        await self.stream.write(pb.NodeMessage(**body))

    async def hear(self, kind: str) -> Any:
        async with asyncio.timeout(10):
            message = await self.stream.read()
        assert message is not grpc.aio.EOF, f"the stream ended before {kind}"  # type: ignore[attr-defined]
        assert message.WhichOneof("body") == kind
        return getattr(message, kind)

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self.stream.read() is grpc.aio.EOF  # type: ignore[attr-defined]

    async def greet(
        self, provider: int, *, key: LocalAccount = KEY, named: LocalAccount = KEY, node_id: str = NODE_ID
    ) -> None:
        """Name one key and sign with another, or the same."""
        await self.say(hello=pb.Hello(node_id=node_id, key=named.address, provider=provider, name="raw"))
        challenge = await self.hear("challenge")
        signed: dict[str, object] = {"challenge": challenge.challenge, "provider": provider}
        await self.say(greeting=pb.Greeting(signature=sign(key, self._registry, GREETING_TYPE, signed)))


@asynccontextmanager
async def raw_node(address: str, world: World) -> AsyncIterator[RawNode]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield RawNode(ProviderLinkStub(channel).Connect(), world)


async def test_a_node_that_proves_its_key_gets_a_token(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as node:
        await node.greet(provider)
        welcome = await node.hear("welcome")

        assert verify(world.co.secret, welcome.token, world.clock()) == f"node:{NODE_ID}"
        assert welcome.heartbeat_s == 1
        assert world.co.links.connected() == {NODE_ID}


async def test_somebody_elses_signature_opens_nothing(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as node:
        await node.greet(provider, key=OTHER)
        refused = await node.hear("refused")

        assert "was signed by" in refused.what
        assert await node.ended()
        assert world.co.links.connected() == frozenset()


async def test_no_key_can_pose_as_another_keys_node(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as node:
        await node.say(hello=pb.Hello(node_id=node_prefix(OTHER.address) + "1", key=KEY.address, provider=provider))

        assert "does not belong to the key" in (await node.hear("refused")).what


async def test_a_provider_that_is_not_registered_is_told_so(address: str, world: World) -> None:
    async with raw_node(address, world) as node:
        await node.greet(99)
        refused = await node.hear("refused")

        assert "Provider 99" in refused.what
        assert refused.todo


async def test_a_silent_chain_is_no_refusal(address: str, world: World, provider: int) -> None:
    world.chain.reachable = False

    async with raw_node(address, world) as node:
        await node.greet(provider)
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await node.hear("welcome")

    assert lost.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_journaled_messages_are_acknowledged_also_when_they_are_wrong(
    address: str, world: World, provider: int
) -> None:
    async with raw_node(address, world) as node:
        await node.greet(provider)
        await node.hear("welcome")
        await node.say(seq=4, attempt=pb.AttemptUpdate(attempt_id="nobody's", state=pb.AttemptUpdate.RUNNING))
        await node.say(seq=9, segment=pb.SegmentReport(attempt_id="nobody's", signed_record_json="no record"))

        assert [(await node.hear("ack")).seq, (await node.hear("ack")).seq] == [4, 9]


async def test_an_offer_that_makes_no_sense_is_refused(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as node:
        await node.greet(provider)
        await node.hear("welcome")
        await node.say(offer=pb.Offer(device="A card", slots=0))

        assert "makes no sense" in (await node.hear("refused")).what
        assert await node.ended()


async def test_a_silent_node_is_let_go(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as node:
        await node.greet(provider)
        await node.hear("welcome")

        assert await node.ended()
        assert world.co.links.connected() == frozenset()


async def test_a_newer_stream_replaces_the_older(address: str, world: World, provider: int) -> None:
    async with raw_node(address, world) as older, raw_node(address, world) as newer:
        await older.greet(provider)
        await older.hear("welcome")
        await newer.greet(provider)
        await newer.hear("welcome")

        assert await older.ended()
        assert world.co.links.connected() == {NODE_ID}


async def test_a_node_that_dials_again_is_told_what_is_payable(address: str, world: World) -> None:
    willow = Machine.on(world.chain, "willow", ask=100_000, leaves_after=7)
    willow.node_id = node_prefix(willow.key.address) + "1"
    world.machines["willow"] = willow
    await willow.connect(world.co)
    await world.add_machine("oak", ask=120_000)
    await world.until_event((await world.submit()).job_id, "It goes on from the last verified step")
    await world.tick()
    await willow.vanish(world.co)

    async with raw_node(address, world) as node:
        await node.greet(willow.provider, key=willow.key, named=willow.key, node_id=willow.node_id)
        await node.hear("welcome")
        while not await payables.step(world.co):
            pass

        assert await node.hear("payable") == willow.payables[-1]


async def test_a_port_in_use_is_named(address: str, world: World) -> None:
    with pytest.raises(PortInUse, match="in use"):
        await provider_grpc.serve(world.co, address.replace("/s", "/no/such/folder/s"))


async def test_nodes_from_elsewhere_need_encryption(world: World) -> None:
    with pytest.raises(BadSettings, match="without encryption"):
        await provider_grpc.serve(world.co, "0.0.0.0:0")


def real_node(world: World, address: str, folder: Path) -> Fleet:
    """A node with the fake trainer, registered; its artifacts travel in memory to the real endpoints."""
    folder.mkdir()
    (folder / "password").write_text("secret")
    key = create_key(folder / "key.json", "secret", rounds=1)
    config = NodeConfig(
        name=folder.name,
        coordinator=address,
        coordinator_url="http://127.0.0.1:1",
        keystore=folder / "key.json",
        password_file=folder / "password",
        provider_id=world.chain.add_provider(node_key=key.address),
        ask_usd_per_gpu_hour="0.20",
        backend="process",
        cpu=True,
        own_renters=(world.renter.address,),
        state_dir=folder / "state",
    )
    runner = ProcessRunner((sys.executable, trainer.__file__))
    return build(config, runner=runner, transport=httpx.ASGITransport(make_app(world.co)))


@asynccontextmanager
async def running(node: Fleet) -> AsyncIterator[None]:
    task = asyncio.create_task(node.run())
    try:
        yield
        node.stop()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pace(world: World) -> None:
    """A tick of a market whose nodes live in real time."""
    started = time.monotonic()
    await world.tick(0)
    world.clock.now_s += time.monotonic() - started


def journaled(*folders: Path) -> list[Payable]:
    """What the nodes of these folders hold to be paid without the coordinator."""
    found = []
    for folder in folders:
        with closing(Payables.open(folder / "state" / JOURNAL)) as held:
            found += held.owed()
    return found


async def test_real_nodes_train_and_check_a_job_until_it_is_paid(address: str, world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(50):
        for name in ("one", "two"):
            await stack.enter_async_context(running(real_node(world, address, tmp_path / name)))
        while len(world.co.book.alive(0)) < 2:
            await pace(world)
        view = await world.submit()
        while not view.state.ended:
            await pace(world)
            view = await world.job(view.job_id)

    assert view.state is JobState.DONE
    assert view.steps_accepted == view.steps_total
    assert [audit.outcome for window in view.windows for audit in window.audits].count("passed") >= 2
    assert view.outputs.keys() == {"model.txt"}
    assert view.bill is not None
    assert view.bill.paid_usd_micros == view.price_usd_micros
    assert [owed.share_usd_micros for owed in journaled(tmp_path / "one", tmp_path / "two")] == [view.price_usd_micros]
