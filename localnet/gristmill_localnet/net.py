"""A market that runs: starts every part as its own OS process, in order, and stops them all."""

import json
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address

from gristmill import Client
from gristmill_contracts.anvil import anvil_command, give_gas
from gristmill_contracts.deploy import Deployment
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.test_usd import TestUSD
from gristmill_localnet.books import Books
from gristmill_localnet.processes import Process, Processes
from gristmill_protocol.errors import BadRequest, Conflict, NoSpace, Unavailable
from gristmill_protocol.keystore import create_key

Sandbox = Literal["process", "docker"]

HTTP_PORT = 8420
_TEST_KEY_ROUNDS = 1000  # of PBKDF2: these keys guard test money and are gone with the localnet
_NEEDED_BYTES = 500 * 10**6  # states and models of some jobs, and the logs
_UP_S = 60
_MEASURED_S = 180  # a node first trains a micro-model; on a busy machine that takes a while


@dataclass(frozen=True)
class NodeSpec:
    """A provider of the localnet."""

    name: str
    ask_usd_per_gpu_hour: str
    cheats: bool = False


# "crow" is the one that pretends to train; see cheating_trainer.py.
NODES = (
    NodeSpec("willow", "0.20"),
    NodeSpec("oak", "0.24"),
    NodeSpec("birch", "0.30"),
    NodeSpec("crow", "0.36", cheats=True),
)


@dataclass(frozen=True)
class Node:
    """A running provider."""

    spec: NodeSpec
    provider_id: int
    config: Path
    process: Process

    def set_ask(self, usd_per_gpu_hour: str) -> None:
        """Change its price as an owner would: edit the file, send SIGHUP."""
        old = f'ask_usd_per_gpu_hour = "{self.spec.ask_usd_per_gpu_hour}"'
        text = self.config.read_text()
        self.config.write_text(text.replace(old, f'ask_usd_per_gpu_hour = "{usd_per_gpu_hour}"'))
        self.process.signal(signal.SIGHUP)


@dataclass(frozen=True)
class Localnet:
    """Handles on a running market."""

    folder: Path
    url: str
    books: Books
    coordinator: Process
    nodes: dict[str, Node]
    password: str

    @property
    def renter_keystore(self) -> Path:
        return self.folder / "keys" / "renter.json"

    @property
    def password_file(self) -> Path:
        return self.folder / "keys" / "password"

    def client(self) -> Client:
        """The funded renter's client."""
        return Client(self.url, self.renter_keystore, password=self.password, state=self.folder / "renter")

    def environment(self) -> dict[str, str]:
        """What a shell needs to be the renter."""
        return {
            "GRISTMILL_URL": self.url,
            "GRISTMILL_KEYSTORE": str(self.renter_keystore),
            "GRISTMILL_PASSWORD_FILE": str(self.password_file),
        }


@contextmanager
def localnet(
    folder: Path,
    *,
    nodes: Sequence[NodeSpec] = NODES,
    sandbox: Sandbox = "process",
    image: str = "",
    http_port: int = 0,
) -> Iterator[Localnet]:
    """Start a market in an empty folder; it is stopped, in reverse order, when the block ends.

    Args:
        folder: keys, databases and logs; wiped first if an earlier localnet made it.
        image: of the trainer, by digest; for the docker sandbox.
        http_port: of the coordinator; 0 takes a free one.
    Raises:
        Conflict: the folder holds something else.
        NoSpace: its disk is nearly full.
        PortInUse, Unavailable: a part did not come up; the others were stopped.
    """
    folder = folder.resolve()  # nodes take relative paths from where their configuration lies
    _clear(folder)
    password = secrets.token_urlsafe(16)
    _write_private(folder / "keys" / "password", password)
    ports = _Ports(evm=_free_port(), http=http_port or _free_port(), grpc=_free_port())
    with Processes(folder / "logs", {"OMP_NUM_THREADS": "1"}) as processes:
        evm = processes.start("evm", anvil_command(port=ports.evm, block_time_s=1))
        evm.wait_for("Listening on", _UP_S)
        names = ("treasury", "operator", "renter", "author", *(spec.name for spec in nodes))
        keys = {name: create_key(folder / "keys" / f"{name}.json", password, rounds=_TEST_KEY_ROUNDS) for name in names}
        books = Books.open(ports.evm_url, keys, [spec.name for spec in nodes])
        setup = _Setup(folder, books, ports, sandbox, image, password)
        coordinator = processes.start("coordinator", setup.coordinator_command())
        coordinator.wait_for("coordinator_started", _UP_S)
        running = {}
        for spec in nodes:  # one after the other, since each measures the machine, which they share
            running[spec.name] = setup.start_node(processes, spec)
            running[spec.name].process.wait_for("coordinator_connected", _MEASURED_S)
        net = Localnet(folder, ports.http_url, books, coordinator, running, password)
        _await_tests(net)
        yield net


