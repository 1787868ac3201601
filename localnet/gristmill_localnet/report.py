"""What the demo shows of a market: tables and sentences, for people who see it for the first time."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Column, Table

from gristmill import Plan
from gristmill_localnet.books import Books
from gristmill_localnet.net import Localnet, Sandbox
from gristmill_protocol.api import OfferView
from gristmill_protocol.jobs import AttemptState, JobView, WindowState
from gristmill_protocol.money import format_usd, split_line

MODEL_CARD = "MODEL_CARD.md"
_GRISTMILL = os.path.relpath(Path(sys.executable).with_name("gristmill"))  # as it can be typed here


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
        quote.guarantee,
        quote.verification,
        *plan.remarks,
    ]
    return Panel("\n".join(lines), title="The plan, before anything is spent", expand=False)


def summary(net: Localnet, episodes: Sequence[Episode], model: Path, data: Path, sandbox: Sandbox) -> Group:
    """What the demo ends with: every turn, every transaction, everybody's money, and what to try next."""
    picture = sorted((data / "7").iterdir())[0]
    return Group(
        Rule("[bold]What happened"),
        *(_story(episode) for episode in episodes),
        _transactions(episodes, net.books),
        _money(episodes),
        _checked(episodes, sandbox),
        f"The model lies in [bold]{model}[/bold], its card beside it: {MODEL_CARD}.",
        f"Try it on a picture:  {_GRISTMILL} try {model} {picture}",
        f"How it came to be, checked offline:  {_GRISTMILL} verify {model}",
    )


def _story(episode: Episode) -> Table:
    job = episode.job
    table = Table("who", "what", "outcome", title=f"Job {episode.title!r}: {job.state.value}")
    for attempt in job.attempts:
        steps = f"trained steps {attempt.step_from} to {attempt.step_to}"
        table.add_row(attempt.provider_name, steps, attempt.reason or attempt.state.value)
        for window in (window for window in job.windows if window.attempt_id == attempt.attempt_id):
            for audit in (audit for audit in window.audits if audit.outcome in ("passed", "mismatch")):
                table.add_row(audit.verifier_name, f"re-ran segment {audit.segment} ({audit.why_drawn})", audit.outcome)
            if window.state is WindowState.VOID:
                table.add_row("coordinator", f"rejected the work of {attempt.provider_name}", window.reason)
    for dispute in job.disputes:
        table.add_row(dispute.provider_name, f"was challenged on chain (dispute {dispute.dispute})", dispute.course)
    if job.scorecard is not None:
        table.add_row("the model", "on held-out pictures", f"{job.scorecard['sentence']} ({job.scorecard['accuracy']})")
    if job.bill is not None:
        table.add_row("renter", "paid", f"{format_usd(job.bill.paid_usd_micros)} USD")
    return table


def _transactions(episodes: Sequence[Episode], books: Books) -> Table:
    """What is on the chain for anybody to check."""
    table = Table("job", "what", Column("transaction", overflow="fold"), "gas", title="On the chain")
    for episode in episodes:
        sent = [("commitment", window.anchor_tx) for window in episode.job.windows]
        sent += [("slash", slash.tx) for slash in episode.job.slashes]
        sent += [("payment", episode.job.bill.settle_tx)] if episode.job.bill else []
        for what, tx in sent:
            if tx is not None:
                table.add_row(episode.title, what, tx, f"{books.gas_used(tx):,}")
    return table


def _money(episodes: Sequence[Episode]) -> Table:
    """Everybody's money before, between and after; each column sums to the same."""
    columns = [episodes[0].before, *(episode.after for episode in episodes)]
    heads = ["before", *(f"after {episode.title!r}" for episode in episodes)]
    amounts = [Column(head, justify="right") for head in (*heads, "change")]
    table = Table("USD", *amounts, title="Money: wallet, account, earnings and bond together")
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
        windows = [
            w for w in episode.job.windows if w.attempt_id in good and w.state in (WindowState.PASSED, WindowState.PAID)
        ]
        segments, audits = sum(w.segments for w in windows), sum(len(w.audits) for w in windows)
        lines.append(
            f"[green]Verified[/green]: {audits} of {segments} segments of {episode.title!r} were run again by another "
            "provider, bit for bit; all were committed to on chain before anybody knew which would be drawn."
        )
    lines += [
        "[green]Verified[/green]: the last segment of a job is always among them, and who runs it again makes the "
        "model's files and its score again, too.",
        "[yellow]Not verified[/yellow]: segments that were not drawn. A cheat in them risks its bond.",
        "[yellow]Not isolated[/yellow]: the jobs ran as plain processes, since they were this machine's own. "
        "`make demo SANDBOX=docker` runs them in hardened containers."
        if sandbox == "process"
        else "[green]Isolated[/green]: every job ran in a container without network, root or capabilities.",
    ]
    return Panel("\n".join(lines), title="What was verified, and what was not", expand=False)
