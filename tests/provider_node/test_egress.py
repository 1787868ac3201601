"""A job reaches the hosts that it declared and its owner allows, and nothing else, by no trick that we know."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.jobs import EGRESS_SOCKET
from gristmill_provider.egress import is_public, way_out

ALLOWED, PUBLIC = "allowed.example.org", "93.184.216.34"

Ask = Callable[..., Awaitable[bytes]]


@asynccontextmanager
async def proxy(
    folder: Path, *, addresses: Sequence[Sequence[str]] = ((PUBLIC,),), most_bytes: int = 10_000
) -> AsyncIterator[list[str]]:
    """A job's proxy before an internet in which every address is one echoing service; gives what was dialled."""
    dialled: list[str] = []
    answers = iter(addresses)
    asked: list[str] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        dialled.append(address)
        return await asyncio.open_connection(*service.sockets[0].getsockname())

    service = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with service, way_out(folder, [ALLOWED], most_bytes=most_bytes, resolve=resolve, dial=dial):
        yield dialled
    assert set(asked) <= {ALLOWED}, "another name was looked up, which tells it to name servers"


async def ask(folder: Path, request: str, *, then: bytes = b"") -> bytes:
    """What comes back for a request, and for bytes sent after it."""
    reader, writer = await asyncio.open_unix_connection(folder / EGRESS_SOCKET)
    writer.write(request.encode())
    said = await reader.readuntil(b"\r\n\r\n")
    writer.write(then)
    writer.write_eof()
    said += await reader.read()
    writer.close()
    return said


def connect(host: str, port: int = 443) -> str:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n"


async def test_an_allowed_host_is_reached_at_the_address_that_was_looked_at(tmp_path: Path) -> None:
    async with proxy(tmp_path) as dialled:
        said = await ask(tmp_path, connect(ALLOWED), then=b"hello")

    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"hello")
    assert dialled == [PUBLIC]


@pytest.mark.parametrize(
    "request_line",
    [
        connect("other.example.org"),
        connect("secret-data.allowed.example.org"),  # a tunnel of names
        connect("allowed.example.org.evil.example"),
        connect(PUBLIC),
        connect("169.254.169.254"),
        connect("[::1]"),
        connect("2130706433"),
        connect("0x7f.1"),
        connect("localhost"),
        connect(ALLOWED, 80),
        connect(ALLOWED, 22),
        connect(ALLOWED, 8443),
        f"GET http://{ALLOWED}/ HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n",
        f"POST https://{ALLOWED}/ HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n",
        f"CONNECT {ALLOWED}:443@evil.example HTTP/1.1\r\n\r\n",
        f"CONNECT evil.example:443 HTTP/1.1\r\nHost: {ALLOWED}:443\r\n\r\n",
        f"CONNECT\t{ALLOWED}:443 HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
    ],
)
async def test_nothing_else_is_reached(request_line: str, tmp_path: Path) -> None:
    async with proxy(tmp_path) as dialled:
        said = await ask(tmp_path, request_line)

    assert said.startswith(b"HTTP/1.1 403 ")
    assert dialled == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.17.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.251",
        "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe", "2002:7f00:1::", "64:ff9b::10.0.0.1", "2001:0:7f00:1::", "2001:0::8000:f57f:fffe",
    ],
)  # fmt: skip
async def test_an_allowed_name_that_leads_inside_is_refused(address: str, tmp_path: Path) -> None:
    async with proxy(tmp_path, addresses=[[address]]) as dialled:
        said = await ask(tmp_path, connect(ALLOWED))

    assert b"has no public address" in said
    assert dialled == []


async def test_a_name_that_changes_its_address_is_looked_at_each_time(tmp_path: Path) -> None:
    async with proxy(tmp_path, addresses=[[PUBLIC], ["127.0.0.1"], ["10.0.0.1", PUBLIC]]) as dialled:
        answers = [await ask(tmp_path, connect(ALLOWED)) for _ in range(3)]

    assert [answer[9:12] for answer in answers] == [b"200", b"403", b"200"]
    assert dialled == [PUBLIC, PUBLIC]


async def test_what_passes_is_counted_over_all_connections(tmp_path: Path) -> None:
    async with proxy(tmp_path, addresses=[[PUBLIC]] * 3, most_bytes=2_500):
        said = [await ask(tmp_path, connect(ALLOWED), then=bytes(1_000)) for _ in range(3)]

    assert said[0].endswith(bytes(1_000))
    assert len(said[1]) + len(said[2]) < 2_000


@pytest.mark.parametrize("request_line", ["CONNECT " + "a" * 10_000, "CONNECT "])
async def test_a_request_without_end_takes_no_memory(request_line: str, tmp_path: Path) -> None:
    async with proxy(tmp_path) as dialled:
        reader, writer = await asyncio.open_unix_connection(tmp_path / EGRESS_SOCKET)
        writer.write(request_line.encode())
        writer.write_eof()

        assert b"403" in await reader.readline()
        writer.close()

    assert dialled == []


async def test_a_job_that_declares_no_host_has_no_proxy(tmp_path: Path) -> None:
    async with way_out(tmp_path, [], most_bytes=1):
        assert not (tmp_path / EGRESS_SOCKET).exists()


@given(st.ip_addresses(v=4))
def test_an_address_hidden_in_a_new_one_counts_as_itself(address: object) -> None:
    assert not is_public(str(address)) or is_public(f"::ffff:{address}") == is_public(str(address))
    packed = socket.inet_aton(str(address)).hex()
    for hidden in (f"::ffff:{address}", f"2002:{packed[:4]}:{packed[4:]}::", f"64:ff9b::{address}"):
        assert is_public(str(address)) or not is_public(hidden)
