"""A real coordinator of real parts on an in-memory chain, and a wire to its HTTP app without a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI

from fakes.chain import FakeChain
from fakes.machine import prove_card
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.artifacts.store import ArtifactStore
from gristmill_coordinator.chain.port import Chain
from gristmill_coordinator.config import Config
from gristmill_coordinator.links import Links
from gristmill_coordinator.market import nodes
from gristmill_coordinator.market.book import OrderBook
from gristmill_coordinator.store.columns import metadata
from gristmill_coordinator.store.store import open_store
from gristmill_coordinator.wake import Wake
from gristmill_protocol.ids import new_id
from gristmill_protocol.v1 import provider_pb2 as pb

URL = "http://127.0.0.1:8080"
SECRET = b"s" * 32


@dataclass
class Clock:
    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Served:
    """A coordinator, what it stands on, and its app."""

    co: Coordinator
    chain: FakeChain
    clock: Clock
    app: FastAPI

    async def add_node(self, name: str, *, ask_usd_micros_per_gpu_hour: int = 200_000) -> None:
        """A docker machine of an owner of its own, which is connected and idle."""
        key = Account.create().address
        provider = self.chain.add_provider(node_key=key)
        await nodes.node_connected(self.co, pb.Hello(node_id=name, key=key, provider=provider, name=name))
        offer = pb.Offer(
            device="Test card",
            memory_bytes=24 * 2**30,
            numeric_class=bytes(32),
            flops_per_s=10**12,
            ask_usd_micros_per_gpu_hour=ask_usd_micros_per_gpu_hour,
            slots=4,
            sandbox="docker",
            recipes=["image-sorter", "text-sorter"],
        )
        await nodes.offer_received(self.co, name, offer)
        await prove_card(self.co, name)
        await nodes.heartbeat(self.co, name, pb.Heartbeat())

    def open_account(self, balance_usd_micros: int = 10_000_000) -> LocalAccount:
        """A renter with money at this coordinator."""
        account: LocalAccount = Account.create()
        self.chain.open_account(account.address, balance_usd_micros)
        return account

    def wire(self) -> httpx.BaseTransport:
        """Carries requests of other threads to the app, which runs on the present event loop."""
        return LoopWire(self.app, asyncio.get_running_loop())

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url=URL)


@asynccontextmanager
async def serving(root: Path, *, max_artifact_bytes: int = 10_000_000) -> AsyncIterator[Served]:
    """A coordinator with an empty market."""
    clock = Clock()
    chain = FakeChain(clock=clock)
    recipe_ids = {name: chain.add_recipe(royalty_bps=300, verifier_bps=600) for name in ("image-sorter", "text-sorter")}
    async with coordinator_on(chain, root, clock, recipe_ids, max_artifact_bytes=max_artifact_bytes) as co:
        yield Served(co, chain, clock, make_app(co))


@asynccontextmanager
async def coordinator_on(
    chain: Chain, root: Path, clock: Clock, recipe_ids: dict[str, int], *, max_artifact_bytes: int = 10_000_000
) -> AsyncIterator[Coordinator]:
    """A coordinator on some chain, of which nothing runs by itself."""
    wake = Wake()
    store = open_store(f"sqlite+aiosqlite:///{root / 'coordinator.db'}", wake)
    async with store.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    co = Coordinator(
        config=Config(data_dir=root, public_url=URL),
        store=store,
        book=OrderBook(),
        chain=chain,
        links=Links(),
        artifacts=ArtifactStore(root / "artifacts", max_bytes=max_artifact_bytes),
        recipe_ids=recipe_ids,
        secret=SECRET,
        clock=clock,
        new_id=new_id,
        wake=wake,
        started_s=clock.now_s,
    )
    try:
        yield co
    finally:
        await store.close()


class LoopWire(httpx.BaseTransport):
    """A synchronous client's way to an app on another thread's event loop."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._send(request, request.read()), self._loop).result()

    async def _send(self, request: httpx.Request, content: bytes) -> httpx.Response:
        again = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        answer = await self._asgi.handle_async_request(again)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
