"""gristmill-node: what an owner types."""

import asyncio
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
import typer

from gristmill_protocol.errors import BadRequest, Conflict, GristmillError, NotFound
from gristmill_provider import examination, switch
from gristmill_provider.config import NodeConfig, load_config
from gristmill_provider.dashboard import show_top
from gristmill_provider.evidence import show_evidence
from gristmill_provider.exit_codes import ExitCode, NodeEnded
from gristmill_provider.fleet import build
from gristmill_provider.journal import worked
from gristmill_provider.keys import new_key
from gristmill_provider.onboarding import Onboarding
from gristmill_provider.owner import OtherChain
from gristmill_provider.page import beside
from gristmill_provider.probes import Machine
from gristmill_provider.questions import Questions
from gristmill_provider.runner import Runner
from gristmill_provider.service import Service, Systemd, account_of

if TYPE_CHECKING:
    from gristmill_provider.payday import GasPayer

Key = tuple[Path | None, Path | None]  # a keystore and its password's file; none: the node's

app = typer.Typer(name="gristmill-node", help="Earn with an idle graphics card.", no_args_is_help=True)
DEFAULT_CONFIG = Path.home() / ".gristmill-node" / "node.toml"
ConfigFile = Annotated[Path, typer.Option(help="The node's TOML file; docs/providers.md explains each setting.")]
Rpc = Annotated[str | None, typer.Option(help="HTTP address of a node of the chain; else rpc_url in the file.")]

key_app = typer.Typer(help="The key that the node signs its work with.", no_args_is_help=True)
app.add_typer(key_app, name="key")
service_app = typer.Typer(help="Run the node as a service of this machine.", no_args_is_help=True)
app.add_typer(service_app, name="service")
disputes_app = typer.Typer(help="What this node's work was challenged for.")
app.add_typer(disputes_app, name="disputes")
PayoutKey = Annotated[Path | None, typer.Option("--key", help="Keystore of the key you are paid at, if another.")]
Password = Annotated[Path | None, typer.Option("--password-file", help="Its password.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before something is sent.")]


@app.command()
def up(
    config: ConfigFile = DEFAULT_CONFIG,
    coordinator_url: Annotated[str | None, typer.Option(help="Address of the coordinator, https://...")] = None,
    coordinator: Annotated[str | None, typer.Option(help="host:port of its gRPC endpoint.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Its certificate authority, if not a public one.")] = None,
    name: Annotated[str | None, typer.Option(help="What people see.")] = None,
    ask: Annotated[str | None, typer.Option(help="USD per GPU-hour, as in 0.30.")] = None,
    electricity: Annotated[str | None, typer.Option(help="What you pay for it, USD per kWh, as in 0.30.")] = None,
    cpu: Annotated[bool | None, typer.Option(help="Offer the CPU instead of a graphics card.")] = None,
    own_renter: Annotated[
        list[str] | None,
        typer.Option(help="Run this renter key's jobs only, without a sandbox."),
    ] = None,
    payout: Annotated[str, typer.Option(help="Set-up only: address to be paid at, if not the node's own key.")] = "",
    rpc: Rpc = None,
    dashboard: Annotated[
        int | None, typer.Option(help="Port of a page about the node, for this machine only; 0: any free one.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Set-up only: take the defaults without asking.")] = False,
) -> None:
    """Offer this machine and work, until SIGTERM or Ctrl-C. The first time, it sets the machine up and registers it.

    SIGHUP reads price and owner's rules again.
    """
    flags = {
        "name": name,
        "coordinator": coordinator,
        "coordinator_url": coordinator_url,
        "ca_file": None if ca_file is None else str(ca_file.absolute()),
        "ask_usd_per_gpu_hour": ask,
        "electricity_usd_per_kwh": electricity,
        "cpu": cpu,
        "own_renters": own_renter or None,
        "rpc_url": rpc,
        "dashboard_port": dashboard,
    }

    def reload() -> NodeConfig:
        return load_config(config, flags)

    with _said(), _resumable():
        try:
            reload()
        except NotFound:
            _log_to_stderr(logging.WARNING)
            Onboarding(config, flags, payout=payout, questions=Questions(yes=yes)).run()
    run_until_stopped(reload)


@key_app.command("new")
def key_new(
    keystore: Annotated[Path, typer.Option(help="Where the encrypted key goes.")],
    password_file: Annotated[Path, typer.Option(help="Its password; made up if there is no such file.")],
) -> None:
    """Make a signing key and print its address, which your provider entry on chain has to name."""
    try:
        account = new_key(keystore, password_file)
    except OSError as err:
        typer.echo(f"error: No key was made: {err}.", err=True)
        raise typer.Exit(ExitCode.KEY) from err
    typer.echo(account.address)


