"""gristmill-coordinator: what an operator types."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated

import structlog
import typer

from gristmill_coordinator.config import Config, load_config
from gristmill_coordinator.store.migrate import migrate as migrate_store
from gristmill_coordinator.store.store import open_store
from gristmill_coordinator.wake import Wake
from gristmill_protocol.errors import GristmillError

app = typer.Typer(name="gristmill-coordinator", help="Match, meter and settle training jobs.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="JSON file of settings; docs/operators.md explains each.")
]


@app.command()
def serve(
    config: ConfigFile = None,
    data_dir: Annotated[Path | None, typer.Option(help="Artifacts, embedded database, secrets.")] = None,
    database_url: Annotated[str | None, typer.Option(help="postgresql+asyncpg://...; SQLite unless given.")] = None,
    http_address: Annotated[str | None, typer.Option(help="host:port for renters and artifacts.")] = None,
    grpc_address: Annotated[str | None, typer.Option(help="host:port for providers' nodes.")] = None,
    public_url: Annotated[str | None, typer.Option(help="Where renters reach it.")] = None,
    rpc_url: Annotated[str | None, typer.Option(help="The chain's JSON-RPC endpoint.")] = None,
    deployment: Annotated[Path | None, typer.Option(help="deployment.json of the contracts.")] = None,
    operator_key: Annotated[Path | None, typer.Option(help="Keystore of the operator's key.")] = None,
) -> None:
    """Run a coordinator until SIGTERM or Ctrl-C."""
    _log_to_stderr()
    flags = {
        "data_dir": data_dir,
        "database_url": database_url,
        "http_address": http_address,
        "grpc_address": grpc_address,
        "public_url": public_url,
        "rpc_url": rpc_url,
        "deployment": deployment,
        "operator_key": operator_key,
    }
    _finish(lambda: _serve(load_config(config, **flags)))


@app.command()
def migrate(
    config: ConfigFile = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the embedded database is.")] = None,
    database_url: Annotated[str | None, typer.Option(help="postgresql+asyncpg://...; SQLite unless given.")] = None,
) -> None:
    """Bring the database's tables up to date, as serve does when it starts."""
    _finish(lambda: _migrate(load_config(config, data_dir=data_dir, database_url=database_url)))


@app.command()
def check_books(config: ConfigFile = None) -> None:
    """Compare the database with the chain: balances, payments, nonces. Ends with 1 if anything differs."""
    _log_to_stderr()
    _finish(lambda: _check_books(load_config(config)))


def main() -> None:
    app()


async def _serve(config: Config) -> None:
    from gristmill_coordinator.serve import run  # web3, FastAPI and gRPC take seconds to import; --help does not

    await run(config)


async def _check_books(config: Config) -> None:
    from gristmill_coordinator.serve import check_books

    books = await check_books(config)
    for one in books.differences:
        typer.echo(f"{one.subject}: {one.text}; our rows say {one.expected}, the chain {one.found}")
    if books.differences:
        raise typer.Exit(1)
    typer.echo(f"The books agree at block {books.block}: {books.accounts} accounts, {books.payments} payments.")


async def _migrate(config: Config) -> None:
    config.data_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(config.store_url, Wake())
    try:
        await migrate_store(store.engine)
    finally:
        await store.close()
    typer.echo("The database is up to date.", err=True)


def _finish(command: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run a command; an error a person can act on becomes its sentences and its exit code."""
    try:
        asyncio.run(command())
    except GristmillError as err:
        typer.echo(f"error: {err}", err=True)
        raise typer.Exit(err.exit_code) from err


def _log_to_stderr() -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.dict_tracebacks]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
