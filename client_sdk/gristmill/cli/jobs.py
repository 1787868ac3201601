"""Jobs: plan, train, jobs, logs, watch, pull, stop."""

import json
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill._client import Client
from gristmill._job import Job, failure
from gristmill._plan import Plan
from gristmill.cli.screen import EXIT_INTERRUPTED, Json, print_json, print_table, remark, require_yes, say, watching
from gristmill_protocol.errors import BadSettings
from gristmill_protocol.jobs import JobState, JobView
from gristmill_protocol.wording import usd

CERTIFICATE = "certificate.json"

Recipe = Annotated[str, typer.Argument(help="Which recipe, such as image-sorter.")]
Data = Annotated[Path, typer.Argument(help="A folder with one folder per answer, a zip of that, or a table.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `gristmill jobs` lists it.")]
Quality = Annotated[str, typer.Option(help="How good the result should be.")]
Name = Annotated[str, typer.Option(help="What you call the job.")]
Gpu = Annotated[str, typer.Option(help='Memory like "24GB", or a name like "RTX 4090"; by default any machine.')]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe.")]
Column = Annotated[str | None, typer.Option(help="Of a table, where it cannot be guessed.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")]
CheckedBy = Annotated[str | None, typer.Option("--mode", help="How the work is checked; by default as well as can be.")]
Assurance = Annotated[int, typer.Option(min=0, max=64, help="Re-run at least so many segments of each window.")]
Replicas = Annotated[int, typer.Option(help="For --mode replicate: how many owners' machines run it; 3, 5 or 7.")]
HeldOut = Annotated[Path | None, typer.Option(help="For --mode outcome: examples that the provider is never given.")]
Threshold = Annotated[str | None, typer.Option(help="For --mode outcome: which share of them must be right, as 0.9.")]


def add_to(app: typer.Typer) -> None:
    for command in (plan, train, jobs, watch, logs, pull, stop):
        app.command(command.__name__)(command)


def plan(
    recipe: Recipe,
    data: Data,
    budget: Annotated[str | None, typer.Option(help="The most it may cost, in USD.")] = None,
    quality: Quality = "balanced",
    settings: Settings = [],  # noqa: B006  typer reads it and never changes it
    seed: Seed = 0,
    gpu: Gpu = "",
    text_column: Column = None,
    answer_column: Column = None,
    mode: CheckedBy = None,
    assurance: Assurance = 0,
    replicas: Replicas = 3,
    held_out: HeldOut = None,
    threshold: Threshold = None,
    as_json: Json = False,
) -> None:
    """Look at the data and get a firm price; nothing is uploaded, ordered or charged."""
    with Client() as client:
        planned = client.plan(
            recipe, data=data, quality=quality, budget=budget, seed=seed, gpu=gpu, text_column=text_column,
            answer_column=answer_column, mode=mode, assurance=assurance, replicas=replicas, held_out=held_out,
            threshold=threshold, **_settings(settings),
        )  # fmt: skip
    if as_json:
        print_json(_plan_json(planned))
    else:
        _say_plan(planned)


def train(
    recipe: Recipe,
    data: Data,
    budget: Annotated[str, typer.Option(help="The most it may cost, in USD.")],
    quality: Quality = "balanced",
    name: Name = "",
    settings: Settings = [],  # noqa: B006  typer reads it and never changes it
    seed: Seed = 0,
    gpu: Gpu = "",
    text_column: Column = None,
    answer_column: Column = None,
    mode: CheckedBy = None,
    assurance: Assurance = 0,
    replicas: Replicas = 3,
    held_out: HeldOut = None,
    threshold: Threshold = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Spend without asking.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Order it and return at once.")] = False,
    as_json: Json = False,
) -> None:
    """Order a job at a firm price, and watch it unless --detach."""
    with Client() as client:
        planned = client.plan(
            recipe, data=data, quality=quality, budget=budget, name=name, seed=seed, gpu=gpu, text_column=text_column,
            answer_column=answer_column, mode=mode, assurance=assurance, replicas=replicas, held_out=held_out,
            threshold=threshold, **_settings(settings),
        )  # fmt: skip
        if not as_json:
            _say_plan(planned)
        require_yes(f"Order this for at most {usd(planned.cap_usd_micros)}?", yes=yes)
        job = planned.start()
        if not as_json:
            say(job.id)
        if not detach:
            _watch(job, quiet=as_json)
        _report(job.view(), as_json=as_json)


