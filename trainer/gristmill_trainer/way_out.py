"""A job's way to the few hosts that it may reach.

The node's proxy is a socket in the task's folder. Programs look for a proxy at an address: what comes there is passed
on to the socket.
"""

import asyncio
import os
import threading
from pathlib import Path

from gristmill_protocol.jobs import EGRESS_SOCKET

_PIECE_BYTES = 64 * 1024


def open_way_out(folder: Path) -> None:
    """Have this process and its children find the proxy, if the job has one."""
    path = folder / EGRESS_SOCKET
    if not path.is_socket():
        return
    listening = threading.Event()
    threading.Thread(target=lambda: asyncio.run(_serve(path, listening)), daemon=True).start()
    listening.wait()


async def _serve(path: Path, listening: threading.Event) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            out_reader, out_writer = await asyncio.open_unix_connection(path)
            await asyncio.gather(_pass_on(reader, out_writer), _pass_on(out_reader, writer))
        except OSError:
            pass  # either side has gone
        finally:
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    os.environ |= {"HTTPS_PROXY": address, "https_proxy": address}
    listening.set()
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
