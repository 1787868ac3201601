"""Looking at this machine for the doctor: each probe gives what it saw, or the error that it met."""

import asyncio
import os
import shutil
import socket
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import docker
import grpc.aio
from docker.errors import DockerException

from gristmill_protocol.errors import BadSettings, GristmillError, MissingPart, NotFound, Unavailable
from gristmill_provider.authority import read_authority
from gristmill_provider.config import Limits, NodeConfig, load_config
from gristmill_provider.devices import Device, find_gpus
from gristmill_provider.docker_runner import require_toolkit
from gristmill_provider.doctor import Engine, KeyFiles, Room
from gristmill_provider.images import is_here
from gristmill_provider.introduction import Front, Greeting, common_image
from gristmill_provider.keys import open_key
from gristmill_provider.link import Coordinator, open_channel
from gristmill_provider.room import free_bytes

T = TypeVar("T")

_ENGINE_TIMEOUT_S = 20
_DIAL_S = 8
_DOCKER_SOCKET = "unix:///var/run/docker.sock"
_CDI_SPECS = ("/etc/cdi/nvidia.yaml", "/etc/cdi/nvidia.json", "/var/run/cdi/nvidia.yaml")
_INSTALL_DOCKER = "Install it (https://docs.docker.com/engine/install) and start it: sudo systemctl enable --now docker"


