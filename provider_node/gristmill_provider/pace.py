"""How fast the node may download and upload, so that the owner's connection stays usable: a transport that waits."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import httpx

_BITS = 8
_CHUNK_BYTES = 64 * 1024


class Pace:
    """One direction's share of the line, whatever the number of transfers.

    Args:
        mbit: megabits a second; None: as much as there is.
    """

    def __init__(
        self,
        mbit: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bytes_per_s = None if mbit is None else mbit * 1e6 / _BITS
        self._clock = clock
        self._sleep = sleep
        self._free_s = 0.0  # when all that was let through so far is over the line at that rate

    async def spend(self, size_bytes: int) -> None:
        """Return once so much more may have gone over the line."""
        if self._bytes_per_s is not None:
            self._free_s = max(self._free_s, self._clock()) + size_bytes / self._bytes_per_s
            await self._sleep(self._free_s - self._clock())

    async def of(self, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, at this pace."""
        async for part in content:
            for at in range(0, len(part), _CHUNK_BYTES):
                chunk = part[at : at + _CHUNK_BYTES]
                await self.spend(len(chunk))
                yield chunk


class PacedTransport(httpx.AsyncBaseTransport):
    """Another transport, no faster than the owner allows."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, download: Pace, upload: Pace) -> None:
        self._inner = inner
        self._download = download
        self._upload = upload

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        request.stream = _Paced(request.stream, self._upload)
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Paced(response.stream, self._download)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Paced(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._pace.of(self._inner):
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
