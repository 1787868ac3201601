"""The first page: what this is, and what can be taught."""

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gristmill_coordinator.studio import drafts, goals, makers
from gristmill_coordinator.studio.gate import Ours, require_ours, sign_in, visit_of
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.web import go, page

router = APIRouter(dependencies=[Depends(require_ours)])


@router.get("/")
async def first(request: Request, studio: Ours) -> Response:
    return page(request, "first.html", goals=goals.gallery(studio))


@router.post("/goals/{goal}/begin")
async def begin(goal: str, request: Request, studio: Ours) -> Response:
    """Begin with one's own examples, or with those that are there to try."""
    form = await request.form()
    one = goals.find(studio, goal)
    maker = await _whoever(request, studio)
    draft_id = await drafts.create(
        studio,
        maker,
        goal=one.recipe,
        name=one.title,
        request_id=str(form.get("request_id", "")),
        example=form.get("with") == "example",
    )
    return go(f"/drafts/{draft_id}")


async def _whoever(request: Request, studio: Studio) -> Maker:
    """Who is signed in; a new guest where nobody is and money is not real.

    Raises:
        NotSignedIn: a guest cannot begin here.
    """
    maker = visit_of(request).maker
    if maker is None:
        maker = await makers.create_guest(studio)
        sign_in(request, maker, same_visit=True)
    return maker
