"""Artifacts over HTTP: whoever puts a file may read it, and so may those the coordinator grants it to."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gristmill_coordinator.api.callers import Co, Subject
from gristmill_coordinator.app import Coordinator
from gristmill_protocol.errors import BadRequest, NotFound
from gristmill_protocol.jobs import ArtifactRef

PREFIX = "/v1/artifacts"

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")

router = APIRouter(prefix=PREFIX)

Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.put("/{sha256}")
async def put(
    sha256: Sha256, request: Request, co: Co, caller: Subject, upload_offset: Annotated[int, Header(ge=0)] = 0
) -> ArtifactRef:
    """Store the request's body under its hash; it goes on at an offset where an earlier one was broken off."""
    co.artifacts.require_size(upload_offset + int(request.headers.get("content-length", "0")))
    try:
        stored = await co.artifacts.put(sha256, request.stream(), caller=caller, offset=upload_offset)
    except ClientDisconnect as err:
        raise BadRequest("The upload was broken off.", effect="What came is kept for a day.") from err
    await co.store.grant(sha256, caller)
    return stored


@router.head("/{sha256}")
async def head(sha256: Sha256, co: Co, caller: Subject) -> Response:
    """Its size, or 404 for who may not read it, with the bytes that they have sent of it."""
    try:
        await _require_readable(co, sha256, caller)
    except NotFound:
        return Response(status_code=404, headers={"Upload-Offset": str(co.artifacts.received(sha256, caller))})
    return Response(headers={"Content-Length": str(co.artifacts.size(sha256)), "Accept-Ranges": "bytes"})


@router.get("/{sha256}", response_class=FileResponse)
async def get(sha256: Sha256, request: Request, co: Co, caller: Subject) -> FileResponse:
    """The content; a single byte range is served."""
    await _require_readable(co, sha256, caller)
    _require_range(request.headers.get("range"), co.artifacts.size(sha256))
    return FileResponse(
        co.artifacts.path(sha256),
        media_type="application/octet-stream",
        # A hash never changes its content; nobody but the caller may keep it.
        headers={"ETag": f'"{sha256}"', "Cache-Control": "private, immutable", "X-Content-Type-Options": "nosniff"},
    )


async def _require_readable(co: Coordinator, sha256: str, caller: str) -> None:
    """The same answer for what is not here and what is not theirs, so that hashes cannot be probed."""
    if not await co.store.allowed(sha256, caller) or not co.artifacts.has(sha256):
        raise NotFound(f"There is no artifact {sha256[:12]}… for you.")


def _require_range(text: str | None, size_bytes: int) -> None:
    if text is None:
        return
    match = _RANGE.fullmatch(text)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise HTTPException(400, "only one range such as bytes=100- or bytes=100-199 is served")
    if int(match[1]) >= size_bytes:
        raise HTTPException(416, f"the artifact has {size_bytes} bytes")
