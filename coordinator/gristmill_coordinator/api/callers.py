"""Who sends a request: FastAPI dependencies that check the bearer token."""

from typing import Annotated

from fastapi import Depends, Request

from gristmill_coordinator.api.auth import verify
from gristmill_coordinator.app import Coordinator
from gristmill_protocol.errors import NotAllowed, NotSignedIn


def coordinator(request: Request) -> Coordinator:
    """The coordinator this app was made for."""
    co: Coordinator = request.app.state.coordinator
    return co


Co = Annotated[Coordinator, Depends(coordinator)]


def subject(request: Request, co: Co) -> str:
    """ "renter:<0xaddr lower>" or "node:<node_id>".

    Raises:
        NotSignedIn: no token, or none of ours, or an expired one.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotSignedIn("This needs a sign-in.", todo="Sign in with POST /v1/auth/challenge and /v1/auth/session.")
    return verify(co.secret, token.strip(), co.clock())


Subject = Annotated[str, Depends(subject)]


def renter(caller: Subject) -> str:
    """The renter's lower-case address.

    Raises:
        NotAllowed: the caller is a node.
    """
    kind, _, address = caller.partition(":")
    if kind != "renter":
        raise NotAllowed("This is for renters.", todo="Sign in with a renter's key.")
    return address


Renter = Annotated[str, Depends(renter)]
