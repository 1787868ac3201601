"""Who comes, and what every page is sent with: one signed cookie, a form's proof that it is ours, strict headers."""

import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill_coordinator.api.auth import issue, verify
from gristmill_coordinator.studio import makers
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import NotAllowed, NotSignedIn

FIELD, HEADER = "csrf", "x-csrf"
_MAX_FILES, _MAX_FIELDS, _MAX_FIELD_BYTES = 2_000, 100, 256 * 1024
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass
class Visit:
    """One request's visitor.

    Args:
        cookie: the signed token that names them.
        seed: random, part of the token; what our forms hold follows from it.
        maker: who that is, once they have begun something.
    """

    cookie: str
    seed: str
    maker: Maker | None
    fresh: bool = False  # the cookie is to be set

    def csrf(self, studio: Studio) -> str:
        """What our own forms hold; nobody else can make it for this visit."""
        return hmac.digest(studio.secret, b"csrf\0" + self.seed.encode(), sha256).hex()


class Gate:
    """Finds out who comes, and sets cookie and headers of what is answered."""

    def __init__(self, app: ASGIApp, *, studio: Studio) -> None:
        self._app = app
        self._studio = studio
        self._secure = not _on_this_machine(studio.co.config.public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = await self._visit(Headers(scope=scope))
        scope.setdefault("state", {})["visit"] = visit

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                if visit.fresh:
                    headers.append("set-cookie", self._cookie(visit.cookie))
            await send(message)

        await self._app(scope, receive, with_headers)

    @property
    def _name(self) -> str:
        # The prefix makes browsers refuse it from other hosts and over plain connections.
        return "__Host-studio" if self._secure else "studio"

    async def _visit(self, headers: Headers) -> Visit:
        # Other pages of this host may have set cookies that a strict parser gives up at.
        cookie = cookie_parser(headers.get("cookie", "")).get(self._name, "")
        try:
            subject = verify(self._studio.secret, cookie, self._studio.co.clock())
        except NotSignedIn:
            return fresh_visit(self._studio, None)
        seed, _, name = subject.partition(":")
        return Visit(cookie, seed, await makers.find(self._studio, name) if name else None)

    def _cookie(self, value: str) -> str:
        secure = "; Secure" if self._secure else ""
        return (
            f"{self._name}={value}; Path=/; Max-Age={self._studio.settings.session_s}; HttpOnly; SameSite=Lax{secure}"
        )


def fresh_visit(studio: Studio, maker: Maker | None, *, seed: str = "") -> Visit:
    """A visit of this maker, or of somebody whom nobody knows, that the browser is to keep.

    Args:
        seed: of the visit that it continues, whose forms stay good; a new one unless given.
    """
    seed = seed or secrets.token_hex(16)
    subject = f"{seed}:{maker.id if maker else ''}"
    cookie = issue(studio.secret, subject, studio.settings.session_s, studio.co.clock())
    return Visit(cookie, seed, maker, fresh=True)


def sign_in(request: Request, maker: Maker | None, *, same_visit: bool = False) -> None:
    """Let this browser be that maker from now on; None: nobody.

    Args:
        same_visit: a visitor becomes a guest: a form that was sent twice is good twice.
    """
    visit = visit_of(request)
    seed = visit.seed if same_visit else ""
    vars(visit).update(vars(fresh_visit(studio_of(request), maker, seed=seed)))


def studio_of(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def visit_of(request: Request) -> Visit:
    visit: Visit = request.state.visit
    return visit


async def require_ours(request: Request) -> AsyncIterator[None]:
    """Refuse what changes something and does not come from one of our own pages; forget the form's files afterwards.

    Raises:
        NotAllowed: the proof is missing or of another visit.
    """
    try:
        if request.method not in ("GET", "HEAD"):
            await _require_proof(request)
        yield
    finally:
        await request.close()


async def _require_proof(request: Request) -> None:
    shown = request.headers.get(HEADER)
    if shown is None:
        form = await request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
        shown = str(form.get(FIELD, ""))
    expected = visit_of(request).csrf(studio_of(request))
    if not hmac.compare_digest(shown.encode(), expected.encode()):
        raise NotAllowed(
            "This form is too old.", effect="Nothing was changed.", todo="Go back, load the page again, and try again."
        )


def signed_in(request: Request) -> Maker:
    """Raises:
    NotSignedIn: nobody is.
    """
    maker = visit_of(request).maker
    if maker is None:
        raise NotSignedIn("This needs a sign-in.", todo="Sign in with your e-mail address.")
    return maker


def _on_this_machine(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")


Ours = Annotated[Studio, Depends(studio_of)]
SignedIn = Annotated[Maker, Depends(signed_in)]
