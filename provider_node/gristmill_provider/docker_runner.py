"""The training program in a container that can do next to nothing; sandbox.py says what."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, TypeVar

import docker
import structlog
from docker.errors import DockerException
from docker.models.containers import Container
from docker.utils.socket import frames_iter

from gristmill_protocol.completion import to_its_end
from gristmill_protocol.errors import MissingPart, Unavailable
from gristmill_protocol.progress import TrainerEvent
from gristmill_provider.config import Limits
from gristmill_provider.images import is_here
from gristmill_provider.runner import MAX_LINE_BYTES, Ended, Kind, Run, parse_event
from gristmill_provider.sandbox import MIN_DOCKER_API, WORK, Engine, container
from gristmill_provider.volume import make_room, take_back

logger = structlog.get_logger(__name__)

T = TypeVar("T")
Call = Callable[..., Any]

NODE_LABEL = "org.gristmill.node"
TRAINER = ("python", "-m", "gristmill_trainer")

# Of coreutils, since they follow no link and go as deep as folders may; the folder itself cannot be deleted.
_EMPTY = ("sh", "-c", f"chmod -R u+rwX {WORK}/out; rm -rf {WORK}/out")
_EMPTY_S = 300

# Older ones let an image take over the host (CVE-2025-23266).
MIN_TOOLKIT = (1, 17, 8)

_KILLED = 137
_KILLED_LOOKS = 5
_BETWEEN_LOOKS_S = 0.1

# What the SDK raises: its own errors, and those of the HTTP library below it, which are OSErrors.
_ENGINE_ERRORS = (DockerException, OSError)


class DockerRunner:
    """Containers of one node on one engine.

    Args:
        node_id: labels the containers, so that a later life of the node finds and removes them.
        image: the trainer's, by digest.
        runtime: what the engine runs them with.
        command: the training program inside; the kind and the folder are added.
    """

    def __init__(
        self,
        *,
        node_id: str,
        image: str,
        limits: Limits,
        gpu_uuid: str | None,
        url: str = "",
        runtime: str = "runc",
        command: tuple[str, ...] = TRAINER,
    ) -> None:
        self._labels = {NODE_LABEL: node_id}
        self._image = image
        self._limits = limits
        self._gpu_uuid = gpu_uuid
        self._url = url
        self._command = command
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="docker")
        self._docker: Any = None
        self._engine = Engine(runtime=runtime)
        self._pids: dict[str, int] = {}  # container id -> its first process

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(self._pids.values())

    async def open(self) -> None:
        await self._blocking(self._open)

    async def start(self, task_dir: Path, kind: Kind) -> Run:
        starting = asyncio.create_task(self._blocking(self._start, task_dir, kind))
        try:
            return await to_its_end(starting)
        except asyncio.CancelledError:
            if starting.exception() is None:
                await starting.result().close()
            raise

    async def empty(self, task_dir: Path) -> None:
        await to_its_end(self._blocking(self._empty, task_dir))

    async def close(self) -> None:
        if self._docker is not None:
            await self._blocking(self._docker.close)
        self._threads.shutdown(wait=False)

    async def _blocking(self, call: Callable[..., T], *args: object) -> T:
        """The one way to a blocking call: in a thread of our own pool, since following an output holds one."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _open(self) -> None:
        try:
            self._docker = docker.DockerClient(self._url) if self._url else docker.from_env()
            self._engine = _engine(self._docker, self._engine.runtime, self._gpu_uuid)
            for left in self._docker.containers.list(all=True, filters={"label": _label(self._labels)}):
                logger.warning("leftover_container_removed", container=left.short_id)
                left.remove(force=True, v=True)
            if not is_here(self._docker, self._image):
                logger.info("image_pulled", image=self._image)
                self._docker.images.pull(self._image)
        except _ENGINE_ERRORS as err:
            raise _unusable(f"The Docker engine cannot be used: {err}.") from err
        if self._gpu_uuid is not None:
            require_toolkit()

    def _start(self, task_dir: Path, kind: Kind) -> Run:
        place = () if kind == "probe" else (WORK,)
        out = task_dir / "out"
        make_room(out, self._limits.work_bytes, keep_free_bytes=self._limits.keep_free_bytes)
        with ExitStack() as held:
            held.callback(take_back, out)
            try:
                made = self._made((*self._command, kind, *place), task_dir, self._gpu_uuid, held)
                output = made.attach_socket(params={"stdout": 1, "stream": 1, "logs": 1})
                held.callback(_hang_up, output)  # first: no container is removed whose output somebody fails to take
                made.start()
                made.reload()
            except _ENGINE_ERRORS as err:
                raise Unavailable(f"The container could not be started: {err}.") from err
            self._pids[made.id] = made.attrs["State"]["Pid"]
            return _DockerRun(made, output, self._blocking, held.pop_all())

    def _empty(self, task_dir: Path) -> None:
        with ExitStack() as held:
            try:
                made = self._made(_EMPTY, task_dir, None, held)
                made.start()
                made.wait(timeout=_EMPTY_S)
            except _ENGINE_ERRORS as err:
                raise Unavailable(f"The container that empties a work folder failed: {err}.") from err

    def _made(self, command: Sequence[str], task_dir: Path, gpu_uuid: str | None, held: ExitStack) -> Container:
        """A container that is not started yet, and removed by what is held."""
        made = self._docker.containers.create(
            **container(
                command,
                image=self._image,
                task_dir=task_dir,
                limits=self._limits,
                gpu_uuid=gpu_uuid,
                engine=self._engine,
                labels=self._labels,
            )
        )
        held.callback(self._pids.pop, made.id, None)  # after the removal: what dies is still ours
        held.callback(_remove, made)
        return made