def jobs(as_json: Json = False) -> None:
    """List your jobs, newest first."""
    with Client() as client:
        views = client.job_views()
    if as_json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    rows = [(view.job_id, view.name or view.recipe, view.state.value, _progress(view), _cost(view)) for view in views]
    print_table(("job", "name", "state", "checked", "cost"), rows)


def watch(job_id: JobId, as_json: Json = False) -> None:
    """Show a job until it ends. Ctrl-C stops only the showing."""
    with Client() as client:
        job = client.job(job_id)
        _watch(job, quiet=as_json)
        _report(job.view(), as_json=as_json)


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Print a job's story; with --json, one event a line."""
    with Client() as client:
        try:
            for event in client.job(job_id).logs(follow=follow):
                if as_json:
                    print_json(event)
                else:
                    at = datetime.fromtimestamp(event.at_ms / 1000, UTC).astimezone()
                    say(f"{at:%H:%M:%S}  {event.text}")
        except KeyboardInterrupt:
            _leave(job_id)


def pull(
    job_id: JobId,
    dest: Annotated[Path | None, typer.Argument(help="Folder; by default one named like the job.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a finished job's files home; hashes are checked, and nothing is left half-written."""
    with Client() as client:
        job = client.job(job_id)
        folder = job.download(dest or Path(job_id))
        names = sorted(job.view().outputs)
    if (folder / CERTIFICATE).exists():
        names.append(CERTIFICATE)
    else:
        remark("There is no certificate yet; pull again later to get it.")
    if as_json:
        print_json({"folder": str(folder), "files": names})
    else:
        for name in names:
            say(str(folder / name))


def stop(job_id: JobId, as_json: Json = False) -> None:
    """End a job. Work that is proven is paid, the rest is free again."""
    with Client() as client:
        view = client.job(job_id).stop()
    if as_json:
        print_json(view)
    else:
        say(f"{view.job_id} is {view.state.value}. {view.reason}".strip())


def _watch(job: Job, *, quiet: bool) -> None:
    try:
        if quiet:
            job.wait()
        else:
            job.watch(watching())
    except KeyboardInterrupt:
        _leave(job.id)


def _leave(job_id: str) -> None:
    remark(f"The job runs on. `gristmill watch {job_id}` shows it again, `gristmill stop {job_id}` ends it.")
    raise typer.Exit(EXIT_INTERRUPTED) from None


def _report(view: JobView, *, as_json: bool) -> None:
    """How it ended: data if it went well, otherwise an error with its exit code."""
    if view.state in (JobState.FAILED, JobState.STOPPED):
        raise failure(view)
    if as_json:
        print_json(view)
    elif view.state is JobState.DONE:
        for sentence in _scorecard(view):
            say(sentence)
        say(view.guarantee)
        say(f"Paid {usd(view.bill.paid_usd_micros if view.bill else 0)}.")
        remark(f"`gristmill pull {view.job_id}` brings the model home.")


def _scorecard(view: JobView) -> list[str]:
    """The recipe's own sentence if it has one, otherwise its numbers."""
    card = view.scorecard or {}
    return [card["sentence"]] if isinstance(card.get("sentence"), str) else [f"{n}: {v}" for n, v in card.items()]


def _say_plan(planned: Plan) -> None:
    say(str(planned))
    say(planned.quote.guarantee)
    say(planned.quote.verification)
    for sentence in planned.remarks:
        remark(sentence)


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "summary": str(planned),
        "remarks": list(planned.remarks),
        "spec": planned.spec.model_dump(mode="json"),
        "quote": planned.quote.model_dump(mode="json"),
    }


def _progress(view: JobView) -> str:
    return f"{100 * view.steps_accepted // view.steps_total} %"


def _cost(view: JobView) -> str:
    return usd(view.bill.paid_usd_micros) if view.bill else f"at most {usd(view.cap_usd_micros)}"


def _settings(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is JSON where it reads as such, otherwise text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise BadSettings(f"{pair!r} sets nothing.", todo="Write it like --set rounds=5.")
        if name in signature(Client.plan).parameters:
            raise BadSettings(f"{name} is no setting of a recipe.", todo="`gristmill train --help` lists the options.")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    return settings
