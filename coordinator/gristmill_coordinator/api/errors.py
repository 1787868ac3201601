"""Errors on the wire: one table from error to HTTP status, and Problem JSON for everything that goes wrong."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill_protocol.errors import (
    BadRequest,
    Conflict,
    GristmillError,
    NoSpace,
    NotAllowed,
    NotFound,
    NotSignedIn,
    TooLarge,
    Unavailable,
)

# A type that is not listed has the status of its nearest base.
STATUS: dict[type[GristmillError], HTTPStatus] = {
    GristmillError: HTTPStatus.INTERNAL_SERVER_ERROR,
    BadRequest: HTTPStatus.BAD_REQUEST,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    NoSpace: HTTPStatus.INSUFFICIENT_STORAGE,
}

_MAX_SENTENCES = 5

logger = structlog.get_logger(__name__)


def status_of(error: type[GristmillError]) -> HTTPStatus:
    """The HTTP status that stands for an error type."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every failure of a request with a Problem."""
    app.add_exception_handler(GristmillError, _gristmill_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


class BodyLimit:
    """Refuses a request body above a limit as soon as it is passed, whatever its headers say.

    Args:
        unless: whether a request limits itself.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, unless: Callable[[Scope], bool] = lambda _scope: False) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._unless = unless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._unless(scope):
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # FastAPI passes only its own exceptions on while it reads a body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, counted, send)


def _answer(error: GristmillError, status: int | None = None) -> Response:
    status = status if status is not None else status_of(type(error))
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return Response(
        error.problem().model_dump_json(), status_code=status, headers=headers, media_type="application/problem+json"
    )


async def _gristmill_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GristmillError)  # what Starlette registered us for
    return _answer(error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentences = _sentences(error.errors())
    shown = " ".join(sentences[:_MAX_SENTENCES])
    return _answer(BadRequest(shown, effect="Nothing was changed.", todo="Correct the request.", problems=sentences))


def _sentences(issues: Sequence[Any]) -> list[str]:
    found = []
    for issue in issues:
        place = ".".join(str(part) for part in issue["loc"][1:]) or f"the {issue['loc'][0]}"
        found.append(f"{place}: {issue['msg']}.")
    return found


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _answer(NotFound(f"There is no {where}.", todo="GET /openapi.json lists what there is."))
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return _answer(TooLarge(f"The request {where} is too large.", effect="Nothing was changed."))
    what = f"The request {where} cannot be served: {error.detail}."
    return _answer(BadRequest(what, effect="Nothing was changed."), error.status_code)


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return _answer(
        GristmillError(
            "The coordinator failed at this request.",
            effect="It may or may not have been carried out; a job that is running goes on.",
            todo="Try again; if it happens again, tell the coordinator's operator when it was.",
        )
    )
