"""A coordinator's HTTP side that says what a test wants, at a time that it wants."""

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gristmill_protocol.api import InfoView, NodeTerms

IMAGE = "gristmill-trainer@sha256:" + "0" * 64


class Front:
    """Args:
    stream: where its nodes connect.
    """

    def __init__(self, stream: str) -> None:
        self.body = info(stream).model_dump_json()
        self.clock: Callable[[], float] = time.time
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(200)
                self.send_header("Date", formatdate(front.clock(), usegmt=True))
                self.end_headers()
                self.wfile.write(front.body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def info(stream: str) -> InfoView:
    address = "0x" + "11" * 20
    return InfoView(
        version="0", url="https://mill.example.org", chain_id=1, ledger=address, registry=address, token=address,
        coordinator=1, recipes={}, max_artifact_bytes=1,
        nodes=NodeTerms(grpc_address=stream, disputes=address, images={"script": IMAGE}),
    )  # fmt: skip
