"""What the demo shows of a market: tables and sentences, for people who see it for the first time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from gristmill import Plan
from gristmill_localnet.books import Books
from gristmill_localnet.net import Localnet, Sandbox
from gristmill_protocol.api import OfferView
from gristmill_protocol.jobs import AttemptState, JobView
from gristmill_protocol.money import format_usd, split_line


@dataclass(frozen=True)
class Episode:
    """One job of the demo, with everybody's money before and after."""

    title: str
    job: JobView
    before: dict[str, int]
    after: dict[str, int]


def market(offers: Sequence[OfferView], net: Localnet) -> Table:
    """Who sells what, cheapest first."""
    table = Table("provider", "device", "asks, USD an hour", "process", title="The market")
    for offer in offers:
        pid = net.nodes[offer.provider_name].process.pid
        table.add_row(offer.provider_name, offer.device, format_usd(offer.ask_usd_micros_per_gpu_hour), str(pid))
    return table


def offer(plan: Plan) -> Panel:
    """The plan before anything is spent: what, how long, how much, who gets which part."""
    quote = plan.quote
    parts = split_line(quote.price_usd_micros, verifier_bps=quote.verifier_bps, royalty_bps=quote.royalty_bps)
    lines = [
        f"[bold]{plan}[/bold]",
        f"Price {format_usd(quote.price_usd_micros)} USD, firm. It can never cost more than "
        f"{format_usd(quote.cap_usd_micros)} USD, wherever the job has to move.",
        f"Of the price the provider gets {format_usd(parts.provider)}, verifiers {format_usd(parts.verifier)}, "
        f"the recipe's author {format_usd(parts.author)}, the protocol {format_usd(parts.treasury)} USD.",
        quote.verification,
        *plan.remarks,
    ]
    return Panel("\n".join(lines), title="The plan, before anything is spent", expand=False)


def summary(
    console: Console, net: Localnet, episodes: Sequence[Episode], model: Path, data: Path, sandbox: Sandbox
) -> None:
    """The table that the demo ends with."""
    console.rule("[bold]What happened")
    for episode in episodes:
        console.print(_story(episode, net.books))
    console.print(_money(episodes))
    console.print(_checked(episodes, sandbox))
    picture = sorted((data / "7").iterdir())[0]
    console.print(f"The model lies in [bold]{model}[/bold]; its card is {model / 'MODEL_CARD.md'}.")
    console.print(f"Try it on a picture:\n  .venv/bin/gristmill try {model} {picture}", soft_wrap=True)


def _story(episode: Episode, books: Books) -> Table:
    job = episode.job
    table = Table("what", "who", "outcome", "transaction", "gas", title=f"Job {episode.title!r}: {job.state.value}")
    for attempt in job.attempts:
        outcome = f"{attempt.state.value} {attempt.reason}".strip()
        table.add_row(f"attempt {attempt.number}", attempt.provider_name, outcome)
        for window in (window for window in job.windows if window.attempt_id == attempt.attempt_id):
            tx = window.anchor_tx or ""
            committed = f"committed to {window.segments} segments"
            table.add_row("", attempt.provider_name, committed, tx, _gas(books, tx))
            for audit in window.audits:
                result = f"re-ran segment {audit.segment} ({audit.why_drawn}): {audit.outcome}"
                table.add_row("", audit.verifier_name, result)
    for slash in job.slashes:
        lost = f"lost its bond of {format_usd(slash.amount_usd_micros)} USD"
        table.add_row("slash", slash.provider_name, lost, slash.tx or "", _gas(books, slash.tx or ""))
    if job.bill is not None:
        tx = job.bill.settle_tx or ""
        table.add_row("payment", "renter", f"{format_usd(job.bill.paid_usd_micros)} USD", tx, _gas(books, tx))
    return table


def _gas(books: Books, tx: str) -> str:
    return f"{books.gas_used(tx):,}" if tx else ""


def _money(episodes: Sequence[Episode]) -> Table:
    """Everybody's money before, between and after; each column sums to the same."""
    columns = [episodes[0].before, *(episode.after for episode in episodes)]
    heads = ["before", *(f"after {episode.title!r}" for episode in episodes)]
    table = Table("USD", *heads, "change", title="Money: wallet, account, earnings and bond together")
    for name, start in columns[0].items():
        table.add_row(name, *(format_usd(column[name]) for column in columns), _change(columns[-1][name] - start))
    totals = [sum(column.values()) for column in columns]
    table.add_section()
    table.add_row("sum", *(format_usd(total) for total in totals), _change(totals[-1] - totals[0]))
    return table


def _change(amount: int) -> str:
    return f"+{format_usd(amount)}" if amount > 0 else format_usd(amount)


def _checked(episodes: Sequence[Episode], sandbox: Sandbox) -> Panel:
    lines = []
    for episode in episodes:
        good = {a.attempt_id for a in episode.job.attempts if a.state is AttemptState.FINISHED}
        windows = [w for w in episode.job.windows if w.attempt_id in good and w.state.value in ("passed", "paid")]
        segments, audits = sum(w.segments for w in windows), sum(len(w.audits) for w in windows)
        lines.append(
            f"[green]Verified[/green]: {audits} of {segments} segments of {episode.title!r} were run again by another "
            "provider, bit for bit; all were committed to on chain before anybody knew which would be drawn."
        )
    lines += [
        "[yellow]Not verified[/yellow]: segments that were not drawn (a cheat in them risks the whole bond), and the "
        "score, which the provider measured: try the model on pictures of your own.",
        "[yellow]Not isolated[/yellow]: the jobs ran as plain processes, since they were this machine's own. "
        "`make demo SANDBOX=docker` runs them in hardened containers."
        if sandbox == "process"
        else "[green]Isolated[/green]: every job ran in a container without network, root or capabilities.",
    ]
    return Panel("\n".join(lines), title="What was verified, and what was not", expand=False)
