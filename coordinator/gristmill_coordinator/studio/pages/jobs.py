"""What is learning, and what has learnt: watch it, see how well it does, try it, take it home."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, Response

from gristmill_coordinator import views
from gristmill_coordinator.stages import intake
from gristmill_coordinator.studio import asking, drafts, goals, mistakes
from gristmill_coordinator.studio.chart import curve
from gristmill_coordinator.studio.gate import Ours, SignedIn, require_ours
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.watching import Watched, watch
from gristmill_coordinator.studio.web import go, page
from gristmill_protocol.errors import GristmillError, NotFinished
from gristmill_protocol.jobs import JobState
from gristmill_trainer.scoring import compared

router = APIRouter(prefix="/models", dependencies=[Depends(require_ours)])


async def watched(job_id: str, studio: Ours, maker: SignedIn) -> Watched:
    return await watch(studio, maker, job_id)


Job = Annotated[Watched, Depends(watched)]


@router.get("")
async def mine(request: Request, studio: Ours, maker: SignedIn) -> Response:
    """Everything that this maker has begun."""
    return page(
        request,
        "models.html",
        jobs=await views.jobs(studio.co, maker.renter),
        drafts=await drafts.unstarted(studio, maker),
    )


@router.get("/{job_id}")
async def show(job: Job, request: Request, studio: Ours) -> Response:
    return page(request, "model.html", problem=None, **await _shown(studio, job))


@router.get("/{job_id}/now")
async def show_now(job: Job, request: Request, studio: Ours) -> Response:
    """The part that changes while it learns; once it ended, the whole page is loaded again."""
    answer = page(request, "_watch.html", **await _shown(studio, job))
    if job.view.state.ended:
        answer.headers["hx-refresh"] = "true"
    return answer


@router.post("/{job_id}/stop")
async def stop(job_id: str, studio: Ours, maker: SignedIn) -> Response:
    await intake.stop(studio.co, maker.renter, job_id)
    return go(f"/models/{job_id}")


@router.post("/{job_id}/ask")
async def ask(job_id: str, job: Job, request: Request, studio: Ours, maker: SignedIn) -> Response:
    form = await request.form()
    given = form.get("file")
    file = (str(given.filename), await given.read()) if isinstance(given, UploadFile) and given.filename else None
    try:
        await asking.ask(studio, maker, job_id, text=str(form.get("text", "")), file=file)
    except GristmillError as err:
        return page(request, "model.html", 400, problem=err.problem(), **await _shown(studio, job))
    return go(f"/models/{job_id}#try")


@router.get("/{job_id}/download")
async def download(job_id: str, job: Job, request: Request, studio: Ours, maker: SignedIn) -> Response:
    try:
        path = await asking.parcel(studio, maker, job_id)
    except NotFinished as err:
        return page(request, "model.html", 409, problem=err.problem(), **await _shown(studio, job))
    return FileResponse(path, media_type="application/zip", filename=f"{job.view.name or job.view.recipe}.zip")


async def _shown(studio: Studio, job: Watched) -> dict[str, Any]:
    view = job.view
    done = view.state is JobState.DONE
    goal = goals.find(studio, view.recipe)
    return {
        "job": job,
        "view": view,
        "goal": goal,
        "baseline": compared(job.card) if job.card else "",
        "curve": curve(job.points, view.steps_total),
        "wrong": await mistakes.shown(studio, view.job_id, job.card) if done and job.card else [],
        "asked": await asking.asked(studio, view.job_id) if done else [],
        "settings": goals.explained(goal, job.quote.plan.settings),
    }
