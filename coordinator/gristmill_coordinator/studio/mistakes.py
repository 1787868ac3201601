"""The examples that a finished model got wrong, as they looked."""

from dataclasses import dataclass

import sqlalchemy as sa

from gristmill_coordinator.store.studio_tables import drafts
from gristmill_coordinator.store.tables import jobs
from gristmill_coordinator.studio.drafts import of_job
from gristmill_coordinator.studio.look_process import Asked, SampleView
from gristmill_coordinator.studio.looking import in_a_process
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.jobs import JobSpec
from gristmill_trainer.scoring import Scorecard


@dataclass(frozen=True)
class Wrong:
    """One example, what it is and what the model took it for."""

    sample: SampleView
    answer: str
    taken_for: str


async def shown(studio: Studio, job_id: str, card: Scorecard) -> list[Wrong]:
    """The surest mistakes of a finished job; none if its data are gone. Read once, then kept with the draft."""
    draft = await of_job(studio, job_id)
    if not card.worst or draft is None:
        return []
    if draft.mistakes is None:
        async with studio.co.store.read() as tx:
            spec = JobSpec.model_validate(await tx.value(sa.select(jobs.c.spec).where(jobs.c.job_id == job_id)))
        samples = await _read(studio, spec, [one.place for one in card.worst])
        dumped = [sample.model_dump(mode="json") for sample in samples]
        async with studio.co.store.write() as tx:
            await tx.run(sa.update(drafts).where(drafts.c.draft_id == draft.draft_id).values(mistakes=dumped))
    else:
        samples = [SampleView.model_validate(one) for one in draft.mistakes]
    by_place = {sample.place: sample for sample in samples}
    return [Wrong(by_place[one.place], one.answer, one.taken_for) for one in card.worst if one.place in by_place]


async def _read(studio: Studio, spec: JobSpec, places: list[str]) -> list[SampleView]:
    if not studio.co.artifacts.has(spec.data.sha256):
        return []
    asked = Asked(path=str(studio.co.artifacts.path(spec.data.sha256)), goal=spec.recipe, places=tuple(places))
    return list((await in_a_process(asked)).samples)
