"""A whole coordinator on an in-memory chain, with scripted machines: time, blocks and messages move when told to."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fakes import trainer
from fakes.chain import FakeChain
from fakes.machine import Machine, root
from fakes.prover import TINY
from gristmill_coordinator import certificates, serve, views
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.artifacts import distance
from gristmill_coordinator.artifacts.store import ArtifactStore
from gristmill_coordinator.config import Config
from gristmill_coordinator.links import Links
from gristmill_coordinator.market import nodes
from gristmill_coordinator.market.book import OrderBook
from gristmill_coordinator.stages import intake, settlement
from gristmill_coordinator.store.migrate import migrate
from gristmill_coordinator.store.store import Store, open_store
from gristmill_coordinator.wake import Wake
from gristmill_protocol.errors import BadData, NotFinished
from gristmill_protocol.jobs import (
    ArtifactRef,
    DataStats,
    JobSpec,
    JobSubmission,
    JobView,
    Order,
    Quote,
    SignedOrder,
    SignedStatement,
    Statement,
)
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.signing import ORDER_TYPE, STATEMENT_TYPE, order_message, sign, statement_message

RECIPE = "text-sorter"
SCRIPT = "script"

_MAX_TICKS = 300


@dataclass
class Clock:
    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Ids:
    """Ids that count, so that a failing test reads the same every time."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count:024x}"


