"""Files named by their content: the node's cache of them, and their way to and from the coordinator."""

import asyncio
import errno
import os
import random
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Set
from contextlib import contextmanager, suppress
from hashlib import sha256 as new_sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from weakref import WeakValueDictionary

import httpx
import structlog
from pydantic import ValidationError

from gristmill_protocol.completion import to_its_end
from gristmill_protocol.errors import (
    GristmillError,
    NoSpace,
    NotFound,
    NotSignedIn,
    Problem,
    TooLarge,
    Unavailable,
    WrongHash,
)
from gristmill_protocol.jobs import ArtifactRef

logger = structlog.get_logger(__name__)

_CHUNK_BYTES = 1024**2
_SLICE_BYTES = 8 * 1024**2  # what a thread is given to do at once, so that who waits for it can be stopped
_ABANDONED_S = 86_400


class ArtifactCache:
    """A folder of files named by their SHA-256; what is in it under its name is whole and was checked.

    Args:
        adopt_bytes: the largest file that a training program may hand in.
        keep_free_bytes: of the disk it is on; what would leave less is not stored.
    """

    def __init__(self, root: Path, *, adopt_bytes: int, keep_free_bytes: int = 0) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._adopt_bytes = adopt_bytes
        self._keep_free_bytes = keep_free_bytes
        self._pruning = asyncio.Lock()
        for part in root.glob("*.own.part"):
            part.unlink()

    def path(self, sha256: str) -> Path:
        return self._root / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def size(self, sha256: str) -> int:
        return self.path(sha256).stat().st_size

    def adopt(self, source: Path, *, below: Path, sha256: str) -> None:
        """Move a file that a training program wrote into the cache.

        Args:
            below: the folder that the program may write to; nothing outside of it is read, by whatever link.
        Raises:
            WrongHash: the program claims another content.
            Unavailable: there is no such plain file below that folder.
            TooLarge: it has more than adopt_bytes; with holes in it, it may be larger than the disk.
            NoSpace: the disk is full.
        """
        if not self.has(sha256):
            with _plain_file(source, below) as file, self.incoming(sha256, name="own") as part:
                part.restart()
                while chunk := file.read(_CHUNK_BYTES):
                    if part.size_bytes + len(chunk) > self._adopt_bytes:
                        part.restart()
                        raise TooLarge("The training program hands in more than an attempt may write on this machine.")
                    part.write(chunk)
        with suppress(OSError):  # its folder may belong to the container's user; it goes with the task then
            source.unlink()

    def incoming(self, sha256: str, *, name: str) -> "IncomingFile":
        """A file on its way into the cache; one of that name that was broken off goes on where it was."""
        part = self._root / f"{sha256}.{name}.part"
        with _disk_space():
            part.touch()  # from here on it is not given up
        return IncomingFile(part, self.path(sha256), keep_free_bytes=self._keep_free_bytes)

    async def place(self, sha256: str, target: Path) -> None:
        """Put a file of the cache at another path, read-only; it takes no room of its own where the disk allows."""
        source = self.path(sha256)
        os.utime(source)
        try:
            os.link(source, target)
        except OSError:
            # Open, it stays readable whatever is pruned meanwhile.
            with _disk_space(), source.open("rb") as file, target.open("xb") as copy:
                os.fchmod(copy.fileno(), 0o444)
                while await to_its_end(asyncio.to_thread(lambda: copy.write(file.read(_SLICE_BYTES)))):
                    pass

    async def prune(self, *, keep: Callable[[], Set[str]], max_bytes: int) -> None:
        """Delete the files that were longest unused until the rest fits, never one of keep(); and downloads given up.

        What has to be kept changes meanwhile: keep() is asked before each deletion, in the same turn of the loop.
        """
        async with self._pruning:
            parts, whole = await asyncio.to_thread(self._listed)
            for part in parts:
                with suppress(FileNotFoundError):  # it is whole by now
                    if part.stat().st_mtime < time.time() - _ABANDONED_S:  # files' times are the system clock's
                        await _delete(part)
            total = sum(about.st_size for about, _ in whole)
            for about, path in whole:
                if total <= max_bytes:
                    return
                if path.name not in keep():
                    await _delete(path)
                    total -= about.st_size

    def _listed(self) -> tuple[list[Path], list[tuple[os.stat_result, Path]]]:
        """What is on its way, and what is whole, the longest unused first."""
        paths = list(self._root.iterdir())
        whole = [(path.stat(), path) for path in paths if path.suffix != ".part"]
        return [path for path in paths if path.suffix == ".part"], sorted(whole, key=lambda one: one[0].st_mtime)