class Machine:
    """This machine under a configuration, of which half may be missing.

    Args:
        given: settings that the owner named beside the file.
    """

    def __init__(self, file: Path, given: dict[str, Any]) -> None:
        self.file = file
        self._given = {name: value for name, value in given.items() if value is not None}

    @property
    def is_set_up(self) -> bool:
        return not isinstance(self.config, NotFound)

    @cached_property
    def config(self) -> NodeConfig | GristmillError:
        """The settings as a node takes them."""
        return _caught(lambda: load_config(self.file, self._given))

    @cached_property
    def _values(self) -> dict[str, Any]:
        with suppress(OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            return tomllib.loads(self.file.read_text(encoding="utf-8")) | self._given
        return self._given

    def setting(self, name: str) -> Any:
        """A setting, its default where it is missing; None: it has none."""
        default = NodeConfig.model_fields[name].get_default()
        return self._values.get(name, default if isinstance(default, str | bool | int) else None)

    def path(self, name: str, default: str) -> Path:
        """A file or folder that the settings name, or that setting up would make."""
        return self.file.absolute().parent / Path(str(self._values.get(name, default))).expanduser()

    @property
    def gpus(self) -> tuple[str, ...]:
        """UUIDs of the cards that are offered; "": the first."""
        return (self.setting("gpu"), *(str(card.get("gpu")) for card in self._tables("more_gpus")))

    def visits(self) -> "list[Machine]":
        """This machine as each of its coordinators meets it."""
        others = [{"ca_file": "", **table} for table in self._tables("more_coordinators")]
        return [self, *(Machine(self.file, self._given | other) for other in others)]

    def _tables(self, name: str) -> list[dict[str, Any]]:
        found = self._values.get(name)
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def limits(self) -> Limits:
        config = self.config
        return config.limits if isinstance(config, NodeConfig) else Limits()

    @property
    def sandboxed(self) -> bool:
        return bool(self.setting("backend") == "docker" and not self.setting("own_renters"))

    @cached_property
    def cards(self) -> list[Device] | GristmillError:
        return _caught(find_gpus)

    @cached_property
    def engine(self) -> Engine | GristmillError:
        """The Docker engine."""
        try:
            with self._docker() as client:
                told, about = client.version(), client.info()
        except (DockerException, OSError) as err:
            return _engine_fault(err, self.setting("docker_url"))
        api = tuple(map(int, str(told["ApiVersion"]).split(".")))
        return Engine(told["Version"], api, Path(about["DockerRootDir"]), bool(about.get("CDISpecDirs")))

    def image(self) -> str | GristmillError:
        """Where the image is: here, or in its registry; a sentence."""
        image = self.setting("image") or self._image_told()
        if not image:
            todo = "Set image as the coordinator's operator tells you."
            return BadSettings("No image is named.", effect="No job can run.", todo=todo)
        try:
            with self._docker() as client:
                here = is_here(client, image)
        except GristmillError as err:
            return err
        except (DockerException, OSError) as err:
            return _engine_fault(err, self.setting("docker_url"))
        return "It is on this machine" if here else "It will be fetched at the first start"

    def _image_told(self) -> str:
        terms = self.greeting.info.nodes if isinstance(self.greeting, Greeting) else None
        return common_image(terms) if terms else ""

    def toolkit(self) -> GristmillError | None:
        return _caught(require_toolkit)

    def cdi_spec(self) -> bool:
        return any(map(os.path.exists, _CDI_SPECS))

    def rooms(self) -> list[Room]:
        """Where the state is kept, and where this machine's engine keeps images."""
        engine = self.engine
        places = [self.path("state_dir", "state"), *([engine.root] if isinstance(engine, Engine) else [])]
        return [Room(place, free_bytes(place)) for place in places]

    @cached_property
    def greeting(self) -> Greeting | GristmillError:
        """What the coordinator says over HTTP."""
        url = self.setting("coordinator_url")
        if not url:
            todo = "Add --coordinator-url, or set coordinator_url."
            return BadSettings("No coordinator is named.", effect="Nobody gives this machine work.", todo=todo)
        return _caught(Front(url, self._ca_file).greet)

    def stream(self) -> str | GristmillError:
        """The address of the coordinator's stream for nodes, which answers."""
        greeting = self.greeting
        terms = greeting.info.nodes if isinstance(greeting, Greeting) else None
        address = self.setting("coordinator") or (terms.grpc_address if terms else "")
        if not address:
            return Unavailable("Its address is not known.", todo="Mend the coordinator's HTTP side first.")
        return _caught(lambda: asyncio.run(_dial(Coordinator(address, read_authority(self._ca_file).certificates))))

    def can_make_volumes(self) -> bool:
        return shutil.which("mkfs.ext4") is not None and os.path.exists("/dev/loop-control")

    @cached_property
    def key(self) -> KeyFiles | GristmillError:
        keystore, password = self.path("keystore", "node-key.json"), self.path("password_file", "node-password")
        try:
            if not keystore.exists():
                return NotFound(
                    f"There is no key at {keystore}.",
                    effect="Nothing can be signed.",
                    todo="gristmill-node up makes one; else bring it back from your copy.",
                )
            address = str(open_key(keystore, password).address)
        except GristmillError as err:
            return err
        except OSError as err:
            return NotFound(f"The key's files cannot be read: {err}.", todo="Run this as the node's own account.")
        readable = [path for path in (keystore, password) if stat.S_IMODE(path.stat().st_mode) & 0o077]
        return KeyFiles(address, tuple(readable))

    @property
    def _ca_file(self) -> Path | None:
        return self.path("ca_file", "") if self._values.get("ca_file") else None

    @contextmanager
    def _docker(self) -> Iterator[Any]:
        url = self.setting("docker_url") or os.environ.get("DOCKER_HOST") or _DOCKER_SOCKET
        if url.startswith("unix://"):  # says more of what is wrong than the SDK does
            with closing(socket.socket(socket.AF_UNIX)) as knock:
                knock.settimeout(_ENGINE_TIMEOUT_S)
                knock.connect(url.removeprefix("unix://"))
        client = docker.DockerClient(url, timeout=_ENGINE_TIMEOUT_S)
        try:
            yield client
        finally:
            client.close()


async def _dial(coordinator: Coordinator) -> str:
    try:
        async with open_channel(coordinator) as channel, asyncio.timeout(_DIAL_S):
            await channel.channel_ready()
    except (TimeoutError, OSError, grpc.aio.AioRpcError) as err:
        raise Unavailable(
            f"No stream can be opened to {coordinator.address} within {_DIAL_S} s.",
            effect="This machine gets no work.",
            todo="Let it connect to that port (firewall, proxy); the coordinator's operator knows whether it is up.",
        ) from err
    return coordinator.address


def _engine_fault(err: Exception, url: str) -> GristmillError:
    effect = "No job can run in a sandbox."
    if isinstance(err, PermissionError):
        todo = "sudo usermod -aG docker $USER, then sign out and in again; or run the node as root."
        return MissingPart("This account may not use Docker.", effect=effect, todo=todo)
    if url:
        return MissingPart(
            f"No Docker engine answers at {url}.", effect=effect, todo="Correct docker_url, or start it."
        )
    return MissingPart("No Docker engine answers.", effect=effect, todo=_INSTALL_DOCKER)


def _caught(probe: Callable[[], T]) -> T | GristmillError:
    try:
        return probe()
    except GristmillError as err:
        return err