@dataclass
class World:
    """One market. Start it with start(), then submit jobs and let it live.

    Args:
        wrap: makes another store of the real one, for tests that break it.
    """

    root: Path
    database_url: str
    config: Config
    wrap: Callable[[Store], Store] = lambda store: store
    clock: Clock = field(default_factory=Clock)
    machines: dict[str, Machine] = field(default_factory=dict)
    renter: LocalAccount = field(default_factory=lambda: Account.from_key("0x" + "11" * 32))
    co: Coordinator = field(init=False)
    starts: int = 0

    def __post_init__(self) -> None:
        self.chain = FakeChain(clock=self.clock)
        self.chain.open_account(self.renter.address, 1_000_000_000)
        self.recipe_id = self.chain.add_recipe(royalty_bps=300, verifier_bps=600)
        self.script_id = self.chain.add_recipe(royalty_bps=0, verifier_bps=0)
        self.ids = Ids()

    async def start(self) -> None:
        """A new coordinator process over the same database and disk; machines have to connect again."""
        if self.starts:
            await self.co.store.close()
        self.starts += 1
        wake = Wake()
        store = self.wrap(open_store(self.database_url, wake))
        await migrate(store.engine)
        self.co = Coordinator(
            config=self.config,
            store=store,
            book=OrderBook(),
            chain=self.chain,
            links=Links(),
            artifacts=ArtifactStore(self.root / "artifacts"),
            recipe_ids={RECIPE: self.recipe_id, SCRIPT: self.script_id},
            secret=b"s" * 32,
            clock=self.clock,
            new_id=self.ids,
            wake=wake,
            started_s=self.clock(),
            sizes=lambda _is_cpu, _memory_bytes: TINY,
            root_of=_root_of,
        )
        await nodes.refresh(self.co, since_s=0.0)
        for machine in self.machines.values():
            machine.cut()

    async def stop(self) -> None:
        await self.co.store.close()

    async def add_machine(self, name: str, **options: object) -> Machine:
        """A connected machine of an owner of its own."""
        machine = Machine.on(self.chain, name, **options)  # type: ignore[arg-type]
        self.machines[name] = machine
        await machine.connect(self.co)
        return machine

    # The renter

    @property
    def renter_key(self) -> str:
        return self.renter.address.lower()

    async def spec(self, **changes: object) -> JobSpec:
        """A job of some dozens of steps, whose data are uploaded."""
        data = await self.upload(b"text,label\nhello,a\n" * 10)
        values: dict[str, object] = {
            "recipe": RECIPE,
            "settings": {"rounds": 5},
            "data": data,
            "stats": DataStats(examples=200, answers={"a": 100, "b": 100}, size_bytes=data.size_bytes),
            "budget_usd_micros": 100_000_000,
        }
        return JobSpec.model_validate({**values, **changes})

    async def script(self, **changes: object) -> JobSpec:
        """A job of one step: a program of the renter's own."""
        stats = DataStats(examples=2, size_bytes=100)
        return await self.spec(recipe=SCRIPT, settings={"minutes": 6}, stats=stats, **changes)

    async def upload(self, content: bytes) -> ArtifactRef:
        """A file of the renter's."""
        ref = await self.co.artifacts.put_bytes(content)
        await self.co.store.grant(ref.sha256, f"renter:{self.renter_key}")
        return ref

    async def submit(self, spec: JobSpec | None = None, request_id: str = "request-1") -> JobView:
        spec = spec or await self.spec()
        quote = await intake.quote(self.co, self.renter_key, spec)
        return await intake.submit(self.co, self.renter_key, self.submission(spec, quote, request_id))

    def submission(self, spec: JobSpec, quote: Quote, request_id: str = "request-1") -> JobSubmission:
        """A signed order for a quote, ladder and all."""
        order = Order(
            key=self.renter.address,
            coordinator=self.chain.info.coordinator_id,
            spec_digest=quote.spec_digest,
            cap_usd_micros=quote.cap_usd_micros,
            nonce=quote.nonce,
            deadline_s=quote.deadline_s,
        )
        signature = sign(self.renter, self.chain.info.ledger_domain, ORDER_TYPE, order_message(order))
        return JobSubmission(
            request_id=request_id,
            quote_id=quote.quote_id,
            spec=spec,
            order=SignedOrder(order=order, signature=signature),
            ladder=tuple(self.sign(statement) for statement in ladder_statements(quote)),
        )

    def sign(self, statement: Statement) -> SignedStatement:
        message = statement_message(statement)
        signature = sign(self.renter, self.chain.info.ledger_domain, STATEMENT_TYPE, message)
        return SignedStatement(statement=statement, signature=signature)

    # Time

    async def tick(self, seconds: float = 1.0) -> None:
        """Time passes, a block is made, machines speak, every stage takes a step."""
        self.clock.now_s += seconds
        self.chain.mine()
        for machine in self.machines.values():
            await machine.work(self.co)
        for step in serve.STAGES.values():
            await step(self.co)

    async def job(self, job_id: str) -> JobView:
        return await views.job(self.co, self.renter_key, job_id)

    async def finish(self, job_id: str) -> JobView:
        """Tick until the job has ended."""
        return await self._until(job_id, lambda view: view.state.ended)

    async def certified(self, job_id: str) -> bytes:
        """Tick until the finished job has its certificate; that."""
        for _ in range(_MAX_TICKS):
            try:
                return await certificates.certificate(self.co, self.renter_key, job_id)
            except NotFinished:
                await self.tick()
        raise AssertionError("no certificate is issued")

    async def finish_signing(self, job_id: str) -> JobView:
        """Tick until the job has ended, with a renter who is online and signs what is asked."""
        view = await self._until(job_id, lambda view: view.state.ended or view.signature_wanted is not None)
        if view.signature_wanted is not None:
            await settlement.add_statement(self.co, self.renter_key, job_id, self.sign(view.signature_wanted))
        return await self.finish(job_id)

    async def until_wanted(self, job_id: str) -> JobView:
        """Tick until the job asks for a signature."""
        return await self._until(job_id, lambda view: view.signature_wanted is not None)

    async def until_steps(self, job_id: str, steps: int) -> JobView:
        """Tick until the running attempt has reported so many steps."""
        return await self._until(job_id, lambda view: view.steps_done >= steps)

    async def until_event(self, job_id: str, text: str) -> None:
        """Tick until the job's story has a line with this text."""
        for _ in range(_MAX_TICKS):
            lines = await views.events(self.co, self.renter_key, job_id, 0)
            if any(text in line.text for line in lines):
                return
            await self.tick()
        raise AssertionError(f"{text!r} is not among {[line.text for line in lines]}")

    async def _until(self, job_id: str, done: Callable[[JobView], bool]) -> JobView:
        for _ in range(_MAX_TICKS):
            view = await self.job(job_id)
            if done(view):
                return view
            await self.tick()
        lines = await views.events(self.co, self.renter_key, job_id, 0)
        raise AssertionError(f"still {view.state} ({view.reason}) after {[line.text for line in lines]}")


def _root_of(path: Path) -> str:
    """Of a real training state, the fake trainer's or a scripted machine's."""
    content = path.read_bytes()
    if content.startswith(b'{"seed"'):
        return trainer.state_root(**json.loads(content))
    try:
        return distance.root_of(path)
    except BadData:
        return root(content)
