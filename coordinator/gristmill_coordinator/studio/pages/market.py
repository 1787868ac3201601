"""What anybody may see: who offers what, what was done and checked, and how one of them earns."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from gristmill_coordinator import public
from gristmill_coordinator.studio.gate import Ours, require_ours
from gristmill_coordinator.studio.web import page

router = APIRouter(dependencies=[Depends(require_ours)])


@router.get("/market")
async def market(request: Request, studio: Ours) -> Response:
    values = {"market": await public.market(studio.co), "providers": await public.providers(studio.co)}
    return page(request, "market.html", **values)


@router.get("/market/{provider_id}")
async def provider(provider_id: Annotated[int, Path(ge=0, lt=2**32)], request: Request, studio: Ours) -> Response:
    """For its owner above all: what came in, and why a machine has nothing to do."""
    return page(request, "provider.html", it=await public.provider(studio.co, provider_id))
