"""The wire: sends calls, tries again where that is safe, and turns what went wrong into errors people can act on."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from gristmill._calls import Call, artifact_path
from gristmill_protocol.errors import BadSettings, ChainUnavailable, GristmillError, Problem, Unavailable
from gristmill_protocol.jobs import ArtifactRef

T = TypeVar("T")

_TRIES = 4
_FIRST_PAUSE_S = 0.5
_CONNECT_S = 5.0
_ANSWER_S = 30.0
_CHUNK_BYTES = 256 * 1024


class Transport:
    """One coordinator's HTTP address, synchronously.

    Args:
        url: https, or http on this very machine.
        wire: what carries the bytes; a test's own.
        pause: waits that many seconds between tries.
    Raises:
        BadSettings: the address is no URL, or would send tokens in the clear.
    """

    def __init__(
        self, url: str, *, wire: httpx.BaseTransport | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        _require_private(url)
        self.url = url
        self.pause = pause
        self._http = httpx.Client(
            base_url=url,
            transport=wire,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            headers={"Accept-Encoding": "identity", "User-Agent": "gristmill-sdk"},
        )

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T], token: str | None) -> T:
        """The call's result.

        Raises:
            GristmillError: the type that the coordinator named.
            Unavailable: no coordinator answered, or not like one.
        """
        return self._trying(lambda: self._once(call, token), again=call.idempotent)

    def has_artifact(self, sha256: str, token: str) -> bool:
        def ask() -> bool:
            response = self._http.head(artifact_path(sha256), headers=_bearer(token))
            if response.status_code == httpx.codes.NOT_FOUND:
                return False
            self._require_success(response)
            return True

        return self._trying(ask, again=True)

    def put_artifact(self, sha256: str, path: Path, token: str) -> None:
        """Upload a file.

        Raises:
            TooLarge, WrongHash, NoSpace, Unavailable: the coordinator did not take it.
        """
        headers = _bearer(token) | {"Content-Length": str(path.stat().st_size)}

        def upload() -> None:
            with path.open("rb") as file:
                content = iter(lambda: file.read(_CHUNK_BYTES), b"")
                self._require_success(self._http.put(artifact_path(sha256), content=content, headers=headers))

        self._trying(upload, again=True)

    def get_artifact(self, ref: ArtifactRef, file: BinaryIO, token: str) -> None:
        """Download into an empty file; after an interruption only the rest is asked for. The content is not checked.

        Raises:
            NotFound, Unavailable: it did not come.
        """

        def download() -> None:
            have = file.tell()
            if have >= ref.size_bytes > 0:
                return
            headers = _bearer(token) | ({"Range": f"bytes={have}-"} if have else {})
            with self._http.stream("GET", artifact_path(ref.sha256), headers=headers) as response:
                if not response.is_success:
                    response.read()
                self._require_success(response)
                if have and response.status_code != httpx.codes.PARTIAL_CONTENT:
                    file.seek(0)
                    file.truncate()
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
                    if file.tell() > ref.size_bytes:
                        return  # not the artifact, and no reason to fill the disk

        self._trying(download, again=True)

    def _once(self, call: Call[T], token: str | None) -> T:
        headers = {"Content-Type": "application/json"} if call.body is not None else {}
        if token is not None:
            headers |= _bearer(token)
        response = self._http.request(
            call.method,
            call.path,
            content=call.body,
            params=call.params,
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_S + call.wait_s, connect=_CONNECT_S),
        )
        self._require_success(response)
        try:
            return call.answer(response.content)
        except ValidationError as err:
            raise Unavailable(
                f"The answer of {self.url} to {call.method} {call.path} cannot be understood.",
                todo="Use the version of gristmill that the coordinator's operator names.",
            ) from err

    def _trying(self, do: Callable[[], T], *, again: bool) -> T:
        tried = 0
        while True:
            try:
                with self._wire_errors():
                    return do()
            except Unavailable as err:
                tried += 1
                # A full disk or a missing part is not over in a moment.
                if not again or tried == _TRIES or type(err) not in (Unavailable, ChainUnavailable):
                    raise
            self.pause(random.uniform(0, _FIRST_PAUSE_S * 2**tried))

    @contextmanager
    def _wire_errors(self) -> Iterator[None]:
        todo = "Check the address and the network. A job that is running goes on meanwhile."
        try:
            yield
        except httpx.TimeoutException as err:
            raise Unavailable(f"The coordinator at {self.url} did not answer in time.", todo=todo) from err
        except httpx.TransportError as err:
            raise Unavailable(f"The coordinator at {self.url} cannot be reached ({err}).", todo=todo) from err

    def _require_success(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError as err:
            raise Unavailable(
                f"{self.url} answered {response.status_code} {response.reason_phrase}, and not as a coordinator does.",
                todo="Check the address.",
            ) from err
        raise GristmillError.from_problem(problem)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _require_private(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSettings(f"{url!r} is no address of a coordinator.", todo="It looks like https://mill.example.org.")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise BadSettings(
            f"{url} would carry your sign-in unencrypted.",
            effect="Nothing was sent.",
            todo="Use the coordinator's https address; http is for this very machine only.",
        )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
