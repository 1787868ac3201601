"""Every request of the HTTP API, built once and sent by whoever has a wire: method, path, body, and what comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote as quote_part

from pydantic import BaseModel, TypeAdapter

from gristmill_protocol.api import (
    AccountView,
    AuditsView,
    Challenge,
    ChallengeRequest,
    EventsView,
    InfoView,
    OfferView,
    RecipeView,
    Session,
    SessionRequest,
)
from gristmill_protocol.jobs import JobSpec, JobSubmission, JobView, Quote, SignedStatement
from gristmill_protocol.wallet import Authorization, HistoryView, RelayView, SignedOpening, SignedWithdrawal

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Args:
        answer: makes the result from the response's body.
        idempotent: sending it twice does no harm, so it may be sent again.
        signed_in: it needs a session.
        wait_s: how long the other side may take on purpose.
    """

    method: str
    path: str
    answer: Callable[[bytes], T]
    idempotent: bool
    signed_in: bool = True
    body: bytes | None = None
    params: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0


def info() -> Call[InfoView]:
    return _get("/v1/info", InfoView.model_validate_json, signed_in=False)


def recipes() -> Call[list[RecipeView]]:
    return _get("/v1/recipes", TypeAdapter(list[RecipeView]).validate_json, signed_in=False)


def market() -> Call[list[OfferView]]:
    return _get("/v1/market", TypeAdapter(list[OfferView]).validate_json, signed_in=False)


def challenge(request: ChallengeRequest) -> Call[Challenge]:
    return _post("/v1/auth/challenge", request, Challenge, idempotent=True, signed_in=False)


def session(request: SessionRequest) -> Call[Session]:
    return _post("/v1/auth/session", request, Session, idempotent=False, signed_in=False)  # a nonce opens one session


def account() -> Call[AccountView]:
    return _get("/v1/account", AccountView.model_validate_json)


def open_account(by: SignedOpening) -> Call[RelayView]:
    return _post("/v1/account/open", by, RelayView, idempotent=True)  # by what was signed, as the next two


def deposit(by: Authorization) -> Call[RelayView]:
    return _post("/v1/account/deposits", by, RelayView, idempotent=True)


def withdraw(by: SignedWithdrawal) -> Call[RelayView]:
    return _post("/v1/account/withdrawals", by, RelayView, idempotent=True)


def relay(relay_id: str) -> Call[RelayView]:
    return _get(f"/v1/account/relays/{quote_part(relay_id, safe='')}", RelayView.model_validate_json)


def history(*, before: str, limit: int) -> Call[HistoryView]:
    """What happened to the account, newest first; before is where the last page ended."""
    params = {"before": before, "limit": str(limit)}
    return Call("GET", "/v1/account/history", HistoryView.model_validate_json, idempotent=True, params=params)


def quote(spec: JobSpec) -> Call[Quote]:
    return _post("/v1/quotes", spec, Quote, idempotent=False)


def submit(submission: JobSubmission) -> Call[JobView]:
    return _post("/v1/jobs", submission, JobView, idempotent=True)  # by its request id


def jobs() -> Call[list[JobView]]:
    return _get("/v1/jobs", TypeAdapter(list[JobView]).validate_json)


def job(job_id: str) -> Call[JobView]:
    return _get(_job_path(job_id), JobView.model_validate_json)


def events(job_id: str, *, after: int, wait_s: float) -> Call[EventsView]:
    """Events after a sequence number; with none yet, the answer comes with the first one, or empty after wait_s."""
    params = {"after": str(after), "wait_s": str(wait_s)}
    path = _job_path(job_id, "/events")
    return Call("GET", path, EventsView.model_validate_json, idempotent=True, params=params, wait_s=wait_s)


def certificate(job_id: str) -> Call[bytes]:
    """The signed envelope, byte for byte."""
    return _get(_job_path(job_id, "/certificate"), bytes)


def audits(job_id: str) -> Call[AuditsView]:
    path = f"/v1/audits/{quote_part(job_id, safe='')}"
    return _get(path, AuditsView.model_validate_json, signed_in=False)


def stop(job_id: str) -> Call[JobView]:
    return Call("POST", _job_path(job_id, "/stop"), JobView.model_validate_json, idempotent=True)


def add_statement(job_id: str, signed: SignedStatement) -> Call[JobView]:
    return _post(_job_path(job_id, "/statements"), signed, JobView, idempotent=True)


def artifact_path(sha256: str) -> str:
    return f"/v1/artifacts/{sha256}"


def _job_path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote_part(job_id, safe='')}{rest}"


def _get(path: str, answer: Callable[[bytes], T], *, signed_in: bool = True) -> Call[T]:
    return Call("GET", path, answer, idempotent=True, signed_in=signed_in)


def _post(path: str, body: BaseModel, answer: type[M], *, idempotent: bool, signed_in: bool = True) -> Call[M]:
    return Call(
        "POST",
        path,
        answer.model_validate_json,
        idempotent=idempotent,
        signed_in=signed_in,
        body=body.model_dump_json().encode(),
    )