class IncomingFile:
    """Bytes under a temporary name; leaving the context in order checks them and gives them their own.

    As an asynchronous context it reads what is there already, and has all of it written, in threads.
    """

    def __init__(self, part: Path, target: Path, *, keep_free_bytes: int = 0) -> None:
        self._part = part
        self._keep_free_bytes = keep_free_bytes
        self._target = target
        self._digest = new_sha256()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        self._open()
        while self._catch_up():
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._close(whole=kind is None)
        if kind is None:
            self._name()

    async def __aenter__(self) -> Self:
        self._open()
        try:
            while await to_its_end(asyncio.to_thread(self._catch_up)):
                pass
        except BaseException:
            self._file.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        await to_its_end(asyncio.to_thread(self._close, whole=kind is None))
        if kind is None:
            self._name()  # who waited for it has it in this turn of the loop, before it could be pruned

    def write(self, chunk: bytes) -> None:
        with _disk_space():
            if shutil.disk_usage(self._part.parent).free - len(chunk) < self._keep_free_bytes:
                raise OSError(errno.ENOSPC, "what is left is the owner's")
            self._file.write(chunk)
        self._take(chunk)

    def restart(self) -> None:
        """Drop what is there so far."""
        self._file.truncate(0)
        self._digest = new_sha256()
        self.size_bytes = 0

    def _open(self) -> None:
        with _disk_space():
            self._file = self._part.open("a+b")
        self._file.seek(0)

    def _catch_up(self) -> bool:
        """Read a little more of what is there already; False: that was all."""
        chunk = self._file.read(_SLICE_BYTES)
        self._take(chunk)
        return bool(chunk)

    def _close(self, *, whole: bool) -> None:
        with _disk_space():
            if whole:
                self._file.flush()
                os.fsync(self._file.fileno())  # a record that names it may be on the disk at once
            self._file.close()
        if whole and self._digest.hexdigest() != self._target.name:
            self._part.unlink()
            raise WrongHash(
                f"A file should have the hash {self._target.name} and has {self._digest.hexdigest()}.",
                effect="It was not used.",
            )

    def _name(self) -> None:
        self._part.chmod(0o444)
        self._part.rename(self._target)

    def _take(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size_bytes += len(chunk)


class ArtifactClient:
    """The coordinator's artifact endpoints, as a node uses them.

    Args:
        token: what the coordinator gave when the stream was opened; asked for at each request, since it is renewed.
        retry_s: shortest and longest pause between tries; each is doubled, and up to half of it taken off by chance.
    """

    def __init__(
        self,
        cache: ArtifactCache,
        http: httpx.AsyncClient,
        token: Callable[[], str],
        *,
        retry_s: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self._cache = cache
        self._http = http
        self._token = token
        self._retry_s = retry_s
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def fetch_in_time(self, ref: ArtifactRef, in_time: Callable[[], bool]) -> None:
        """As fetch(), again and again while the coordinator cannot be reached: its outage stops no job.

        Args:
            in_time: whether it is worth waiting for.
        """
        pause, longest = self._retry_s
        while True:
            try:
                return await self.fetch(ref)
            except NoSpace:
                raise
            except (Unavailable, NotSignedIn) as err:  # a new token comes with the stream
                if not in_time():
                    raise
                logger.warning("download_postponed", sha256=ref.sha256, reason=str(err))
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, longest)

    async def fetch(self, ref: ArtifactRef) -> None:
        """Bring a file into the cache, unless it is there.

        Raises:
            Unavailable: the coordinator cannot be reached now; a later call goes on where this one stopped.
            WrongHash, NoSpace, NotFound: as they say.
        """
        async with self._fetching.setdefault(ref.sha256, asyncio.Lock()):  # several files at once, each once
            if self._cache.has(ref.sha256):
                return
            async with self._cache.incoming(ref.sha256, name="fetched") as part:
                if part.size_bytes > ref.size_bytes:
                    part.restart()
                if part.size_bytes < ref.size_bytes:
                    await self._download(ref, part)

    async def upload(self, sha256: str) -> None:
        """See that the coordinator has a file of the cache; one that was broken off goes on where it was.

        Raises:
            Unavailable: the coordinator cannot be reached, or has no room now.
            NotFound: it is not in the cache any more.
        """
        with self._opened(sha256) as file, _reachable():
            head = await self._http.head(_url(sha256), headers=self._headers())
            if head.status_code == httpx.codes.OK:
                return
            answer = await self._send(sha256, file, int(head.headers.get("Upload-Offset", "0")))
            if answer.status_code == httpx.codes.CONFLICT:  # what was kept has gone meanwhile
                answer = await self._send(sha256, file, 0)
        if answer.is_error:
            raise _problem(answer)

    def _opened(self, sha256: str) -> BinaryIO:
        """Open, it stays readable whatever is pruned meanwhile."""
        try:
            return self._cache.path(sha256).open("rb")
        except FileNotFoundError as err:
            raise NotFound(f"This node does not have the file {sha256} any more.") from err

    async def _send(self, sha256: str, file: BinaryIO, offset: int) -> httpx.Response:
        left = max(0, os.fstat(file.fileno()).st_size - offset)
        headers = self._headers() | {"Content-Length": str(left), "Upload-Offset": str(offset)}
        return await self._http.put(_url(sha256), headers=headers, content=_chunks(file, offset))

    async def _download(self, ref: ArtifactRef, part: IncomingFile) -> None:
        headers = self._headers()
        if part.size_bytes:
            headers["Range"] = f"bytes={part.size_bytes}-"
        with _reachable():
            async with self._http.stream("GET", _url(ref.sha256), headers=headers) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _problem(answer)
                if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                    part.restart()
                async for chunk in answer.aiter_bytes():
                    if part.size_bytes + len(chunk) > ref.size_bytes:
                        part.restart()
                        raise WrongHash(f"The file {ref.sha256} is larger than was said.", effect="It was not used.")
                    part.write(chunk)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}