def _await_tests(net: Localnet) -> None:
    """Wait until the cards are tested: before, nodes run their owners' jobs only.

    Raises:
        Unavailable: a card did not pass.
    """
    deadline = time.monotonic() + _MEASURED_S
    with net.client() as client:
        while waiting := [one for one in client.market() if one.standing not in ("proven", "provisional")]:
            if time.monotonic() > deadline:
                said = waiting[0].standing_text
                raise Unavailable(f"The card of {waiting[0].provider_name!r} is not tested: {said}")
            time.sleep(0.2)


def make_money(folder: Path, to: str, usd_micros: int) -> None:
    """Mint test money on the chain of the market that runs in a folder.

    Raises:
        NotFound: there is none.
        BadRequest: the address is none.
        ChainUnavailable: it does not run any more.
    """
    if not is_address(to):
        raise BadRequest(f"{to!r} is no address.", effect="No money was made.")
    deployment = Deployment.load(folder / "deployment.json")
    w3 = connect(json.loads((folder / "coordinator.json").read_text())["rpc_url"])
    minter: LocalAccount = Account.create()
    give_gas(w3, minter.address)
    Sender(w3, minter).run(TestUSD(w3, deployment.token).mint(to, usd_micros))


@dataclass(frozen=True)
class _Ports:
    evm: int
    http: int
    grpc: int

    @property
    def evm_url(self) -> str:
        return f"http://127.0.0.1:{self.evm}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"


@dataclass(frozen=True)
class _Setup:
    """How the parts are told about one another."""

    folder: Path
    books: Books
    ports: _Ports
    sandbox: Sandbox
    image: str
    password: str

    def coordinator_command(self) -> list[str]:
        self.books.deployment.save(self.folder / "deployment.json")
        config = {
            "data_dir": str(self.folder / "coordinator"),
            "http_address": f"127.0.0.1:{self.ports.http}",
            "grpc_address": f"127.0.0.1:{self.ports.grpc}",
            "public_url": self.ports.http_url,
            "rpc_url": self.ports.evm_url,
            "public_rpc_url": self.ports.evm_url,
            "deployment": str(self.folder / "deployment.json"),
            "operator_key": str(self.folder / "keys" / "operator.json"),
            "operator_password": self.password,
            "anchor_every_s": 0,
            "heartbeat_s": 1,
            "studio": {"test_money": True},
            "images": dict.fromkeys(self.books.deployment.recipes, self.image) if self.image else {},
        }
        path = self.folder / "coordinator.json"
        _write_private(path, json.dumps(config, indent=1))
        return [_script("gristmill-coordinator"), "serve", "--config", str(path)]

    def start_node(self, processes: Processes, spec: NodeSpec) -> Node:
        home = self.folder / spec.name
        settings: dict[str, object] = {
            "name": spec.name,
            "coordinator": f"127.0.0.1:{self.ports.grpc}",
            "coordinator_url": self.ports.http_url,
            "keystore": str(self.folder / "keys" / f"{spec.name}.json"),
            "password_file": str(self.folder / "keys" / "password"),
            "provider_id": self.books.provider_ids[spec.name],
            "ask_usd_per_gpu_hour": spec.ask_usd_per_gpu_hour,
            "backend": self.sandbox,
            "image": self.image,
            "cpu": True,
            "state_dir": str(home),
            "rpc_url": self.ports.evm_url,
            "disputes": self.books.deployment.disputes,
            "limits.work_gib": 1,  # set aside for each run, of several nodes on one disk
        }
        if self.sandbox == "process":
            settings["own_market"] = True
        config = self.folder / f"{spec.name}.toml"
        # TOML and JSON agree on strings, integers, booleans and lists.
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
        command = (
            [sys.executable, "-m", "gristmill_localnet.adversary", str(config)]
            if spec.cheats
            else [_script("gristmill-node"), "up", "--config", str(config)]
        )
        return Node(spec, self.books.provider_ids[spec.name], config, processes.start(spec.name, command))


def _script(name: str) -> str:
    """A command of this very installation."""
    return str(Path(sys.executable).with_name(name))


def _clear(folder: Path) -> None:
    """An empty folder with our mark in it."""
    mark = folder / ".gristmill-localnet"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise Conflict(
            f"{folder} holds something that no localnet made.",
            effect="Nothing was started and nothing was deleted.",
            todo="Name an empty folder.",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _NEEDED_BYTES:
        raise NoSpace(
            f"The disk of {folder} has {free_bytes // 10**6} MB left; a localnet needs {_NEEDED_BYTES // 10**6} MB.",
            effect="Nothing was started.",
            todo="Make room, or name a folder on another disk with --folder.",
        )
    mark.touch()


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
