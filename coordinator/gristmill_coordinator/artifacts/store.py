"""Artifacts on disk: one file per content hash, which is there whole or not at all."""

import asyncio
import errno
import os
import secrets
import time
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from gristmill_protocol.errors import Conflict, GristmillError, NoSpace, NotFound, TooLarge, WrongHash
from gristmill_protocol.jobs import ArtifactRef

_FLUSH_BYTES = 1024 * 1024  # fewer hops to a thread than the network's chunks would need
_ABANDONED_S = 24 * 3600


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", buffering=0)


class ArtifactStore:
    """Content-addressed files under one folder.

    Args:
        root: made if missing; several processes may share it.
        max_bytes: larger artifacts are refused.
        create: opens a fresh file for writing; a test's way to a full disk.
    """

    def __init__(
        self, root: Path, *, max_bytes: int = 8 * 1024**3, create: Callable[[Path], BinaryIO] = _create
    ) -> None:
        self.max_bytes = max_bytes
        self._root = root
        self._create = create
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def has(self, sha256_hex: str) -> bool:
        return self._path(sha256_hex).is_file()

    def path(self, sha256_hex: str) -> Path:
        """Where the whole artifact lies, for reading.

        Raises:
            NotFound: it is not here.
        """
        path = self._path(sha256_hex)
        if not path.is_file():
            raise NotFound(f"There is no artifact {sha256_hex[:12]}….")
        return path

    def size(self, sha256_hex: str) -> int:
        """Bytes of an artifact.

        Raises:
            NotFound: it is not here.
        """
        return self.path(sha256_hex).stat().st_size

    def read(self, sha256_hex: str) -> bytes:
        """A small artifact's content.

        Raises:
            NotFound: it is not here.
        """
        return self.path(sha256_hex).read_bytes()

    def require_size(self, size_bytes: int) -> None:
        """Raises:
        TooLarge: more than max_bytes.
        """
        if size_bytes > self.max_bytes:
            raise TooLarge(
                f"The file is larger than {self.max_bytes:,} bytes, the most this coordinator takes.",
                effect="It was not stored.",
                todo="Send less data, or ask the operator for a higher limit.",
            )

    def delete(self, sha256_hex: str) -> None:
        """Forget an artifact; one that is not here is forgotten already."""
        self._path(sha256_hex).unlink(missing_ok=True)

    async def put(
        self, sha256_hex: str, chunks: AsyncIterable[bytes], *, caller: str = "", offset: int = 0
    ) -> ArtifactRef:
        """Store a stream under the hash it was announced with; again is harmless.

        The stream is always read and hashed, so that having put an artifact proves having had it.

        Args:
            caller: who sends it; what is broken off is kept for them, and for them only, until they go on.
            offset: where they go on, in bytes, as received() says.
        Raises:
            WrongHash: the content has another hash.
            TooLarge: more than max_bytes.
            NoSpace: the disk is full.
            Conflict: so much has not been received.
        """
        with _full_disk_explained():
            incoming = await asyncio.to_thread(self._open, self._part(sha256_hex, caller), offset)
            try:
                await self._receive(incoming, chunks)
                incoming.require_hash(sha256_hex)
                await asyncio.to_thread(incoming.move_to, self._path(sha256_hex))
            except BaseException as err:
                if caller and not isinstance(err, GristmillError) and not _is_full_disk(err):
                    incoming.move_to(self._part(sha256_hex, caller))
                raise
            finally:
                incoming.discard()
        return ArtifactRef(sha256=sha256_hex, size_bytes=incoming.size_bytes)

    def received(self, sha256_hex: str, caller: str) -> int:
        """Bytes that are kept of a caller's upload that was broken off."""
        try:
            return self._part(sha256_hex, caller).stat().st_size
        except FileNotFoundError:
            return 0

    async def put_bytes(self, content: bytes) -> ArtifactRef:
        """Store content that the coordinator made itself.

        Raises:
            TooLarge, NoSpace: as put().
        """

        async def once() -> AsyncIterable[bytes]:
            yield content

        return await self.put(sha256(content).hexdigest(), once())

    def _part(self, sha256_hex: str, caller: str) -> Path:
        return self._incoming / f"{sha256_hex}.{sha256(caller.encode()).hexdigest()[:16]}"

    def _open(self, part: Path, offset: int) -> "_Incoming":
        path = self._incoming / secrets.token_hex(16)
        if not offset:
            return _Incoming(path, self._create(path))
        try:
            part.rename(path)  # whoever goes on has it alone
        except FileNotFoundError as err:
            raise _not_received(offset) from err
        incoming = _Incoming(path, path.open("r+b", buffering=0))
        try:
            incoming.take_up(offset)
        except Conflict:
            incoming.discard()
            raise
        return incoming

    async def _receive(self, incoming: "_Incoming", chunks: AsyncIterable[bytes]) -> None:
        waiting = bytearray()
        received = 0
        async for chunk in chunks:
            received += len(chunk)
            self.require_size(received)
            waiting += chunk
            if len(waiting) >= _FLUSH_BYTES:
                await asyncio.to_thread(incoming.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(incoming.write, bytes(waiting))

    def _path(self, sha256_hex: str) -> Path:
        if len(sha256_hex) != 64 or not set(sha256_hex) <= set("0123456789abcdef"):
            raise NotFound(f"{sha256_hex[:80]!r} is no content hash.", todo="Use 64 lower-case hexadecimal digits.")
        return self._root / sha256_hex[:2] / sha256_hex

    def _sweep(self) -> None:
        """Remove what uploads left behind that died with their process."""
        # File times come from the system's clock, so no other clock can be compared with them.
        oldest = time.time() - _ABANDONED_S
        for path in self._incoming.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)


class _Incoming:
    """A file on its way in: hashed while it is written, visible only once moved."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.size_bytes = 0
        self._hash = sha256()
        self._path = path
        self._file = file

    def take_up(self, offset: int) -> None:
        """Go on behind so many bytes of what is there.

        Raises:
            Conflict: there is less.
        """
        while self.size_bytes < offset:
            piece = self._file.read(min(_FLUSH_BYTES, offset - self.size_bytes))
            if not piece:
                raise _not_received(offset)
            self._hash.update(piece)
            self.size_bytes += len(piece)
        self._file.truncate(offset)

    def write(self, content: bytes) -> None:
        left = memoryview(content)
        while left:  # an unbuffered file may take less than it is given
            left = left[self._file.write(left) :]
        self._hash.update(content)
        self.size_bytes += len(content)

    def require_hash(self, announced: str) -> None:
        if self._hash.hexdigest() != announced:
            raise WrongHash(
                f"The file's hash is {self._hash.hexdigest()}, not {announced} as announced.",
                effect="It was not stored.",
                todo="Send it again; if that fails too, the file changed or was damaged on its way.",
            )

    def move_to(self, final: Path) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        final.parent.mkdir(exist_ok=True)
        os.replace(self._path, final)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _not_received(offset: int) -> Conflict:
    return Conflict(f"Less than {offset} bytes of this file have been received.", todo="Ask how many, or start anew.")


def _is_full_disk(err: BaseException) -> bool:
    return isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _full_disk_explained() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if not _is_full_disk(err):
            raise
        raise NoSpace(
            "The coordinator's disk is full.",
            effect="Nothing was stored.",
            todo="Try again later, or ask its operator to make room.",
        ) from err