@app.command()
def settle(
    config: ConfigFile = DEFAULT_CONFIG,
    direct: Annotated[bool, typer.Option("--direct", help="Yes, without the coordinator.")] = False,
    rpc: Rpc = None,
    key: Annotated[Path | None, typer.Option(help="Keystore of the key that pays for gas, if not the node's.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="Its password.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before something is sent.")] = False,
) -> None:
    """Get paid what is accepted although the coordinator is gone: settle it on chain, and collect."""
    with _said():
        if not direct:
            raise BadRequest(
                "The coordinator settles what you earn by itself.",
                effect="Nothing was sent.",
                todo="Add --direct if it is gone and you want to settle what it left.",
            )
        # web3 is large: only the commands that speak to a chain load it.
        from gristmill_provider.payday import settle_direct

        settings = load_config(config, {"rpc_url": rpc})
        payer, questions = _payer(settings, key, password_file), Questions(yes=yes)
        _for_each_node(settings, lambda one: settle_direct(one, payer=payer, questions=questions))


@disputes_app.callback(invoke_without_command=True)
def disputes(context: typer.Context, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the disputes of this node's work, and what you can do about them."""
    context.obj = config
    if context.invoked_subcommand is None:
        with _said():
            from gristmill_provider.courtroom import list_disputes

            _for_each_node(load_config(config, {}), list_disputes)


@disputes_app.command(
    "answer", help="Deny a fault, with a bond: referees decide, and who is wrong loses its bond as well."
)
@disputes_app.command("concede", help="Admit a fault: it costs the stake in question and nothing else.")
def plead(
    context: typer.Context,
    dispute: int,
    contract: Annotated[str | None, typer.Option(help="That the dispute is in, if several have its number.")] = None,
    rpc: Rpc = None,
    key: PayoutKey = None,
    password_file: Password = None,
    yes: Yes = False,
) -> None:
    with _said():
        from gristmill_provider.courtroom import speak

        settings = load_config(context.obj, {"rpc_url": rpc})
        payer = _payer(settings, key, password_file)
        plea: Literal["answer", "concede"] = "concede" if context.info_name == "concede" else "answer"
        speak(settings, dispute, plea, contract=contract, payer=payer, questions=Questions(yes=yes))


@app.command()
def enlist(
    config: ConfigFile = DEFAULT_CONFIG,
    rpc: Rpc = None,
    key: PayoutKey = None,
    password_file: Password = None,
    yes: Yes = False,
) -> None:
    """Offer to judge disputes: three referees are drawn for each that is contested, and share what the loser loses."""
    _serve_as_referee(config, True, rpc=rpc, key=(key, password_file), yes=yes)


@app.command()
def resign(
    config: ConfigFile = DEFAULT_CONFIG,
    rpc: Rpc = None,
    key: PayoutKey = None,
    password_file: Password = None,
    yes: Yes = False,
) -> None:
    """Judge no more disputes."""
    _serve_as_referee(config, False, rpc=rpc, key=(key, password_file), yes=yes)


@app.command()
def earnings(
    config: ConfigFile = DEFAULT_CONFIG,
    rpc: Rpc = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only; amounts in micro-USD.")] = False,
) -> None:
    """Show what you have earned, what is still to come, and your bond."""
    with _said():
        from gristmill_provider.earnings import show_earnings

        settings = load_config(config, {"rpc_url": rpc})
        _for_each_node(settings, lambda one: show_earnings(one, as_json=as_json), named=not as_json)


@app.command()
def bond(config: ConfigFile = DEFAULT_CONFIG, rpc: Rpc = None, yes: Yes = False) -> None:
    """Bring the bond up to the least that is asked, after a part of it was lost or the least was raised."""
    with _said():
        from gristmill_provider.joining import replenish_bond

        replenish_bond(load_config(config, {"rpc_url": rpc}), questions=Questions(yes=yes))


@app.command()
def doctor(
    config: ConfigFile = DEFAULT_CONFIG,
    coordinator_url: Annotated[str | None, typer.Option(help="Address of the coordinator, before set-up.")] = None,
    cpu: Annotated[bool | None, typer.Option(help="The CPU is to be offered.")] = None,
    rpc: Rpc = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Check this machine, and say of each trouble what it means and how to mend it. Runs before set-up, too."""
    with _said():
        machine = Machine(config, {"coordinator_url": coordinator_url, "cpu": cpu, "rpc_url": rpc})
        examination.show(machine, as_json=as_json)


@app.command()
def top(
    config: ConfigFile = DEFAULT_CONFIG,
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only; amounts in micro-USD.")] = False,
) -> None:
    """Show what runs, what it earns, and every hour that earned nothing, with its reason. Ctrl-C ends it."""
    with _said():
        show_top(load_config(config), once=once, as_json=as_json)


@service_app.command("install")
def service_install(
    config: ConfigFile = DEFAULT_CONFIG,
    user: Annotated[str | None, typer.Option(help="Account to run it as, if not the owner of the file.")] = None,
) -> None:
    """Have systemd run the node, now and at every start of this machine."""
    with _said():
        service = Service(config.absolute(), load_config(config), user or account_of(config))
        Systemd().install(service)


@service_app.command("remove")
def service_remove() -> None:
    """Stop the node and delete its unit; settings, key and state stay."""
    with _said():
        Systemd().remove()


@service_app.command("status")
def service_status() -> None:
    """Show how the service does."""
    with _said():
        Systemd().status()


@app.command()
def pause(
    config: ConfigFile = DEFAULT_CONFIG,
    minutes: Annotated[float | None, typer.Option(min=0, help="Go on by itself after so long.")] = None,
) -> None:
    """Take the machine back, now: running work saves and leaves. It lasts over restarts, until `resume`."""
    with _said():
        state_dir = load_config(config, {}).state_dir
        switch.pause(state_dir, math.inf if minutes is None else time.time() + minutes * 60)
    typer.echo("Paused" + ("." if minutes is None else f" for {minutes:g} min."))


@app.command()
def resume(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """End a pause."""
    with _said():
        was = switch.resume(load_config(config, {}).state_dir)
    typer.echo("Work may run again, within your rules." if was else "It was not paused.")


@app.command()
def evidence(
    config: ConfigFile = DEFAULT_CONFIG,
    days: Annotated[float, typer.Option(min=0, help="How far to look back.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only; times in unix seconds.")] = False,
) -> None:
    """Show what went wrong with the machine and during which work, and why it earned nothing at other times."""
    with _said():
        show_evidence(load_config(config, {}), days=days, as_json=as_json)


def main() -> None:
    app()


def _for_each_node(settings: NodeConfig, act: Callable[[NodeConfig], None], *, named: bool = True) -> None:
    """Have every node that has worked do something, whatever is in the way of the others.

    Args:
        named: where there are several, name each before what is said of it.
    Raises:
        NodeEnded: what was in the way of one; not if it is only on another chain, unless all are.
    """
    nodes = worked(settings)
    if len(nodes) == 1:
        return act(nodes[0])
    troubles, skipped = list[NodeEnded](), list[NodeEnded]()
    for one in nodes:
        name = f"{one.gpu or 'The first card'} at {one.coordinator}"
        if named:
            typer.echo(f"{name}:")
        try:
            act(one)
        except NodeEnded as ended:
            elsewhere = isinstance(ended.reason, OtherChain)
            (skipped if elsewhere else troubles).append(ended)
            typer.echo(f"{'skipped' if elsewhere else 'error'}: {name}: {ended.reason}", err=True)
    if len(skipped) == len(nodes):
        troubles = skipped
    if troubles:
        several = Conflict(
            f"There was trouble with {len(troubles)} of {len(nodes)}.", todo="The lines above say what, and what to do."
        )
        raise NodeEnded(max(ended.code for ended in troubles), several)


def _serve_as_referee(config: Path, enlist: bool, *, rpc: str | None, key: Key, yes: bool) -> None:
    with _said():
        from gristmill_provider.courtroom import serve_as_referee

        settings = load_config(config, {"rpc_url": rpc})
        serve_as_referee(settings, enlist=enlist, payer=_payer(settings, *key), questions=Questions(yes=yes))


def _payer(settings: NodeConfig, key: Path | None, password_file: Path | None) -> "GasPayer":
    """Whose key sends: the node's unless another is named."""
    from gristmill_provider.payday import GasPayer

    if (key is None) != (password_file is None):
        raise BadRequest("--key and --password-file go together.", effect="Nothing was sent.", todo="Give both.")
    return GasPayer(key or settings.keystore, password_file or settings.password_file)


def run_until_stopped(reload: Callable[[], NodeConfig], *, runner: Runner | None = None) -> None:
    """Run a node until SIGTERM or Ctrl-C; a failure is said in a sentence and ends with its exit code.

    Args:
        reload: reads the configuration; again at every SIGHUP.
        runner: instead of the configured backend's.
    """
    _log_to_stderr()
    with _said():
        config = reload()
        asyncio.run(_run(config, reload, runner))


async def _run(config: NodeConfig, reload: Callable[[], NodeConfig], runner: Runner | None) -> None:
    node = build(config, runner=runner, reload=reload)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    async with beside(config):
        await node.run()


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C in the middle of setting up is no fault."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort) as err:
        broken_off = Conflict("Setting up was broken off.", todo="Run this again: it goes on where it was.")
        raise NodeEnded(ExitCode.INTERRUPTED, broken_off) from err


@contextmanager
def _said() -> Iterator[None]:
    """Have a failure said in a sentence, and end with its exit code."""
    try:
        yield
    except NodeEnded as ended:
        _fail(ended.reason, ended.code)
    except GristmillError as err:
        _fail(err, ExitCode.USAGE)


def _fail(err: GristmillError, code: ExitCode) -> None:
    typer.echo(f"error: {err}\n       Exit code {code:d} ({code.name}); docs/providers.md explains it.", err=True)
    raise SystemExit(code)


def _log_to_stderr(least: int = logging.INFO) -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.dict_tracebacks]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