class _DockerRun:
    """A container that runs.

    Args:
        held: frees what it holds.
    """

    def __init__(self, made: Container, output: Any, blocking: Call, held: ExitStack) -> None:
        self._container = made
        self._lines = _lines(chunk for _, chunk in frames_iter(output, tty=False))
        self._blocking = blocking
        self._held = held

    async def events(self) -> AsyncIterator[TrainerEvent]:
        while (line := await self._blocking(next, self._lines, None)) is not None:
            yield parse_event(line)

    async def stop(self, grace_s: float) -> None:
        try:
            await self._blocking(lambda: self._container.stop(timeout=max(1, round(grace_s))))
        except _ENGINE_ERRORS as err:  # it is gone, or close() will have to end it
            logger.warning("container_not_stopped", container=self._container.short_id, reason=str(err))

    async def wait(self) -> Ended:
        return await self._blocking(self._ended)  # type: ignore[no-any-return]

    async def close(self) -> None:
        await to_its_end(self._blocking(self._held.close))

    def _ended(self) -> Ended:
        try:
            code = self._container.wait()["StatusCode"]
            out_of_memory = self._out_of_memory(code)
            words = self._container.logs(stdout=False, stderr=True, tail=5).decode(errors="replace")
        except _ENGINE_ERRORS as err:
            raise Unavailable(f"The container was lost: {err}.") from err
        return Ended(code, words, out_of_memory)

    def _out_of_memory(self, code: int) -> bool:
        """Whether memory was why it was killed: the engine may hear of that a moment after the end."""
        self._container.reload()
        for _ in range(_KILLED_LOOKS if code == _KILLED else 0):
            if self._container.attrs["State"]["OOMKilled"]:
                break
            time.sleep(_BETWEEN_LOOKS_S)
            self._container.reload()
        return bool(self._container.attrs["State"]["OOMKilled"])


def require_toolkit() -> None:
    """Raises:
    MissingPart: the NVIDIA container toolkit is missing or has a known hole.
    """
    program = shutil.which("nvidia-ctk")
    said = ""
    if program is not None:
        said = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=10).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if found is None or tuple(map(int, found.groups())) < MIN_TOOLKIT:
        wanted = ".".join(map(str, MIN_TOOLKIT))
        raise MissingPart(
            f"The NVIDIA container toolkit is {found.group() if found else 'missing'}; {wanted} or newer is needed.",
            effect="No container gets the graphics card.",
            todo="Install it by NVIDIA's guide "
            "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html), then: "
            "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
        )


def knows_card(spec_dirs: Sequence[str], gpu_uuid: str) -> bool:
    """Whether a specification for the Container Device Interface in one of the folders names the card."""
    specs = [path for folder in spec_dirs for path in Path(folder).glob("*") if path.suffix in (".json", ".yaml")]
    return any(gpu_uuid in path.read_text(errors="replace") for path in specs)


def _engine(client: Any, runtime: str, gpu_uuid: str | None) -> Engine:
    version, about = client.api.api_version, client.info()
    if tuple(map(int, version.split("."))) < MIN_DOCKER_API:
        raise _unusable(f"The Docker engine is too old: its API is {version}, 1.41 (Docker 20.10) is needed.")
    if runtime not in about.get("Runtimes", {}):
        raise MissingPart(
            f"The Docker engine has no runtime {runtime!r}.",
            effect="Nothing can be run on this machine.",
            todo="Install it and name it in /etc/docker/daemon.json, or take the setting runtime out; "
            "docs/providers.md says how.",
        )
    return Engine(
        cdi=gpu_uuid is not None and knows_card(about.get("CDISpecDirs") or [], gpu_uuid),
        runtime=runtime,
    )


def _hang_up(output: Any) -> None:
    with suppress(OSError):
        output._sock.shutdown(SHUT_RDWR)  # ends a read in another thread
    output._response.close()  # where the SDK keeps it; closing the socket alone leaves the connection


def _remove(made: Container) -> None:
    try:
        made.remove(force=True, v=True)
    except _ENGINE_ERRORS as err:  # the next open() removes it
        logger.warning("container_not_removed", container=made.short_id, reason=str(err))


def _label(labels: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines in a stream of chunks; one without end is cut, which makes it no event."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _unusable(what: str) -> MissingPart:
    return MissingPart(
        what,
        effect="Nothing can be run on this machine.",
        todo="Start or update Docker, and let this account use it; docs/providers.md says how.",
    )
