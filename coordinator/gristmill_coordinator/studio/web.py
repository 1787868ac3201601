"""The pages as an application of their own: rendering, errors in words, what is served besides pages."""

import secrets
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gristmill_coordinator.api.errors import BodyLimit, status_of
from gristmill_coordinator.studio import words
from gristmill_coordinator.studio.gate import HEADERS, Gate, studio_of, visit_of
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import BadRequest, GristmillError, MissingPart, NotFound, NotSignedIn, Problem, TooLarge
from gristmill_protocol.wording import counted

logger = structlog.get_logger(__name__)

_FORM_BYTES = 1024 * 1024  # of a form's fields and borders besides its files
_TYPES = {"studio.css": "text/css", "studio.js": "text/javascript", "htmx.js": "text/javascript"}
_HTMX = ("django-js-lib-htmx", "js_lib_htmx/static/htmx/htmx.min.js")  # the package only carries the file

assets = APIRouter()


def make_studio(studio: Studio) -> FastAPI:
    """The application that serves the pages."""
    from gristmill_coordinator.studio.pages import account, drafts, gallery, jobs, market

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.studio = studio
    for name in _TYPES:
        asset(name)  # what is missing is found when we start
    app.include_router(assets)
    for part in (gallery, account, drafts, jobs, market):
        app.include_router(part.router)
    app.add_middleware(BodyLimit, max_bytes=studio.settings.max_upload_bytes + _FORM_BYTES)
    app.add_middleware(Gate, studio=studio)
    app.add_exception_handler(GristmillError, _told)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A rendered page, or a fragment of one."""
    studio, visit = studio_of(request), visit_of(request)
    shared = {
        "csrf": visit.csrf(studio),
        "maker": visit.maker,
        "test_money": studio.settings.test_money,
        "path": request.url.path,
        "request_id": secrets.token_hex(16),
        "asset": _address,
    }
    return HTMLResponse(_templates().get_template(template).render({**shared, **values}), status)


def go(path: str) -> RedirectResponse:
    """What a form is answered with, so that reloading what comes then sends nothing again."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


@assets.get("/assets/{name}")
async def get_asset(name: str) -> Response:
    if name not in _TYPES:
        raise NotFound("There is no such file.")
    headers = {"cache-control": "public, max-age=31536000, immutable"}  # its address changes with its content
    return Response(asset(name), media_type=_TYPES[name], headers=headers)


@cache
def asset(name: str) -> bytes:
    """Style and scripts.

    Raises:
        MissingPart: the package that brings htmx is not installed.
    """
    if name != "htmx.js":
        return (files("gristmill_coordinator.studio") / "static" / name).read_bytes()
    package, path = _HTMX
    try:
        content: bytes = distribution(package).locate_file(path).read_bytes()  # type: ignore[attr-defined]
    except (PackageNotFoundError, OSError) as err:
        raise MissingPart(
            f"The pages need the package {package}.",
            effect="The coordinator was not started.",
            todo="pip install 'gristmill[coordinator]'",
        ) from err
    return content


def _address(name: str) -> str:
    return f"/assets/{name}?v={sha256(asset(name)).hexdigest()[:12]}"


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("gristmill_coordinator.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "money": words.money,
        "exact": words.exact,
        "about": words.about,
        "size": words.size,
        "chances": words.chances,
    }
    made.globals |= {"counted": counted}
    return made


def explain(request: Request, error: GristmillError) -> Response:
    """An error as a page of its own."""
    return page(request, "error.html", status_of(type(error)), problem=error.problem())


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, GristmillError)  # what Starlette registered us for
    if isinstance(error, NotSignedIn):
        return go(f"/sign-in?next={request.url.path}") if request.method == "GET" else go("/sign-in")
    return explain(request, error)


async def _not_understood(request: Request, error: Exception) -> Response:
    return explain(
        request,
        BadRequest(
            "Something in this form is missing or wrong.", effect="Nothing was changed.", todo="Go back and check it."
        ),
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return explain(
            request, TooLarge("That was too large.", effect="Nothing was kept.", todo="Bring fewer examples.")
        )
    if error.status_code == HTTPStatus.NOT_FOUND:
        return explain(request, NotFound("There is no such page.", todo="Begin at the first page."))
    problem = Problem(code="bad_request", what="That did not work.", effect="Nothing was changed.", todo="Go back.")
    return page(request, "error.html", error.status_code, problem=problem)


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("page_failed", method=request.method, path=request.url.path, exc_info=error)
    wrong = GristmillError(
        "Something went wrong on our side.",
        effect="A training that runs goes on. You will not pay twice for anything.",
        todo="Load the page again in a minute.",
    )
    answer = explain(request, wrong)
    answer.headers.update(HEADERS | {"cache-control": "no-store"})  # this answer passes the gate by
    return answer
