"""The dashboard as a page on loopback: one document without scripts, for this machine's own browser.

Any page of the web can have a browser ask 127.0.0.1, so the Host header has to name us (DNS rebinding), nothing can be
changed here, and no other origin may read or frame it.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from hashlib import sha256
from html import escape
from http import HTTPStatus
from importlib.resources import files

import structlog

from gristmill_protocol.errors import GristmillError, PortInUse
from gristmill_protocol.money import format_usd
from gristmill_provider.config import NodeConfig
from gristmill_provider.dashboard import demand_lines, device_words, task_words, when
from gristmill_provider.overview import Overview
from gristmill_provider.status import Event, Period, Status, in_hours

logger = structlog.get_logger(__name__)

Read = Callable[[], Awaitable[Sequence[Status]]]

_LOOPBACK = "127.0.0.1"
_REFRESH_S = 10
_MAX_HEAD_BYTES = 16 * 1024
_PATIENCE_S = 10
_STYLE = files("gristmill_provider").joinpath("page.css").read_text()
_STYLE_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Connection": "close",
}


@asynccontextmanager
async def served(port: int, read: Read) -> AsyncIterator[str]:
    """Serve the page while the block runs; gives its address.

    Args:
        port: 0: any free one.
    Raises:
        PortInUse: another program listens there.
    """
    page = _Page(read)
    try:
        server = await asyncio.start_server(page.answer, _LOOPBACK, port, limit=_MAX_HEAD_BYTES)
    except OSError as err:
        raise PortInUse(
            f"The dashboard cannot be opened on port {port}: {err}.",
            effect="The node works without it.",
            todo="Set dashboard_port = 0 for any free port.",
        ) from err
    page.port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://{_LOOPBACK}:{page.port}/"


@asynccontextmanager
async def beside(config: NodeConfig) -> AsyncIterator[None]:
    """Serve the page of a configuration's nodes while the block runs, if its owner wants one."""
    if config.dashboard_port is None:
        yield
        return
    overview, reading = Overview(config), asyncio.Lock()

    async def read() -> Sequence[Status]:
        async with reading:
            return await asyncio.to_thread(overview.read)

    async with AsyncExitStack() as stack:
        stack.callback(overview.close)
        try:
            address = await stack.enter_async_context(served(config.dashboard_port, read))
            logger.info("dashboard_open", address=address)
        except PortInUse as err:
            logger.error("dashboard_not_open", reason=str(err))
        yield


class _Page:
    """Answers requests, one a connection."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._respond(head.decode("latin-1"))
                writer.write(_response(status, kind, body))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever it was has not asked for anything
        except Exception:
            logger.exception("page_broke")
        finally:
            writer.close()

    async def _respond(self, head: str) -> tuple[HTTPStatus, str, str]:
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        hosts = [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.lower() == "host"]
        if hosts not in ([f"{_LOOPBACK}:{self.port}"], [f"localhost:{self.port}"]):
            return HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "This page is for the machine that it runs on.\n"
        if method != "GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", "Nothing can be changed here.\n"
        if path not in ("/", "/status.json"):
            return HTTPStatus.NOT_FOUND, "text/plain", "There is only / and /status.json.\n"
        try:
            nodes, trouble = await self._read(), ""
        except GristmillError as err:
            nodes, trouble = [], str(err)
        status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
        if path == "/":
            return status, "text/html", document(nodes, trouble)
        return status, "application/json", json.dumps([asdict(node) for node in nodes])


def document(nodes: Sequence[Status], trouble: str = "") -> str:
    """The whole page.

    Args:
        trouble: why there is nothing to show, yet.
    """
    body = "".join(part for node in nodes for part in _node(node)) or f"<main><p>{escape(trouble)}</p></main>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_S}"><title>Gristmill node</title>'
        f"<style>{_STYLE}</style></head><body>{body}"
        f"<footer>Refreshes every {_REFRESH_S} seconds. Only this machine can open it.</footer></body></html>"
    )


def _node(node: Status) -> Iterator[str]:
    state = "working" if node.tasks else "waiting" if node.running else "off"
    yield f'<main><header><h1><i class="{state}"></i>{escape(node.name)}</h1>'
    yield f"<p>{escape(node.device)} · provider {node.provider_id} · {escape(node.coordinator)}</p></header>"
    yield '<section class="now"><h2>Now</h2>'
    for line in [task_words(task) for task in node.tasks] or [node.now]:
        yield f"<p>{escape(line)}</p>"
    if node.moment.trouble:
        yield f'<p class="bad">{escape(node.moment.trouble)}</p>'
    yield _list("values", device_words(node.moment))
    yield "</section>"
    yield f"<section><h2>Earnings</h2>{_earnings(node.periods)}"
    yield (
        f"<p>Accepted work in USD, before fee and shares. You ask {format_usd(node.ask_usd_micros)} an hour; "
        f"electricity costs up to {format_usd(node.power_usd_micros)} an hour at work.</p></section>"
    )
    yield "<section><h2>Demand</h2>"
    lines = [*demand_lines(node), *([f"Your offer is {node.standing}"] if node.standing else [])]
    yield from (f"<p>{escape(line)}</p>" for line in lines)
    yield f'</section><section class="wide"><h2>Hours that earned nothing</h2>{_idle(node)}</section>'
    for title, events in (("Lost standing", node.lost), ("What went wrong", node.events)):
        if events:
            yield f"<section><h2>{title}</h2>{_events(events)}</section>"
    yield "</main>"


def _earnings(periods: Sequence[Period]) -> str:
    rows = [
        (
            one.name,
            format_usd(one.net_usd_micros),
            format_usd(one.accepted_usd_micros),
            format_usd(one.electricity_usd_micros),
            in_hours(one.worked_s),
        )
        for one in periods
    ]
    return _table(("", "net", "accepted", "electricity", "at work"), rows)


def _idle(node: Status) -> str:
    rows = [(row.reason, in_hours(row.today_s), in_hours(row.week_s)) for row in node.idle]
    return _table(("why", "today", "7 days"), rows) if rows else "<p>None.</p>"


def _events(events: Sequence[Event]) -> str:
    return _list("events", [f"{when(one.at_s)}: {one.text}" for one in events[:20]])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _list(kind: str, items: Sequence[str]) -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def _response(status: HTTPStatus, kind: str, body: str) -> bytes:
    content = body.encode()
    headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), **_HEADERS}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + content
