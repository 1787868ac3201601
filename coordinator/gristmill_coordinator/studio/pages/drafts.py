"""From examples to the order: bring them, see what they are, choose, see the price, start."""

from collections.abc import AsyncIterator, Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from gristmill_coordinator import accounts
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.studio import buying, drafts, goals, paying_in, uploads
from gristmill_coordinator.studio.drafts import Choices, Stage
from gristmill_coordinator.studio.gate import Ours, SignedIn, require_ours
from gristmill_coordinator.studio.look_process import LookView
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.pages.account import TEST_AMOUNTS
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.web import explain, go, page
from gristmill_protocol.errors import BadRequest, Conflict, GristmillError, NotFound, Problem, QuoteExpired
from gristmill_protocol.jobs import Quote
from gristmill_protocol.money import USD_MICROS, split_line

PREFIX = "/drafts"

BUDGETS = tuple(cents * USD_MICROS // 100 for cents in (20, 100, 300, 1000))
TIMES = ((0, "I am in no hurry"), (900, "In 15 minutes"), (3_600, "In an hour"), (86_400, "By tomorrow"))
_BLOCK_BYTES = 1024 * 1024
_TOO_OLD = Problem(
    code=QuoteExpired.code,
    what="The price that you saw was too old.",
    effect="Nothing was started.",
    todo="Here is a new one. Start the training if you agree to it.",
)


def brings_files(scope: Scope) -> bool:
    """Whether a request carries examples, whose size has a limit of its own."""
    kind = Headers(scope=scope).get("content-type", "")
    parts = scope["path"].removeprefix(f"{PREFIX}/").split("/")[1:]
    whole, piece = parts == ["files"] and kind.startswith("multipart/"), parts[:1] == ["pieces"]
    return scope["path"].startswith(f"{PREFIX}/") and (whole or piece)


async def draft_of(draft_id: str, studio: Ours, maker: SignedIn) -> Row:
    return await drafts.find(studio, maker, draft_id)


Draft = Annotated[Row, Depends(draft_of)]
FileName = Annotated[str, Query(max_length=1_000)]
FileSize = Annotated[int, Query(ge=1)]

# Whose draft it is comes first: of a stranger's request not even the form is read.
router = APIRouter(prefix=PREFIX, dependencies=[Depends(draft_of), Depends(require_ours)])


@router.get("/{draft_id}")
async def where_it_is(draft: Draft) -> Response:
    """On to the page that this draft has come to."""
    if draft.job_id is not None:
        return _its_job(draft)
    if draft.stage == Stage.EMPTY:
        return go(f"{PREFIX}/{draft.draft_id}/files")
    return go(f"{PREFIX}/{draft.draft_id}/{'data' if draft.quote is None else 'price'}")


@router.get("/{draft_id}/files")
async def show_files(draft: Draft, request: Request, studio: Ours) -> Response:
    return _files(request, studio, draft, None) if draft.job_id is None else _its_job(draft)


@router.post("/{draft_id}/files")
async def bring(draft: Draft, request: Request, studio: Ours) -> Response:
    """Files of a plain form; loose ones go into the folder that is named with them."""
    form = await request.form()
    folder = str(form.get("answer", "")).strip().strip("/")
    brought = [one for one in form.getlist("files") if isinstance(one, UploadFile) and one.filename]
    try:
        if not brought:
            raise BadRequest("You chose no file.", effect="Nothing was brought.", todo="Choose one first.")
        for one in brought:
            name = str(one.filename)
            await uploads.add_file(studio, draft, f"{folder}/{name}" if folder else name, _content(one))
    except GristmillError as err:
        return _files(request, studio, draft, err.problem())
    if form.get("then") == "look":
        await drafts.look_again(studio, draft)
        return go(f"{PREFIX}/{draft.draft_id}/data")
    return go(f"{PREFIX}/{draft.draft_id}/files")


@router.get("/{draft_id}/pieces/{upload_id}")
async def how_much_is_here(upload_id: str, draft: Draft, studio: Ours, name: FileName, size: FileSize) -> Response:
    return await _here(uploads.offset(studio, draft, upload_id, name=name, size=size))


@router.put("/{draft_id}/pieces/{upload_id}")
async def bring_a_piece(
    upload_id: str,
    draft: Draft,
    request: Request,
    studio: Ours,
    name: FileName,
    size: FileSize,
    at: Annotated[int, Query(ge=0)],
) -> Response:
    """The next piece of a large file; the answer says how much is here."""
    chunks = request.stream()
    return await _here(uploads.add_piece(studio, draft, upload_id, name=name, size=size, at=at, chunks=chunks))


@router.post("/{draft_id}/look")
async def look(draft: Draft, studio: Ours) -> Response:
    if not uploads.files(studio, draft) and not draft.example:
        return go(f"{PREFIX}/{draft.draft_id}/files")
    await drafts.look_again(studio, draft)
    return go(f"{PREFIX}/{draft.draft_id}/data")


@router.post("/{draft_id}/clear")
async def clear(draft: Draft, studio: Ours) -> Response:
    """Take all examples out again."""
    await drafts.empty(studio, draft)
    uploads.clear(studio, draft)
    return go(f"{PREFIX}/{draft.draft_id}/files")


@router.post("/{draft_id}/delete")
async def delete(draft: Draft, studio: Ours) -> Response:
    await drafts.delete(studio, draft)
    return go("/models")


@router.get("/{draft_id}/data")
async def show_data(draft: Draft, request: Request, studio: Ours) -> Response:
    if _nothing_to_see(draft):
        return go(f"{PREFIX}/{draft.draft_id}")
    return page(request, "data.html", **_data(studio, draft))


@router.get("/{draft_id}/data/now")
async def data_now(draft: Draft, request: Request, studio: Ours) -> Response:
    if _nothing_to_see(draft):
        return Response(headers={"hx-redirect": f"{PREFIX}/{draft.draft_id}"})
    return page(request, "_data.html", **_data(studio, draft))


@router.post("/{draft_id}/columns")
async def confirm_columns(draft: Draft, request: Request, studio: Ours) -> Response:
    if _nothing_to_see(draft):
        return go(f"{PREFIX}/{draft.draft_id}")
    form = await request.form()
    roles = {name.removeprefix("role-"): str(value) for name, value in form.items() if name.startswith("role-")}
    await drafts.look_again(studio, draft, roles={name: column for name, column in roles.items() if column})
    return go(f"{PREFIX}/{draft.draft_id}/data")


@router.post("/{draft_id}/repair")
async def repair(draft: Draft, request: Request, studio: Ours) -> Response:
    """Mend a copy of the examples in the way that a click asks for."""
    repair_id = str((await request.form()).get("repair", ""))
    offered = LookView.model_validate(draft.look).findings if draft.look else ()
    if repair_id and any(finding.repair == repair_id for finding in offered):  # else it is mended already
        await drafts.look_again(studio, draft, repairs=[repair_id])
    return go(f"{PREFIX}/{draft.draft_id}/data")


@router.post("/{draft_id}/undo")
async def undo(draft: Draft, studio: Ours) -> Response:
    """Go back to the examples as they were brought."""
    if _nothing_to_see(draft):
        return go(f"{PREFIX}/{draft.draft_id}")
    uploads.mended_copy(studio, draft).unlink(missing_ok=True)
    await drafts.look_again(studio, draft, repairs=[], roles={})
    return go(f"{PREFIX}/{draft.draft_id}/data")


@router.get("/{draft_id}/choices")
async def show_choices(draft: Draft, request: Request, studio: Ours) -> Response:
    if draft.data is None or draft.job_id is not None:
        return go(f"{PREFIX}/{draft.draft_id}")
    return _choices(request, studio, draft, Choices.model_validate(draft.choices), None)


@router.post("/{draft_id}/choices")
async def choose(draft: Draft, request: Request, studio: Ours, maker: SignedIn) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    goal = goals.find(studio, draft.goal)
    try:
        choices = Choices(
            settings=goals.settings(goal, form),
            budget_usd_micros=int(form.get("budget", BUDGETS[1])),
            ready_within_s=int(form.get("ready", 0)),
        )
    except (ValueError, ValidationError):
        wrong = BadRequest("One of these choices cannot be read.", effect="Nothing was changed.", todo="Choose again.")
        return _choices(request, studio, draft, Choices.model_validate(draft.choices), wrong.problem())
    try:
        await buying.price(studio, maker, draft, choices)
    except GristmillError as err:
        return _choices(request, studio, draft, choices, err.problem())
    return go(f"{PREFIX}/{draft.draft_id}/price")


@router.get("/{draft_id}/price")
async def show_price(draft: Draft, request: Request, studio: Ours, maker: SignedIn, again: bool = False) -> Response:
    if draft.job_id is not None or draft.quote is None:
        return go(f"{PREFIX}/{draft.draft_id}")
    if Quote.model_validate(draft.quote).expires_s <= studio.co.clock():
        try:
            await buying.price(studio, maker, draft, Choices.model_validate(draft.choices))
        except GristmillError as err:
            return _choices(request, studio, draft, Choices.model_validate(draft.choices), err.problem())
        draft = await drafts.find(studio, maker, draft.draft_id)
    return page(request, "price.html", **await _price(studio, maker, draft), problem=_TOO_OLD if again else None)


@router.get("/{draft_id}/price/now")
async def price_now(draft: Draft, request: Request, studio: Ours, maker: SignedIn) -> Response:
    """The part of the price page that waits for money."""
    if draft.quote is None:
        raise NotFound("There is no price yet.")
    return page(request, "_pay.html", **await _price(studio, maker, draft), problem=None)


@router.post("/{draft_id}/start")
async def start(draft: Draft, request: Request, studio: Ours, maker: SignedIn) -> Response:
    quote_id = str((await request.form()).get("quote_id", ""))
    try:
        job_id = await buying.start(studio, maker, draft, quote_id)
    except QuoteExpired:
        return go(f"{PREFIX}/{draft.draft_id}/price?again=yes")
    except GristmillError as err:
        if draft.quote is None:
            return explain(request, err)
        return page(request, "price.html", 409, **await _price(studio, maker, draft), problem=err.problem())
    return go(f"/models/{job_id}")


def _its_job(draft: Row) -> Response:
    """Whoever comes back to a draft that was started is led on."""
    return go(f"/models/{draft.job_id}")


def _nothing_to_see(draft: Row) -> bool:
    """Its examples were not looked at, or taken out or added to since in another tab; or it was started."""
    return draft.job_id is not None or draft.stage == Stage.EMPTY


async def _here(coming: Awaitable[int]) -> Response:
    """How much of a large file is here, or what is wrong, for the script that sends it."""
    try:
        return JSONResponse({"offset": await coming})
    except GristmillError as err:
        return JSONResponse(err.problem().model_dump(mode="json"), 409 if isinstance(err, Conflict) else 400)


async def _content(file: UploadFile) -> AsyncIterator[bytes]:
    while block := await file.read(_BLOCK_BYTES):
        yield block


def _files(request: Request, studio: Studio, draft: Row, problem: Problem | None) -> Response:
    values = {
        "draft": draft,
        "goal": goals.find(studio, draft.goal),
        "files": uploads.files(studio, draft),
        "broken_off": uploads.broken_off(studio, draft),
        "problem": problem,
        "most": studio.settings.max_upload_bytes,
    }
    return page(request, "files.html", 200 if problem is None else 400, **values)


def _data(studio: Studio, draft: Row) -> dict[str, Any]:
    return {
        "draft": draft,
        "goal": goals.find(studio, draft.goal),
        "look": None if draft.look is None else LookView.model_validate(draft.look),
        "trouble": None if draft.trouble is None else Problem.model_validate(draft.trouble),
        "looking": draft.stage == Stage.LOOKING,
        "mended": uploads.mended_copy(studio, draft).exists(),
    }


def _choices(request: Request, studio: Studio, draft: Row, choices: Choices, problem: Problem | None) -> Response:
    goal = goals.find(studio, draft.goal)
    values = {
        "draft": draft,
        "goal": goal,
        "settings": goals.defaults(goal) | choices.settings,
        "choices": choices,
        "budgets": BUDGETS,
        "times": TIMES,
        "problem": problem,
    }
    return page(request, "choices.html", 200 if problem is None else 400, **values)


async def _price(studio: Studio, maker: Maker, draft: Row) -> dict[str, Any]:
    quote, choices = Quote.model_validate(draft.quote), Choices.model_validate(draft.choices)
    account = await accounts.account(studio.co, maker.renter)
    newest = await paying_in.newest(studio, maker)
    goal = goals.find(studio, draft.goal)
    return {
        "draft": draft,
        "goal": goal,
        "quote": quote,
        "choices": choices,
        "late": bool(choices.ready_within_s) and quote.seconds_low > choices.ready_within_s,
        "shares": split_line(quote.price_usd_micros, verifier_bps=quote.verifier_bps, royalty_bps=quote.royalty_bps),
        "settings": goals.explained(goal, quote.plan.settings),
        "account": account,
        "enough": account.available_usd_micros >= quote.cap_usd_micros,
        "arriving": newest is not None and newest.state in paying_in.UNDER_WAY,
        "failed": newest.reason if newest is not None and newest.state == paying_in.State.FAILED else "",
        "amounts": TEST_AMOUNTS,
    }
