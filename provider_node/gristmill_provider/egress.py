"""The one way out of a sandbox: a proxy on a socket in the job's folder, for the few hosts that its owner allows.

The container itself has no network at all, so there is nothing to get around: no bridge, no name server, no neighbours.
The proxy takes CONNECT to port 443 of an allowed name, looks the name up itself, and connects to the very address that
it has looked at, if that is a public one.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import structlog

from gristmill_protocol.errors import GristmillError, NotAllowed, TooLarge, Unavailable
from gristmill_protocol.jobs import EGRESS_SOCKET

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Dial = Callable[[str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_PORT = 443
_HEAD_BYTES = 4096
_HEAD_S = 10
_DIAL_S = 10
_CONNECTIONS = 64
_PIECE_BYTES = 64 * 1024
_REQUEST = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")
_NAT64 = IPv6Network("64:ff9b::/96")

logger = structlog.get_logger(__name__)


async def look_up(host: str) -> Sequence[str]:
    """A name's addresses, as this machine's resolver gives them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, _PORT, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(address, _PORT)


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, also when another one is hidden in it."""
    ip = ip_address(address.partition("%")[0])
    hidden = _hidden(ip) if isinstance(ip, IPv6Address) else None
    return ip.is_global and not ip.is_multicast and (hidden is None or (hidden.is_global and not hidden.is_multicast))


def _hidden(ip: IPv6Address) -> IPv4Address | None:
    """The old address that a new one stands for: mapped, 6to4, Teredo or NAT64."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


@asynccontextmanager
async def way_out(
    folder: Path, hosts: Sequence[str], *, most_bytes: int, resolve: Resolve = look_up, dial: Dial = dial
) -> AsyncIterator[None]:
    """Serve a job's proxy in its folder while the context is open; without hosts there is none.

    Args:
        hosts: exact names, lower case.
        most_bytes: that the job may send and receive altogether.
    """
    if not hosts:
        yield
        return
    proxy = _Proxy(frozenset(hosts), most_bytes, resolve, dial)
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:  # a path may be longer than a socket's may be
        path = f"/proc/self/fd/{place}/{EGRESS_SOCKET}"
        server = await asyncio.start_unix_server(proxy.serve, path, limit=_HEAD_BYTES)
    finally:
        os.close(place)
    (folder / EGRESS_SOCKET).chmod(0o666)  # the container's user is another one
    try:
        yield
    finally:
        server.close()
        await proxy.close()
        logger.info("way_out_closed", hosts=sorted(hosts), bytes=proxy.used_bytes)


class _Proxy:
    """Of one job.

    Args:
        hosts: that it may reach.
    """

    def __init__(self, hosts: frozenset[str], most_bytes: int, resolve: Resolve, dial: Dial) -> None:
        self.used_bytes = 0
        self._hosts = hosts
        self._most_bytes = most_bytes
        self._resolve = resolve
        self._dial = dial
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its request to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._connect(reader, writer)
        except GristmillError as err:
            logger.info("way_out_refused", reason=err.what)
            with suppress(OSError):
                writer.write(f"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n{err}\n".encode())
                await writer.drain()
        except OSError:
            pass  # the job has gone
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) > _CONNECTIONS:
            raise NotAllowed(f"A job may have {_CONNECTIONS} connections at once.")
        host = self._require_allowed(await _head(reader))
        out_reader, out_writer = await self._reach(host)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, out_writer))
                both.create_task(self._pass_on(out_reader, writer))
        except* (OSError, TooLarge) as ended:
            logger.info("way_out_ended", host=host, reason=str(ended.exceptions[0]))
        finally:
            out_writer.close()

    def _require_allowed(self, head: bytes) -> str:
        asked = _REQUEST.match(head)
        if asked is None:
            raise NotAllowed("Only CONNECT to a named host is served.", todo="Use https, through the proxy.")
        host, port = asked[1].decode().lower().removesuffix("."), int(asked[2])
        if host not in self._hosts or port != _PORT:
            raise NotAllowed(f"{host}:{port} is not among what this job may reach.", todo="Declare the host; port 443.")
        return host

    async def _reach(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to an address of the host that was looked at; looking it up again could give another."""
        failure: Exception = NotAllowed(f"{host} has no public address.")
        try:
            async with asyncio.timeout(_DIAL_S):
                for address in filter(is_public, await self._resolve(host)):
                    try:
                        return await self._dial(address)
                    except OSError as err:
                        failure = err
        except OSError as err:  # TimeoutError is one
            failure = err
        if isinstance(failure, NotAllowed):
            raise failure
        raise Unavailable(f"{host} cannot be reached: {failure or type(failure).__name__}.") from failure

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            self.used_bytes += len(piece)
            if self.used_bytes > self._most_bytes:
                raise TooLarge("The job has sent and received as much as its owner allows.")
            writer.write(piece)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(_HEAD_S):
            return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as err:
        raise NotAllowed("The request has no end.") from err
