"""`gristmill-node doctor`: every check, in the order in which things are needed."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict

import typer

from gristmill_protocol.errors import BadRequest, Conflict, GristmillError
from gristmill_provider import doctor
from gristmill_provider.config import NodeConfig
from gristmill_provider.doctor import Engine, Finding, KeyFiles, Level, Registration
from gristmill_provider.exit_codes import ExitCode, NodeEnded
from gristmill_provider.introduction import Greeting
from gristmill_provider.pricing import watts_at_work
from gristmill_provider.probes import Machine
from gristmill_provider.rules import electricity_usd_micros_per_hour

_COLOURS = {Level.OK: typer.colors.GREEN, Level.WARNING: typer.colors.YELLOW, Level.PROBLEM: typer.colors.RED}


def examine(machine: Machine) -> Iterator[Finding]:
    """What was found, check by check."""
    yield _settings(machine)
    cpu = bool(machine.setting("cpu"))
    for wanted in machine.gpus:
        yield doctor.card([] if cpu else machine.cards, wanted=wanted, cpu=cpu)
    if machine.sandboxed:
        yield from _sandbox(machine, cpu=cpu)
    yield doctor.room(machine.rooms(), machine.limits)
    visits = machine.visits()
    if machine.setting("coordinator_url") or machine.is_set_up:
        for visit in visits:
            yield from _coordinator(visit)
    if machine.is_set_up:
        key = machine.key
        yield doctor.key(key)
        node_key = key.address if isinstance(key, KeyFiles) else ""
        for visit in visits:
            yield doctor.registration(_on_chain(visit), node_key=node_key)
    if isinstance(machine.config, NodeConfig):
        yield _price(machine, machine.config)


def show(machine: Machine, *, as_json: bool) -> None:
    """Print what was found.

    Raises:
        NodeEnded: something keeps this machine from working.
    """
    findings = []
    for finding in examine(machine):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if not doctor.fit(findings):
        unfit = Conflict(
            "Something keeps this machine from working.", todo="Mend what is marked as a problem, from the top."
        )
        raise NodeEnded(ExitCode.UNFIT, unfit)
    if not as_json:
        typer.echo("\nThis machine can work.")


def _settings(machine: Machine) -> Finding:
    if machine.is_set_up:
        return doctor.told("settings", machine.config, f"{machine.file} holds together")
    what = f"There is no {machine.file} yet, so key, registration and price are not checked."
    coordinator = "" if machine.setting("coordinator_url") else " --coordinator-url ADDRESS"
    return Finding("settings", Level.WARNING, what, todo=f"gristmill-node up{coordinator} makes it.")


def _sandbox(machine: Machine, *, cpu: bool) -> Iterator[Finding]:
    engine = machine.engine
    yield doctor.docker(engine)
    if not isinstance(engine, Engine):
        return
    if not cpu:
        yield doctor.toolkit(machine.toolkit(), engine_cdi=engine.cdi, cdi_spec=machine.cdi_spec())
    if machine.is_set_up or machine.setting("coordinator_url"):
        image = machine.image()
        yield doctor.told("image", image, str(image))
    yield doctor.rights(root=os.geteuid() == 0, can_make_volumes=machine.can_make_volumes())


def _coordinator(machine: Machine) -> Iterator[Finding]:
    greeting, stream = machine.greeting, machine.stream()
    yield doctor.told("coordinator", greeting, f"{machine.setting('coordinator_url')} answers")
    yield doctor.told("stream for nodes", stream, f"{stream} answers")
    yield doctor.clock(greeting.behind_s if isinstance(greeting, Greeting) else None)


def _on_chain(machine: Machine) -> Registration | GristmillError:
    provider, rpc_url, greeting = machine.setting("provider_id"), machine.setting("rpc_url"), machine.greeting
    if not provider:
        return BadRequest(
            "This machine is not registered.", effect="No coordinator takes it.", todo="gristmill-node up registers it."
        )
    if not rpc_url:
        return BadRequest("No node of the chain is named, so nobody can be asked.", todo="Set rpc_url, or add --rpc.")
    if not isinstance(greeting, Greeting):
        return BadRequest("Which contracts is not known.", todo="Mend the coordinator's HTTP side first.")
    # web3 is large: only what speaks to a chain loads it.
    from gristmill_provider.joining import registration_of

    try:
        return registration_of(rpc_url, greeting.info, provider)
    except GristmillError as err:
        return err


def _price(machine: Machine, config: NodeConfig) -> Finding:
    cards = machine.cards if not config.cpu else []
    chosen = next((one for one in cards if config.gpu in ("", one.uuid)), None) if isinstance(cards, list) else None
    power = electricity_usd_micros_per_hour(config.price, watts_at_work(chosen))
    return doctor.price(ask_usd_micros=config.ask_usd_micros_per_gpu_hour, power_usd_micros=power)


def _print(finding: Finding) -> None:
    label = typer.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
    typer.echo(f"{label} {finding.check:<18} {finding.what}")
    for name, text in (("effect", finding.effect), ("mend", finding.todo)):
        if text and finding.level is not Level.OK:
            typer.echo(f"{'':<27} {name + ':':<7} {text}")
