"""Signing in, and the balance."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from gristmill_coordinator import accounts
from gristmill_coordinator.studio import makers, paying_in
from gristmill_coordinator.studio.gate import Ours, SignedIn, require_ours, sign_in, visit_of
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.web import go, page
from gristmill_protocol.errors import BadRequest, GristmillError
from gristmill_protocol.money import USD_MICROS

router = APIRouter(dependencies=[Depends(require_ours)])

TEST_AMOUNTS = (5 * USD_MICROS, 20 * USD_MICROS)
_SHOWN = 30


@router.get("/sign-in")
async def ask_for_link(request: Request, sent: Annotated[str, Query(max_length=250)] = "") -> Response:
    return page(request, "sign_in.html", sent=sent, email="", problem=None)


@router.post("/sign-in")
async def send_link(request: Request, studio: Ours) -> Response:
    email = str((await request.form()).get("email", ""))
    try:
        await makers.send_link(studio, email, visit_of(request).maker)
    except GristmillError as err:
        return page(request, "sign_in.html", 400, sent="", email=email[:250], problem=err.problem())
    return go("/sign-in?sent=yes")


@router.get("/sign-in/{secret}")
async def open_link(secret: str, request: Request) -> Response:
    """A button, because programs that check e-mails open the links in them."""
    return page(request, "sign_in_button.html", secret=secret)


@router.post("/sign-in/{secret}")
async def use_link(secret: str, request: Request, studio: Ours) -> Response:
    sign_in(request, await makers.use_link(studio, secret, visit_of(request).maker))
    return go("/models")


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    sign_in(request, None)
    return go("/")


@router.get("/account")
async def account(request: Request, studio: Ours, maker: SignedIn) -> Response:
    history = await accounts.history(studio.co, maker.renter, "", _SHOWN)
    return page(request, "account.html", movements=history.movements, **await _money(studio, maker))


@router.get("/account/now")
async def account_now(request: Request, studio: Ours, maker: SignedIn) -> Response:
    return page(request, "_balance.html", **await _money(studio, maker))


@router.post("/account/money")
async def add_money(request: Request, studio: Ours, maker: SignedIn) -> Response:
    """Test money that is made, or real money that has arrived at the key's address."""
    form = await request.form()
    request_id, back = str(form.get("request_id", "")), str(form.get("back", "/account"))
    if studio.faucet is not None:
        amount = _test_amount(str(form.get("amount", "")))
    else:
        amount = (await accounts.account(studio.co, maker.renter)).outside_usd_micros
    await paying_in.ask(studio, maker, amount, request_id=request_id, make=studio.faucet is not None)
    return go(back if back.startswith("/") and not back.startswith("//") else "/account")


def _test_amount(text: str) -> int:
    """Raises:
    BadRequest: that is none of our buttons.
    """
    amounts = {str(amount): amount for amount in TEST_AMOUNTS}
    if text not in amounts:
        raise BadRequest("That amount cannot be added.", effect="Nothing was added.", todo="Use one of the buttons.")
    return amounts[text]


async def _money(studio: Studio, maker: Maker) -> dict[str, object]:
    """What the balance's fragment shows."""
    newest = await paying_in.newest(studio, maker)
    return {
        "account": await accounts.account(studio.co, maker.renter),
        "amounts": TEST_AMOUNTS,
        "arriving": newest if newest is not None and newest.state in paying_in.UNDER_WAY else None,
        "failed": newest.reason if newest is not None and newest.state == paying_in.State.FAILED else "",
        "least": studio.co.config.min_deposit_usd_micros,
        "token": studio.co.chain.info.token,
    }
