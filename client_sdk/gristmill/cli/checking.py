"""Checks that need nobody's word: verify a model's certificate, recompute a job's draws."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill import _calls
from gristmill._client import Client
from gristmill.cli.screen import Json, print_json, say
from gristmill.cli.wallet import published
from gristmill_protocol.api import AuditsView

audit = typer.Typer(help="Recompute from public data what was drawn for checking.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id; it need not be yours.")]
Rpc = Annotated[str, typer.Option("--rpc", help="A chain node's URL: ask the chain too.")]
Coordinator = Annotated[str | None, typer.Option("--coordinator", help="Its URL; by default the configured one.")]

_SIGNS = {"ok": "✓", "wrong": "✗", "note": "·"}


def add_to(app: typer.Typer) -> None:
    app.command("verify")(verify)
    app.add_typer(audit, name="audit")


def verify(
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Folder that `gristmill pull` made.")],
    operator: Annotated[str, typer.Option(help="Address of the coordinator's key, as you know it.")] = "",
    deployment: Annotated[Path | None, typer.Option(help="The contracts, as published.")] = None,
    rpc: Rpc = "",
    as_json: Json = False,
) -> None:
    """Check a model against its certificate, offline; explains each line. Exit code 1 if anything does not match."""
    from gristmill._chain_facts import ChainFacts
    from gristmill._verify import Trusted, verify

    trusted = Trusted(operator, None if deployment is None else published(deployment))
    with ChainFacts(rpc) if rpc else nullcontext() as chain:
        found = verify(model_dir, trusted, chain)
    _show(found, as_json=as_json)


@audit.command("draw")
def draw(job_id: JobId, coordinator: Coordinator = None, as_json: Json = False) -> None:
    """Draw each window's segments again, beside what the coordinator says was drawn."""
    from gristmill_protocol.evidence import check_draw

    view = _audits(job_id, coordinator)
    _show([check_draw(view.job_id, window) for window in view.windows], as_json=as_json)


@audit.command("verify")
def verify_audits(job_id: JobId, coordinator: Coordinator = None, rpc: Rpc = "", as_json: Json = False) -> None:
    """Check commitments, anchors, draws and audits of a job, from public data alone."""
    from gristmill._chain_facts import ChainFacts
    from gristmill_protocol.evidence import check_window, note

    view = _audits(job_id, coordinator)
    found = [finding for window in view.windows for finding in check_window(view.job_id, window)]
    if rpc:
        with ChainFacts(rpc) as chain:
            found.append(chain.check_chain(view.chain_id))
            for window in view.windows:
                found += chain.check_anchor(window, registry=view.registry, coordinator=view.coordinator)
    else:
        found.append(note("Anchors and beacons are as the coordinator says: --rpc asks the chain."))
    _show(found, as_json=as_json)


def _audits(job_id: str, coordinator: str | None) -> AuditsView:
    with Client(coordinator) as client:
        return client.send(_calls.audits(job_id))


def _show(findings: list[Any], *, as_json: bool) -> None:
    """Each line with its sign, then the sum; ends the command with 1 if anything is wrong."""
    bad = sum(finding.mark == "wrong" for finding in findings)
    if as_json:
        print_json({"ok": not bad, "findings": [finding.model_dump() for finding in findings]})
    else:
        for finding in findings:
            say(f"{_SIGNS[finding.mark]} {finding.text}")
        say("Everything that was checked holds." if not bad else f"It does not hold: see {bad} marked ✗.")
    if bad:
        raise typer.Exit(1)
