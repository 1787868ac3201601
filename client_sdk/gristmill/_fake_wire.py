"""The HTTP side of gristmill.testing: routes requests to a fake coordinator's books, without a socket."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import httpx
from pydantic import TypeAdapter

from gristmill_protocol.api import (
    AccountView,
    AuditsView,
    Challenge,
    ChallengeRequest,
    EventsView,
    InfoView,
    Session,
    SessionRequest,
)
from gristmill_protocol.errors import GristmillError, NotFound, NotSignedIn
from gristmill_protocol.jobs import ArtifactRef, JobSpec, JobSubmission, JobView, Quote, SignedStatement
from gristmill_protocol.wallet import Authorization, HistoryView, RelayView, SignedOpening, SignedWithdrawal

_JOB = "/v1/jobs/([^/]+)"
_ARTIFACT = "/v1/artifacts/([0-9a-f]{64})"


class Books(Protocol):
    """What a coordinator does for renters; renter is a lower-case address."""

    def info(self) -> InfoView: ...
    def challenge(self, wanted: ChallengeRequest) -> Challenge: ...
    def session(self, signed: SessionRequest) -> Session: ...
    def renter(self, token: str) -> str: ...
    def account(self, renter: str) -> AccountView: ...
    def open_account(self, renter: str, by: SignedOpening) -> RelayView: ...
    def deposit(self, renter: str, by: Authorization) -> RelayView: ...
    def withdraw(self, by: SignedWithdrawal) -> RelayView: ...
    def relay(self, renter: str, relay_id: str) -> RelayView: ...
    def history(self, renter: str, before: str, limit: int) -> HistoryView: ...
    def quote(self, renter: str, spec: JobSpec) -> Quote: ...
    def submit(self, renter: str, submission: JobSubmission) -> JobView: ...
    def jobs(self, renter: str) -> list[JobView]: ...
    def job(self, renter: str, job_id: str) -> JobView: ...
    def events(self, renter: str, job_id: str, after: int, wait_s: float) -> EventsView: ...
    def certificate(self, renter: str, job_id: str) -> bytes: ...
    def audits(self, job_id: str) -> AuditsView: ...
    def stop(self, renter: str, job_id: str) -> JobView: ...
    def add_statement(self, renter: str, job_id: str, signed: SignedStatement) -> JobView: ...
    def put(self, digest: str, content: bytes) -> ArtifactRef: ...
    def get(self, digest: str) -> bytes: ...


class FakeWire(httpx.BaseTransport):
    """Carries an SDK's requests to books in the same process."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        try:
            for method, path, answer in self._routes(request):
                match = re.fullmatch(path, request.url.path)
                if match and method == request.method:
                    made = answer(*match.groups())
                    return made if isinstance(made, httpx.Response) else _json(made)
            raise NotFound(f"There is no {request.method} {request.url.path}.")
        except GristmillError as err:
            return httpx.Response(_status(err), content=err.problem().model_dump_json())

    def _routes(self, request: httpx.Request) -> list[tuple[str, str, Callable[..., Any]]]:
        books, body = self._books, request.content

        def renter() -> str:
            return books.renter(request.headers.get("authorization", "").removeprefix("Bearer "))

        def events(job_id: str) -> EventsView:
            asked = request.url.params
            return books.events(renter(), job_id, int(asked.get("after", 0)), float(asked.get("wait_s", 0)))

        return [
            ("GET", "/v1/info", books.info),
            ("POST", "/v1/auth/challenge", lambda: books.challenge(ChallengeRequest.model_validate_json(body))),
            ("POST", "/v1/auth/session", lambda: books.session(SessionRequest.model_validate_json(body))),
            ("GET", "/v1/account", lambda: books.account(renter())),
            *self._money_routes(request, renter),
            ("POST", "/v1/quotes", lambda: books.quote(renter(), JobSpec.model_validate_json(body))),
            ("POST", "/v1/jobs", lambda: books.submit(renter(), JobSubmission.model_validate_json(body))),
            ("GET", "/v1/jobs", lambda: books.jobs(renter())),
            ("GET", _JOB, lambda job_id: books.job(renter(), job_id)),
            ("GET", f"{_JOB}/events", events),
            (
                "GET",
                f"{_JOB}/certificate",
                lambda job_id: httpx.Response(200, content=books.certificate(renter(), job_id)),
            ),
            ("GET", "/v1/audits/([^/]+)", books.audits),
            ("POST", f"{_JOB}/stop", lambda job_id: books.stop(renter(), job_id)),
            (
                "POST",
                f"{_JOB}/statements",
                lambda job_id: books.add_statement(renter(), job_id, SignedStatement.model_validate_json(body)),
            ),
            ("PUT", _ARTIFACT, lambda digest: renter() and books.put(digest, body)),
            ("HEAD", _ARTIFACT, lambda digest: renter() and self._content(request, digest)),
            ("GET", _ARTIFACT, lambda digest: renter() and self._content(request, digest)),
        ]

    def _money_routes(
        self, request: httpx.Request, renter: Callable[[], str]
    ) -> list[tuple[str, str, Callable[..., Any]]]:
        books, body = self._books, request.content

        def history() -> HistoryView:
            asked = request.url.params
            return books.history(renter(), asked.get("before", ""), int(asked.get("limit", 50)))

        def withdraw() -> RelayView:
            renter()
            return books.withdraw(SignedWithdrawal.model_validate_json(body))

        return [
            (
                "POST",
                "/v1/account/open",
                lambda: books.open_account(renter(), SignedOpening.model_validate_json(body)),
            ),
            ("POST", "/v1/account/deposits", lambda: books.deposit(renter(), Authorization.model_validate_json(body))),
            ("POST", "/v1/account/withdrawals", withdraw),
            ("GET", "/v1/account/relays/([^/]+)", lambda relay_id: books.relay(renter(), relay_id)),
            ("GET", "/v1/account/history", history),
        ]

    def _content(self, request: httpx.Request, digest: str) -> httpx.Response:
        content = self._books.get(digest)
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if match is None:
            return httpx.Response(HTTPStatus.OK, content=content)
        return httpx.Response(HTTPStatus.PARTIAL_CONTENT, content=content[int(match[1]) :])


def _status(error: GristmillError) -> HTTPStatus:
    if isinstance(error, NotSignedIn):
        return HTTPStatus.UNAUTHORIZED
    return HTTPStatus.NOT_FOUND if isinstance(error, NotFound) else HTTPStatus.BAD_REQUEST


def _json(value: object) -> httpx.Response:
    return httpx.Response(HTTPStatus.OK, content=TypeAdapter(type(value)).dump_json(value))
