"""What the wire does when it does not work."""

from collections.abc import Callable

import httpx
import pytest

from gristmill import BadRequest, BadSettings, GristmillError, NoSpace, NotFound, Unavailable, _calls
from gristmill._transport import Transport
from gristmill_protocol.api import SessionRequest
from gristmill_protocol.errors import Problem

URL = "https://mill.example.org"
SESSION = SessionRequest(message="m", signature="0x00")
EVENTS = b'{"events":[]}'


class Wire:
    """Answers with what a script says, one entry a request; the last one for ever."""

    def __init__(self, *script: Exception | httpx.Response | Callable[[], httpx.Response]) -> None:
        self._script = list(script)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def transport(self) -> Transport:
        return Transport(URL, wire=httpx.MockTransport(self._answer), pause=self.pauses.append)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        entry = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(entry, Exception):
            raise entry
        return entry() if callable(entry) else entry


def _problem(status: int, error: GristmillError) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, content=error.problem().model_dump_json())


def test_idempotent_call_is_tried_again_after_growing_pauses() -> None:
    wire = Wire(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(200, content=EVENTS))

    answer = wire.transport().send(_calls.events("job_1", after=0, wait_s=0), "token")

    assert answer.events == ()
    assert len(wire.pauses) == 2
    assert 0 <= wire.pauses[0] <= 1
    assert 0 <= wire.pauses[1] <= 2


def test_trying_again_ends() -> None:
    wire = Wire(httpx.ConnectError("refused"))

    with pytest.raises(Unavailable, match="cannot be reached"):
        wire.transport().send(_calls.jobs(), "token")

    assert len(wire.requests) == 4


def test_call_that_is_not_idempotent_is_sent_once() -> None:
    wire = Wire(httpx.ReadTimeout("slow"))

    with pytest.raises(Unavailable, match="did not answer in time"):
        wire.transport().send(_calls.session(SESSION), None)

    assert len(wire.requests) == 1


def test_error_of_the_coordinator_comes_as_its_type() -> None:
    wire = Wire(_problem(404, NotFound("No job.", effect="None.", todo="Look.", job_id="job_1")))

    with pytest.raises(NotFound) as caught:
        wire.transport().send(_calls.job("job_1"), "token")

    assert (caught.value.what, caught.value.effect, caught.value.todo) == ("No job.", "None.", "Look.")
    assert caught.value.details == {"job_id": "job_1"}
    assert len(wire.requests) == 1


def test_full_disk_over_there_is_not_tried_again() -> None:
    wire = Wire(_problem(507, NoSpace("Full.")))

    with pytest.raises(NoSpace):
        wire.transport().send(_calls.jobs(), "token")

    assert len(wire.requests) == 1


def test_error_of_a_newer_coordinator_is_kept_in_words() -> None:
    problem = Problem(code="moon_in_the_way", what="The moon is in the way.", details={"what": 1, "self": 2})
    wire = Wire(lambda: httpx.Response(409, content=problem.model_dump_json()))

    with pytest.raises(GristmillError, match="The moon is in the way"):
        wire.transport().send(_calls.jobs(), "token")


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, content=b"<html>Bad Gateway</html>"),
        httpx.Response(302, headers={"location": "https://evil.example"}),
        httpx.Response(200, content=b"<html>Welcome to our WiFi</html>"),
        httpx.Response(200, content=b'{"events": 3}'),
    ],
)
def test_answer_of_something_else_is_unavailable(response: httpx.Response) -> None:
    wire = Wire(response)

    with pytest.raises(Unavailable):
        wire.transport().send(_calls.events("job_1", after=0, wait_s=0), "token")

    assert {request.url.host for request in wire.requests} == {"mill.example.org"}


def test_job_id_cannot_leave_its_place_in_the_path() -> None:
    wire = Wire(_problem(404, NotFound("No.")))

    with pytest.raises(NotFound):
        wire.transport().send(_calls.job("../account?x="), "token")

    assert wire.requests[0].url.raw_path == b"/v1/jobs/..%2Faccount%3Fx%3D"


@pytest.mark.parametrize("url", ["http://mill.example.org", "http://10.0.0.1:8080", "ftp://x", "mill.example.org", ""])
def test_address_that_would_leak_the_sign_in_is_refused(url: str) -> None:
    with pytest.raises(BadSettings):
        Transport(url)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://example.org"])
def test_address_that_keeps_it_is_taken(url: str) -> None:
    Transport(url).close()


def test_bad_request_is_a_mistake_of_the_caller() -> None:
    wire = Wire(_problem(400, BadRequest("Wrong.")))

    with pytest.raises(BadRequest):
        wire.transport().send(_calls.jobs(), "token")
