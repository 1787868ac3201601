"""gristmill localnet: a market to try things on, without money and without strangers."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from gristmill import Client
from gristmill_localnet.demo import run_demo
from gristmill_localnet.net import HTTP_PORT, Sandbox, localnet, make_money
from gristmill_localnet.sandbox_image import image_at_hand, trainer_image
from gristmill_protocol.money import parse_usd

app = typer.Typer(help="The whole market on this machine, with test money.", no_args_is_help=True)

SandboxOption = Annotated[
    Sandbox, typer.Option(help="process: plain processes, for your own jobs. docker: hardened containers.")
]


@app.command()
def up(
    folder: Annotated[Path, typer.Option(help="Keys, databases and logs go here.")] = Path(".localnet"),
    port: Annotated[int, typer.Option(help="Of the coordinator's HTTP API.")] = HTTP_PORT,
    sandbox: SandboxOption = "process",
) -> None:
    """Start a market and keep it until Ctrl-C."""
    console = Console()
    console.print("Starting an EVM node, a coordinator and four providers …")
    image = trainer_image(sandbox) or image_at_hand()
    with _interruptible(), localnet(folder, sandbox=sandbox, image=image, http_port=port) as net:
        console.print(f"The market is up. Teach an AI in a browser: {net.url}")
        console.print(f"(links to sign in there come to {net.coordinator.log})\n", soft_wrap=True)
        console.print("Or in another shell, be its renter:\n")
        for name, value in net.environment().items():
            console.print(f"  export {name}={value}", soft_wrap=True, highlight=False)
        console.print("\n  gristmill wallet balance\n  gristmill train image-sorter YOUR_PHOTOS --budget 0.05")
        alone = "" if image else f" --own-renter {net.books.addresses['renter']}"
        console.print("\nOr offer this machine as a new owner would:\n")
        console.print(
            f"  gristmill-node up --coordinator-url {net.url} --cpu{alone} --config .node/node.toml",
            soft_wrap=True,
            highlight=False,
        )
        console.print("\nCtrl-C stops it.")
        signal.pause()


@app.command()
def fund(
    amount: Annotated[str, typer.Argument(help='Test USD, like "10".')],
    to: Annotated[str, typer.Option(help="Address; by default your key's.")] = "",
    folder: Annotated[Path, typer.Option(help="Of the running market.")] = Path(".localnet"),
) -> None:
    """Make test money at your key's address; `gristmill wallet deposit` then moves it into your account."""
    to = to or Client().address
    make_money(folder, to, parse_usd(amount))
    Console().print(f"{to} has {amount} test USD more.", soft_wrap=True, highlight=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="The model stays here.")] = Path(".demo"),
    sandbox: SandboxOption = "process",
) -> None:
    """Train on real handwriting, once with an honest provider and once with one that cheats."""
    with _interruptible():
        run_demo(folder, Console(), sandbox=sandbox, image=trainer_image(sandbox))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM stop every part in order, and say so."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background jobs start with it ignored
        signal.signal(number, _as_interrupt)
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print("\nStopped. Nothing is left running.")
        raise typer.Exit(130) from None


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
