from gristmill_coordinator.domain.tasks import replay_task, run_task
from gristmill_protocol.jobs import ArtifactRef, DataStats, JobSpec, Plan, Quote


def test_who_runs_and_who_checks_may_reach_the_hosts_of_the_plan() -> None:
    data = ArtifactRef(sha256="0" * 64, size_bytes=1)
    spec = JobSpec(recipe="script", data=data, stats=DataStats(examples=1), budget_usd_micros=1)
    plan = Plan(settings={}, steps=1, segment_steps=1, flops=1, peak_bytes=1, state_bytes=1, network=("pypi.org",))
    quote = Quote.model_construct(plan=plan)

    run = run_task(spec, quote, job_id="job_1", attempt_id="a", step_from=0, segment_index=0, state=None)

    assert run.network == ("pypi.org",)
    assert replay_task(run, step_to=1).network == ("pypi.org",)
