"""A finished model that is asked something, and taken home."""

import asyncio
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from secrets import token_hex
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from gristmill_coordinator import certificates, views
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.studio_tables import tries
from gristmill_coordinator.studio.look_process import Asked
from gristmill_coordinator.studio.looking import in_a_process
from gristmill_coordinator.studio.makers import Maker
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.certificate import FILE as CERTIFICATE
from gristmill_protocol.certificate import CertificateStatement, Envelope
from gristmill_protocol.errors import BadData, BadRequest, GristmillError, NotFinished, NotFound
from gristmill_protocol.jobs import JobState, JobView
from gristmill_protocol.model_card import CARD, with_story

_SHOWN = 8
_MAX_TEXT = 20_000
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_MAX_FILE_BYTES = 20 * 1024 * 1024


async def ask(
    studio: Studio, maker: Maker, job_id: str, *, text: str = "", file: tuple[str, bytes] | None = None
) -> None:
    """Have the model answer; what it says, or why it can't, is kept with the job.

    Raises:
        NotFound, NotFinished: there is no model.
        BadRequest: nothing was asked.
    """
    view = await views.job(studio.co, maker.renter, job_id)
    if view.state is not JobState.DONE:
        raise NotFinished("The model is not ready yet.", todo="Wait until it has learnt.")
    if file is None and not text.strip():
        raise BadRequest("You asked nothing.", effect="The model said nothing.", todo="Choose a file, or write a text.")
    name, content = file if file is not None else (text[:_MAX_TEXT], text[:_MAX_TEXT].encode())
    if len(content) > _MAX_FILE_BYTES:
        raise BadRequest("That file is too large to try.", effect="The model said nothing.", todo="Take a smaller one.")
    model = await asyncio.to_thread(_model, studio, view)
    answers: list[dict[str, object]] = []
    trouble = None
    try:
        found = await asyncio.to_thread(studio.tryouts.ask, model, [(name, content)])
        answers = [{"answer": one.answer, "confidence": one.confidence} for one in found]
    except GristmillError as err:
        trouble = err.problem().model_dump(mode="json")
    row = {
        "try_id": studio.co.new_id("try"),
        "job_id": job_id,
        "asked": name[:400] if file is None else PurePosixPath(name).name[:200],
        "picture": await _shown(studio, view, file) if file is not None else None,
        "answers": answers,
        "trouble": trouble,
        "at_s": studio.co.clock(),
    }
    async with studio.co.store.write() as tx:
        await tx.run(sa.insert(tries).values(**row))


async def asked(studio: Studio, job_id: str) -> list[Row]:
    """What a job's model was asked lately, newest first."""
    query = sa.select(tries).where(tries.c.job_id == job_id).order_by(tries.c.at_s.desc(), tries.c.try_id).limit(_SHOWN)
    async with studio.co.store.read() as tx:
        return list(await tx.rows(query))


async def parcel(studio: Studio, maker: Maker, job_id: str) -> Path:
    """A zip of the model with its card and its certificate, for its owner.

    Raises:
        NotFound, NotFinished: there is nothing to take home, or not yet.
    """
    view = await views.job(studio.co, maker.renter, job_id)
    if view.state is not JobState.DONE:
        raise NotFinished("The model is not ready yet.", todo="Wait until it has learnt.")
    try:
        certificate = await certificates.certificate(studio.co, maker.renter, job_id)
    except NotFinished as err:
        what = "The paper on how it was made is being signed."
        raise NotFinished(what, effect="The model is safe.", todo="Take it home in a few seconds.") from err
    return await asyncio.to_thread(_packed, studio, view, certificate)


def _packed(studio: Studio, view: JobView, certificate: bytes) -> Path:
    path = _folder(studio, "parcels") / f"{view.job_id}.zip"
    if not path.exists():
        part = path.with_suffix(f".{token_hex(8)}.part")
        statement = CertificateStatement.read(Envelope.read(certificate).content())
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, sha256 in _outputs(view):
                file = studio.co.artifacts.path(sha256)
                if name == CARD:
                    archive.writestr(f"model/{name}", with_story(file.read_bytes(), statement))
                else:
                    archive.write(file, f"model/{name}")
            archive.writestr(f"model/{CERTIFICATE}", certificate)
        os.replace(part, path)
    return path


def _model(studio: Studio, view: JobView) -> Path:
    """The folder of a finished model, as whoever asks it wants it."""
    folder = studio.folder / "models" / view.job_id
    if not folder.exists():
        fresh = folder.with_name(f".{view.job_id}.{token_hex(8)}")
        for name, sha256 in _outputs(view):
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(studio.co.artifacts.path(sha256), target)
        try:
            fresh.rename(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(fresh)
    return folder


def _outputs(view: JobView) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of each file; what a trainer calls its files is not to be trusted.

    Raises:
        BadData: one would lie outside the folder.
    """
    if not view.outputs:
        raise NotFound("The model's files are gone.")
    for name, ref in view.outputs.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
            raise BadData(f"The model has a file with a bad name, {name!r}.", effect="Nothing was written.")
        yield name, ref.sha256


async def _shown(studio: Studio, view: JobView, file: tuple[str, bytes]) -> str | None:
    """What was asked about as a small PNG in base64; None if that is no picture."""
    name, content = file
    with TemporaryDirectory(dir=_folder(studio, "asked")) as scratch:
        suffix = PurePosixPath(name).suffix
        path = Path(scratch) / f"asked{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        await asyncio.to_thread(path.write_bytes, content)
        seen = await in_a_process(Asked(path=str(path), goal=view.recipe, alone=True))
    return seen.samples[0].picture or None if seen.samples else None


def _folder(studio: Studio, name: str) -> Path:
    folder = studio.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
