"""The demo: a renter trains an image sorter on real handwriting, once with an honest provider and once with a cheat."""

import time
from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel

from gristmill import Client, Job
from gristmill_localnet import report
from gristmill_localnet.digits import draw, write_digits
from gristmill_localnet.net import Localnet, Sandbox, localnet
from gristmill_localnet.report import Episode
from gristmill_protocol.errors import JobFailed
from gristmill_protocol.jobs import JobView

RECIPE = "image-sorter"
BUDGET = "0.05"
GOOD_ACCURACY = 0.96
CHEAT = "crow"
UNDERCUT = "0.08"
_DECIDED_S = 120  # a busy machine takes a while to run the segment again


def run_demo(folder: Path, console: Console, *, sandbox: Sandbox = "process", image: str = "") -> Group:
    """Run both jobs, print what happens, and give the summary at the end.

    Args:
        folder: everything goes in here; the finished model stays in folder/model.
    Raises:
        JobFailed: the market did not do what the demo is there to show.
    """
    console.rule("[bold]Gristmill: the whole market on this machine")
    console.print("Starting an EVM node, a coordinator and four providers, who first measure their machines …")
    with localnet(folder / "localnet", sandbox=sandbox, image=image) as net:
        with net.client() as client:
            console.print(report.market(client.market(), net))
            data = write_digits(folder / "digits")
            _show_data(console, data)
            console.rule("[bold]First job: an honest provider")
            first = _train(console, net, data, "digits", quality="balanced")
            model = client.job(first.job.job_id).download(folder / "model")
            _show_result(console, first.job)
            console.rule("[bold]Second job: a provider that cheats")
            console.print(
                f"{CHEAT} asks {UNDERCUT} USD an hour now, less than everybody else. It will skip most of the work."
            )
            _undercut(net, client)
            second = _train(console, net, data, "digits again", quality="quick", disputes=True)
            _check(bool(second.job.slashes), "the cheat was not found")
            _check(second.after[CHEAT] < second.before[CHEAT], "the cheat kept its stake")
        ending = report.summary(net, (first, second), model, data, sandbox)
        console.print(ending, soft_wrap=False)
    return ending


def _show_data(console: Console, data: Path) -> None:
    samples = [draw(sorted((data / digit).iterdir())[0]) for digit in "4709"]
    rows = zip(*(sample.splitlines() for sample in samples), strict=True)
    picture = "\n".join("    ".join(row) for row in rows)
    console.print(Panel(picture, title=f"The data: handwritten digits in {data}", expand=False))


def _train(console: Console, net: Localnet, data: Path, name: str, quality: str, *, disputes: bool = False) -> Episode:
    """Order, watch and settle one job as its renter, and wait until what was disputed about it is decided."""
    before = net.books.holdings()
    with net.client() as client:
        plan = client.plan(RECIPE, data=data, quality=quality, budget=BUDGET, name=name)
        console.print(report.offer(plan))
        job: Job = plan.start()
        job.watch(console).result()
        view = _decided(job) if disputes else job.view()
    after = net.books.holdings()
    _check(sum(before.values()) == sum(after.values()), "money was made or lost")
    return Episode(name, view, before, after)


def _decided(job: Job) -> JobView:
    deadline = time.monotonic() + _DECIDED_S
    while not (disputed := (view := job.view()).disputes) or not all(one.closed for one in disputed):
        _check(time.monotonic() < deadline, "nobody was challenged, or nobody answered")
        time.sleep(0.5)
    return view


def _show_result(console: Console, job: JobView) -> None:
    scorecard = job.scorecard or {}
    accuracy = float(scorecard.get("accuracy", 0))
    console.print(Panel(f"{scorecard.get('sentence')}\nAccuracy on held-out pictures: {accuracy:.4f}", expand=False))
    _check(accuracy >= GOOD_ACCURACY, f"an accuracy of {accuracy:.4f} is below {GOOD_ACCURACY}")


def _undercut(net: Localnet, client: Client) -> None:
    """Let the cheat lower its price, and wait until the market shows it."""
    net.nodes[CHEAT].set_ask(UNDERCUT)
    deadline = time.monotonic() + 20
    while min(client.market(), key=lambda offer: offer.ask_usd_micros_per_gpu_hour).provider_name != CHEAT:
        _check(time.monotonic() < deadline, "the cheat's new price did not reach the market")
        time.sleep(0.1)


def _check(held: bool, what: str) -> None:
    if not held:
        raise JobFailed(f"The demo did not show what it should: {what}.", todo="The logs are in the localnet's folder.")
