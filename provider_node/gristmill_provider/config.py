"""What the owner decides: a TOML file, with flags on top."""

import json
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from gristmill_protocol.errors import BadRequest, BadSettings, NotFound
from gristmill_protocol.jobs import Address, Hosts
from gristmill_protocol.money import parse_usd
from gristmill_provider.rules import Price, Rules

_GIB = 1024**3
_HEAD = "# Written by `gristmill-node up`; docs/providers.md explains each setting.\n"
_BY_DIGEST = re.compile(r"(?:\S+@)?sha256:[0-9a-f]{64}")


class Limits(BaseModel):
    """The most that one attempt may take of the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_gib: float = Field(default=8, gt=0)
    cpus: float = Field(default=2, gt=0)
    pids: int = Field(default=512, ge=32)
    work_gib: float = Field(default=10, gt=0)  # what it may write
    data_gib: float = Field(default=20, gt=0)  # the largest data set, state or model that is downloaded
    cache_gib: float = Field(default=40, gt=0)  # downloads and states that are kept
    keep_free_gib: float = Field(default=1, ge=0)  # of the disk of state_dir; nothing is stored that would leave less
    stop_grace_s: float = Field(default=10, gt=0, le=300)  # to save and leave, before it is killed
    download_mbit: float | None = Field(default=None, gt=0)  # megabits a second; None: as much as there is
    upload_mbit: float | None = Field(default=None, gt=0)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * _GIB)

    @property
    def work_bytes(self) -> int:
        return int(self.work_gib * _GIB)

    @property
    def data_bytes(self) -> int:
        return int(self.data_gib * _GIB)

    @property
    def cache_bytes(self) -> int:
        return int(self.cache_gib * _GIB)

    @property
    def keep_free_bytes(self) -> int:
        return int(self.keep_free_gib * _GIB)


class Network(BaseModel):
    """What jobs may reach besides their inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: Hosts = ()  # exact names, by https only
    job_gib: float = Field(default=1, gt=0)  # what one run may send and receive through it

    @property
    def job_bytes(self) -> int:
        return int(self.job_gib * _GIB)


def _beside_config(path: Path, info: ValidationInfo) -> Path:
    return (info.context or Path()) / path.expanduser()


def _amount(text: str) -> str:
    try:
        parse_usd(text)
    except BadRequest as err:
        raise ValueError(str(err)) from err
    return text


Usd = Annotated[str, AfterValidator(_amount)]  # decimal text, as in "0.30"
OwnersPath = Annotated[Path, AfterValidator(_beside_config)]  # relative ones start at the configuration's folder


class CoordinatorConfig(BaseModel):
    """Whom cards are offered to; [[more_coordinators]] are offered the same ones, which work for one at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinator: str
    coordinator_url: str
    ca_file: OwnersPath | None = None
    provider_id: int = Field(gt=0, lt=2**32)


class GpuConfig(BaseModel):
    """[[more_gpus]]: a further card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str = Field(min_length=1)
    ask_usd_per_gpu_hour: Usd | None = None  # None: as the first card's


