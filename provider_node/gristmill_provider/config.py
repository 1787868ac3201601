"""What the owner decides: a TOML file, with flags on top."""

import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from gristmill_protocol.errors import BadRequest, BadSettings, NotFound
from gristmill_protocol.jobs import Address
from gristmill_protocol.money import parse_usd

_GIB = 1024**3
_BY_DIGEST = re.compile(r"(?:\S+@)?sha256:[0-9a-f]{64}")


class Limits(BaseModel):
    """The most that one attempt may take of the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_gib: float = Field(default=8, gt=0)
    cpus: float = Field(default=2, gt=0)
    pids: int = Field(default=512, ge=32)
    work_gib: float = Field(default=10, gt=0)  # what it may write
    data_gib: float = Field(default=20, gt=0)  # the largest data set that is downloaded
    cache_gib: float = Field(default=40, gt=0)  # downloads and states that are kept
    stop_grace_s: float = Field(default=10, gt=0, le=300)  # to save and leave, before it is killed

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


def _beside_config(path: Path, info: ValidationInfo) -> Path:
    return (info.context or Path()) / path.expanduser()


OwnersPath = Annotated[Path, AfterValidator(_beside_config)]  # relative ones start at the configuration's folder


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
    ask_usd_per_gpu_hour: str  # decimal text, as in "0.30"
    backend: Literal["docker", "process"] = "docker"
    image: str = ""  # the trainer's, by digest; docker only
    docker_url: str = ""  # where the engine listens; "": as the docker command finds it
    gpu: str = ""  # UUID of the graphics card; "": the first
    cpu: bool = False  # offer the CPU instead of a graphics card
    own_renters: tuple[Address, ...] = ()  # keys whose jobs are run; empty: anybody's (docker or own_market only)
    own_market: bool = False  # the coordinator is the owner's too, on this machine: all its renters count as the owner
    recipes: tuple[str, ...] = Field(default=("image-sorter", "script", "text-sorter"), min_length=1)
    slots: int = Field(default=1, ge=1, le=16)
    paused: bool = False
    rpc_url: str = ""  # of a node of the chain; settle and earnings ask it, and disputes are answered through it
    disputes: Address | None = None  # the Disputes contract that the node may speak to; no coordinator's word is enough
    contest_disputes: bool = True  # post a bond by itself where the node's own re-run says that its work was right
    state_dir: OwnersPath
    limits: Limits = Limits()

    @property
    def ask_usd_micros_per_gpu_hour(self) -> int:
        return parse_usd(self.ask_usd_per_gpu_hour)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            parse_usd(self.ask_usd_per_gpu_hour)
        except BadRequest as err:
            raise ValueError(f"ask_usd_per_gpu_hour: {err}") from err
        if self.backend == "docker" and not _BY_DIGEST.fullmatch(self.image):
            raise ValueError('backend "docker" needs image, named by its digest: "name@sha256:..."')
        url = urlsplit(self.coordinator_url)
        grpc_host = self.coordinator.rpartition(":")[0]
        if self.own_market and not (is_loopback(grpc_host) and is_loopback(url.hostname or "")):
            raise ValueError("own_market is for a coordinator on this very machine")
        if self.backend == "process" and not (self.own_renters or self.own_market):
            raise ValueError('backend "process" has no sandbox, so it needs own_renters: it runs nobody else\'s jobs')
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
            raise ValueError("coordinator_url must start with https://, unless it is on this very machine")
        return self


def load_config(path: Path, overrides: Mapping[str, Any] | None = None) -> NodeConfig:
    """The configuration in a TOML file, with the overrides that are not None laid over it.

    Raises:
        NotFound: no such file.
        BadSettings: not TOML, or a setting is missing, unknown or wrong.
    """
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError as err:
        raise NotFound(f"There is no configuration at {path}.", todo="docs/providers.md shows one.") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise BadSettings(f"{path} is not valid TOML: {err}.", effect="The settings were not taken.") from err
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return NodeConfig.model_validate(values, context=path.parent)
    except ValidationError as err:
        raise BadSettings(
            f"{path} cannot be used. {_sentences(err)}",
            effect="The settings were not taken.",
            todo="Correct it; docs/providers.md explains each setting.",
        ) from err


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _sentences(err: ValidationError) -> str:
    """One sentence a fault; pydantic's own text would quote the whole input, paths of secrets included."""
    faults = err.errors(include_url=False, include_context=False, include_input=False)
    return " ".join(f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}." for fault in faults)
