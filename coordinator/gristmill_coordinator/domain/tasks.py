"""What a trainer is told to do, from a job's order: the same words for those who run it and those who check it."""

from collections.abc import Mapping

from gristmill_protocol.jobs import ArtifactRef, JobSpec, Quote, TrainTask


def run_task(
    spec: JobSpec,
    quote: Quote,
    *,
    job_id: str,
    attempt_id: str,
    step_from: int,
    segment_index: int,
    state: ArtifactRef | None,
) -> TrainTask:
    """Run from an accepted state, or from the beginning, to the job's end."""
    return TrainTask(
        job_id=job_id,
        attempt_id=attempt_id,
        recipe=spec.recipe,
        settings=quote.plan.settings,
        seed=spec.seed,
        steps=quote.plan.steps,
        segment_steps=quote.plan.segment_steps,
        end_steps=quote.plan.end_steps,
        step_from=step_from,
        segment_index=segment_index,
        network=quote.plan.network,
        data=spec.data,
        state=state,
    )


def measuring_task(run: TrainTask, spec: JobSpec, files: Mapping[str, Mapping[str, object]]) -> TrainTask:
    """Measure the finished model on the examples that its provider never saw.

    Args:
        files: of the model: name -> an ArtifactRef's fields.
    """
    model = {name: ArtifactRef.model_validate(ref) for name, ref in files.items()}
    return run.model_copy(update={"data": spec.held_out, "state": None, "step_from": 0, "model": model})


def replay_task(run: TrainTask, *, step_to: int, keep_state: bool = False, step_roots: bool = False) -> TrainTask:
    """Run one segment only, for its digests; for its end state or for every step's root where these are compared."""
    return run.model_copy(update={"step_to": step_to, "keep_state": keep_state, "step_roots": step_roots})
