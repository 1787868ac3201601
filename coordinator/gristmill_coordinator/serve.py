"""The composition root: builds a coordinator from its configuration and runs it until it is told to stop."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn

from gristmill_contracts.deploy import Deployment
from gristmill_coordinator.api import provider_grpc
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.artifacts.store import ArtifactStore
from gristmill_coordinator.chain import reconcile, sender, watcher
from gristmill_coordinator.chain.evm import EvmChain
from gristmill_coordinator.config import Config
from gristmill_coordinator.links import Links
from gristmill_coordinator.market import nodes
from gristmill_coordinator.market.book import OrderBook
from gristmill_coordinator.stages import (
    audit,
    bonds,
    certifying,
    challenges,
    commitment,
    conclude,
    dispatch,
    disputes,
    loop,
    matching,
    payables,
    settlement,
    watch,
    withdrawals,
)
from gristmill_coordinator.store.migrate import migrate
from gristmill_coordinator.store.store import open_store
from gristmill_coordinator.studio import buying, looking, paying_in, tidying
from gristmill_coordinator.studio.parts import Studio, studio_of
from gristmill_coordinator.wake import Wake
from gristmill_protocol.errors import ChainUnavailable, PortInUse
from gristmill_protocol.ids import new_id

logger = structlog.get_logger()

# Whoever writes a row for a stage wakes it by this name.
STAGES: dict[str, loop.Step] = {
    "matching": matching.step,
    "dispatch": dispatch.step,
    "watch": watch.step,
    "commitment": commitment.step,
    "audit": audit.step,
    "challenges": challenges.step,
    "conclude": conclude.step,
    "settlement": settlement.step,
    "payables": payables.step,
    "disputes": disputes.step,
    "certifying": certifying.step,
    "withdrawals": withdrawals.step,
    "bonds": bonds.step,
    "sender": sender.step,
    "watcher": watcher.step,
    "reconcile": reconcile.step,
}

# Stages of the pages, where they are served.
STUDIO_STAGES: dict[str, Callable[[Studio], Awaitable[int]]] = {
    "looking": looking.step,
    "paying_in": paying_in.step,
    "buying": buying.step,
    "tidying": tidying.step,
}

_GRACE_S = 5


async def build(config: Config) -> Coordinator:
    """A coordinator with an up-to-date database, a filled order book and a chain client; nothing runs yet.

    Raises:
        NotFound, WrongKey, BadSettings: a configured file is missing or wrong.
    """
    deployment = Deployment.load(config.deployment)
    operator = await asyncio.to_thread(config.operator)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    wake = Wake()
    store = open_store(config.store_url, wake)
    await migrate(store.engine)
    co = Coordinator(
        config=config,
        store=store,
        book=OrderBook(),
        chain=EvmChain.connect(config.rpc_url, deployment, operator),
        links=Links(),
        artifacts=ArtifactStore(config.artifacts_dir, max_bytes=config.max_artifact_bytes),
        recipe_ids=deployment.recipes,
        secret=config.token_secret(),
        clock=time.time,
        new_id=new_id,
        wake=wake,
        started_s=time.time(),
    )
    await nodes.refresh(co, since_s=0.0)
    return co


async def check_books(config: Config) -> reconcile.Books:
    """Read what is new on the chain, compare our rows with it once, and note what differs.

    Raises:
        ChainUnavailable: the node does not answer, or what it says does not fit together.
        NotFound, WrongKey, BadSettings: as build().
    """
    co = await build(config)
    try:
        while await watcher.step(co):
            pass
        books = await reconcile.compare(co)
        if books is None:
            raise ChainUnavailable("There is no final block to compare with.", todo="See the log; try again later.")
        async with co.store.write() as tx:
            await reconcile.record(tx, books, now=co.clock())
        return books
    finally:
        await co.store.close()


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        PortInUse: another program listens on a configured port.
        NotFound, WrongKey, BadSettings: as build().
    """
    config.require_encryption(config.http_address)
    stopping = _on_signal()
    with _listen(config.http_address) as listening:
        co = await build(config)
        try:
            async with _serving(co, listening):
                http = f"{config.http_address.rpartition(':')[0]}:{listening.getsockname()[1]}"
                logger.info("coordinator_started", http=http, grpc=config.grpc_address)
                await stopping.wait()
                logger.info("coordinator_stopping")
        finally:
            await co.store.close()


@asynccontextmanager
async def _serving(co: Coordinator, listening: socket.socket) -> AsyncIterator[None]:
    """Both borders and every stage, until the block ends."""
    studio = studio_of(co)
    nodes_server = await provider_grpc.serve(co, co.config.grpc_address)
    renters_server = _HttpServer(_uvicorn_config(co, studio))
    steps = dict(STAGES)
    if studio is not None:
        steps |= {name: _for_studio(studio, step) for name, step in STUDIO_STAGES.items()}
    async with asyncio.TaskGroup() as tasks:
        http = tasks.create_task(renters_server.serve([listening]))
        stages = [tasks.create_task(loop.run(co, name, step), name=name) for name, step in steps.items()]
        try:
            yield
        finally:
            renters_server.should_exit = True
            await nodes_server.stop(_GRACE_S)
            for stage in stages:
                stage.cancel()
            await http
            if studio is not None:
                await asyncio.to_thread(studio.tryouts.close)


def _for_studio(studio: Studio, step: Callable[[Studio], Awaitable[int]]) -> loop.Step:
    async def of_coordinator(_co: Coordinator) -> int:
        return await step(studio)

    return of_coordinator


class _HttpServer(uvicorn.Server):
    """Uvicorn without its own signal handlers: ours stop both borders."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(co: Coordinator, studio: Studio | None) -> uvicorn.Config:
    config = co.config
    return uvicorn.Config(
        make_app(co, studio),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=None if config.tls_certificate is None else str(config.tls_certificate),
        ssl_keyfile=None if config.tls_key is None else str(config.tls_key),
    )


def _listen(address: str) -> socket.socket:
    """A listening socket on host:port; taken before anything else, so that a taken port costs nothing."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server(
            (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as err:
        raise PortInUse(
            f"{address} is in use or cannot be listened on.",
            effect="The coordinator was not started.",
            todo="Stop the other program, or choose another http_address.",
        ) from err


def _on_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stopping.set)
    return stopping