async def _chunks(file: BinaryIO, offset: int) -> AsyncIterator[bytes]:
    file.seek(offset)
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


async def _delete(path: Path) -> None:
    await asyncio.to_thread(_unlinked(path).close)


def _unlinked(path: Path) -> BinaryIO:
    """The last handle on a file: to close it frees the blocks, which is what takes long."""
    file = path.open("rb")
    path.unlink()
    return file


def _url(sha256: str) -> str:
    return f"/v1/artifacts/{sha256}"


def _problem(answer: httpx.Response) -> GristmillError:
    try:
        error = GristmillError.from_problem(Problem.model_validate_json(answer.content))
    except ValidationError:
        error = Unavailable(f"The coordinator answered with status {answer.status_code}.")
    if answer.is_server_error and not isinstance(error, Unavailable):
        return Unavailable(error.what, effect=error.effect, todo=error.todo)
    return error


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as err:
        raise Unavailable(f"The coordinator cannot be reached: {err or type(err).__name__}.") from err


@contextmanager
def _disk_space() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(
            "The node's disk has no room left for it.",
            effect="The file was not stored.",
            todo="Its owner has to make room, or lower keep_free_gib.",
        ) from err


@contextmanager
def _plain_file(source: Path, below: Path) -> Iterator[BinaryIO]:
    """Open a file of an untrusted writer: no link out of its folder, no pipe that never ends."""
    try:
        if not source.resolve(strict=True).is_relative_to(below.resolve(strict=True)):
            raise OSError(errno.EPERM, "it is outside of the folder")
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as err:
        raise Unavailable(f"The training program names a file {source.name!r} that cannot be read: {err}.") from err
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unavailable(f"The training program names {source.name!r}, which is no plain file.")
    with os.fdopen(descriptor, "rb") as file:
        yield file