class NodeConfig(BaseModel):
    """A node's configuration, checked as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=80)  # what people see
    coordinator: str  # host:port of its gRPC endpoint
    coordinator_url: str  # of its HTTP endpoint
    ca_file: OwnersPath | None = None  # certificate authority of a coordinator that has no public one
    keystore: OwnersPath
    password_file: OwnersPath
    provider_id: int = Field(gt=0, lt=2**32)  # the Ledger's payee id that is paid
    ask_usd_per_gpu_hour: Usd
    electricity_usd_per_kwh: Usd = "0"  # what the owner pays
    backend: Literal["docker", "process"] = "docker"
    image: str = ""  # the trainer's, by digest; docker only
    runtime: Literal["runc", "runsc"] = "runc"  # runsc: gVisor, a second kernel between job and machine
    docker_url: str = ""  # where the engine listens; "": as the docker command finds it
    gpu: str = ""  # UUID of the graphics card; "": the first
    more_gpus: tuple[GpuConfig, ...] = ()  # others that are offered too
    cpu: bool = False  # offer the CPU instead of a graphics card
    own_renters: tuple[Address, ...] = ()  # keys whose jobs are run; empty: anybody's (docker or own_market only)
    own_market: bool = False  # the coordinator is the owner's too, on this machine: all its renters count as the owner
    recipes: tuple[str, ...] = Field(default=("image-sorter", "script", "text-sorter"), min_length=1)
    slots: int = Field(default=1, ge=1, le=16)
    rpc_url: str = ""  # of a node of the chain; settle and earnings ask it, and disputes are answered through it
    disputes: Address | None = None  # the Disputes contract that the node may speak to; no coordinator's word is enough
    contest_disputes: bool = True  # post a bond by itself where the node's own re-run says that its work was right
    dashboard_port: int | None = Field(default=None, ge=0, le=65_535)  # on loopback; 0: any free one; None: no page
    state_dir: OwnersPath
    limits: Limits = Limits()
    network: Network = Network()
    owner: Rules = Rules()
    more_coordinators: tuple[CoordinatorConfig, ...] = ()

    @property
    def coordinators(self) -> tuple[CoordinatorConfig, ...]:
        first = CoordinatorConfig.model_construct(
            coordinator=self.coordinator,
            coordinator_url=self.coordinator_url,
            ca_file=self.ca_file,
            provider_id=self.provider_id,
        )
        return (first, *self.more_coordinators)

    @property
    def price(self) -> Price:
        return Price(self.ask_usd_micros_per_gpu_hour, parse_usd(self.electricity_usd_per_kwh))

    @property
    def ask_usd_micros_per_gpu_hour(self) -> int:
        return parse_usd(self.ask_usd_per_gpu_hour)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backend == "docker" and not _BY_DIGEST.fullmatch(self.image):
            raise ValueError('backend "docker" needs image, named by its digest: "name@sha256:..."')
        if self.backend == "process" and not (self.own_renters or self.own_market):
            raise ValueError('backend "process" has no sandbox, so it needs own_renters: it runs nobody else\'s jobs')
        for one in self.coordinators:
            url = urlsplit(one.coordinator_url)
            here = is_loopback(url.hostname or "")
            if url.scheme != "https" and not (url.scheme == "http" and here):
                raise ValueError("coordinator_url must start with https://, unless it is on this very machine")
            if self.own_market and not (here and is_loopback(one.coordinator.rpartition(":")[0])):
                raise ValueError("own_market is for a coordinator on this very machine")
        if self.cpu and self.more_gpus:
            raise ValueError("cpu = true offers the CPU instead of graphics cards, so more_gpus must be empty")
        for what, each in (
            ("card", (self.gpu, *(card.gpu for card in self.more_gpus))),
            ("coordinator", tuple(one.coordinator for one in self.coordinators)),
        ):
            if len(set(each)) < len(each):
                raise ValueError(f"a {what} is named twice")
        return self

    def nodes(self) -> "tuple[NodeConfig, ...]":
        """The configuration of every node that this one makes: one for each card and coordinator, in this order.

        The first card's with the first coordinator works in state_dir itself: what is added later moves nothing.
        """
        return tuple(
            self.model_copy(
                update={
                    **dict(who),
                    "gpu": card.gpu,
                    "ask_usd_per_gpu_hour": card.ask_usd_per_gpu_hour or self.ask_usd_per_gpu_hour,
                    "more_gpus": (),
                    "more_coordinators": (),
                    "state_dir": _folder(self.state_dir, card.gpu if at else "", who.coordinator if nth else ""),
                }
            )
            for at, card in enumerate((GpuConfig.model_construct(gpu=self.gpu), *self.more_gpus))
            for nth, who in enumerate(self.coordinators)
        )


def load_config(path: Path, overrides: Mapping[str, Any] | None = None) -> NodeConfig:
    """The configuration in a TOML file, with the overrides that are not None laid over it.

    Raises:
        NotFound: no such file.
        BadSettings: it cannot be read or is not TOML, or a setting is missing, unknown or wrong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise NotFound(f"There is no configuration at {path}.", todo="docs/providers.md shows one.") from err
    except OSError as err:
        raise BadSettings(
            f"{path} cannot be read: {err.strerror}.",
            effect="The settings were not taken.",
            todo="Name the file in --config, and run this as the account that owns it.",
        ) from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise BadSettings(f"{path} is not valid TOML: {err}.", effect="The settings were not taken.") from err
    return check_config(values | {name: value for name, value in (overrides or {}).items() if value is not None}, path)


def check_config(values: Mapping[str, Any], path: Path) -> NodeConfig:
    """The configuration that a file holds or will hold.

    Raises:
        BadSettings: a setting is missing, unknown or wrong.
    """
    try:
        return NodeConfig.model_validate(values, context=path.absolute().parent)
    except ValidationError as err:
        raise BadSettings(
            f"{path} cannot be used. {_sentences(err)}",
            effect="The settings were not taken.",
            todo="Correct it; docs/providers.md explains each setting.",
        ) from err


def write_config(values: Mapping[str, Any], path: Path) -> NodeConfig:
    """Write a configuration; it is there only once it was read again.

    Args:
        values: strings, whole numbers, booleans, and lists of them.
    Raises:
        BadSettings: a setting is missing, unknown or wrong.
    """
    check_config(values, path)
    # TOML writes these as JSON does, but takes no surrogates and no bare DEL (https://toml.io/en/v1.0.0#string).
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()]
    fresh = path.with_suffix(".new")
    fresh.write_text(_HEAD + "".join(lines).replace("\x7f", r"\u007f"), encoding="utf-8")
    config = load_config(fresh)
    fresh.replace(path)
    return config


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _folder(state_dir: Path, gpu: str, coordinator: str) -> Path:
    """Where a node keeps its journal; "": the first card or coordinator."""
    if gpu:
        state_dir = state_dir / "cards" / gpu
    return state_dir / "coordinators" / quote(coordinator, safe="") if coordinator else state_dir


def _sentences(err: ValidationError) -> str:
    """One sentence a fault; pydantic's own text would quote the whole input, paths of secrets included."""
    faults = err.errors(include_url=False, include_context=False, include_input=False)
    return " ".join(f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}." for fault in faults)
