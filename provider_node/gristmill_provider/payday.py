"""`gristmill-node settle --direct`: list what is owed, settle what may be settled, collect, explain the rest."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from web3 import Web3

from gristmill_contracts.ledger import Ledger
from gristmill_contracts.node import Sender
from gristmill_protocol.errors import BadSettings, Conflict
from gristmill_protocol.money import format_usd
from gristmill_provider.config import NodeConfig
from gristmill_provider.direct import Claim, Standing, chain_of, collect, settle, survey
from gristmill_provider.exit_codes import ExitCode, NodeEnded, ends_as
from gristmill_provider.journal import JOURNAL
from gristmill_provider.keys import open_key
from gristmill_provider.payables import Payables
from gristmill_provider.questions import Questions

_WIDE = 200

_WORDS = {
    Standing.READY: "can be settled",
    Standing.EARLY: "too early",
    Standing.UNFUNDED: "not covered",
    Standing.EXPIRED: "too late",
    Standing.PAID: "paid",
    Standing.UNDERPAID: "paid in part",
}


@dataclass(frozen=True)
class GasPayer:
    """Whose key sends: any will do, since payments go to the payout address whoever sends them."""

    keystore: Path
    password_file: Path


def settle_direct(config: NodeConfig, *, payer: GasPayer, questions: Questions) -> None:
    """Settle what the journal holds without the coordinator.

    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    with closing(open_journal(config)) as journal:
        markets = journal.markets()
        if not markets:
            typer.echo("Nothing is owed: this node has not met a coordinator yet.")
            return
        with ends_as(ExitCode.CHAIN), chain_of(markets, rpc_of(config)) as w3:
            chain_id = w3.eth.chain_id
            owed = [payable for payable in journal.owed() if payable.ledger.chain_id == chain_id]
            claims = survey(w3, owed)
            _print_claims(claims)
            ledgers = {market.ledger.contract for market in markets if market.ledger.chain_id == chain_id}
            refused = _pay(w3, claims, sorted(ledgers), config.provider_id, payer=payer, questions=questions)
        for claim in claims:
            settled = claim.standing is Standing.READY and claim.payable.job_id not in refused
            if settled or claim.standing is Standing.PAID:
                journal.note_paid(claim.payable)
        elsewhere = len([payable for payable in journal.owed() if payable.ledger.chain_id != chain_id])
    _explain(claims, refused, elsewhere)


def open_journal(config: NodeConfig) -> Payables:
    """Raises:
    NodeEnded: there is none, or it cannot be read.
    """
    with ends_as(ExitCode.JOURNAL):
        return Payables.open(config.state_dir / JOURNAL)


def rpc_of(config: NodeConfig) -> str:
    """The address of the chain's node.

    Raises:
        NodeEnded: none is named.
    """
    if config.rpc_url:
        return config.rpc_url
    missing = BadSettings(
        "No node of the chain is named.", effect="Nothing was asked or sent.", todo="Add --rpc, or set rpc_url."
    )
    raise NodeEnded(ExitCode.USAGE, missing)


def _pay(
    w3: Web3, claims: Sequence[Claim], ledgers: Sequence[str], provider: int, *, payer: GasPayer, questions: Questions
) -> dict[str, str]:
    """Settle what is ready and collect what is credited; job id -> why the contract refused it."""
    ready = [claim for claim in claims if claim.standing is Standing.READY]
    payees = [Ledger(w3, address) for address in ledgers]
    if not ready and not any(ledger.payee(provider).credit_usd_micros for ledger in payees):
        return {}
    with ends_as(ExitCode.KEY):
        sender = Sender(w3, open_key(payer.keystore, payer.password_file))
    questions.confirm(f"Settle {len(ready)} of them and collect, with {sender.address} paying for gas?")
    refused = {}
    for claim in ready:
        try:
            settle(sender, claim)
            typer.echo(f"Settled {claim.payable.job_id}.")
        except Conflict as err:
            refused[claim.payable.job_id] = err.what
    for ledger in payees:
        collected = collect(sender, ledger, provider)
        if collected:
            typer.echo(f"Collected {format_usd(collected)} USD; it is at {ledger.payee(provider).payout}.")
    return refused


def _print_claims(claims: Iterable[Claim]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("job", "total USD", "yours USD", "from", "until", "now"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        total, net = format_usd(claim.payable.total_usd_micros), format_usd(claim.net_usd_micros)
        until = _when(claim.deadline_s)
        table.add_row(claim.payable.job_id, total, net, _when(claim.from_s), until, _WORDS[claim.standing])
    if table.row_count:
        # A line a job where programs read it; as wide as the terminal is where people do.
        Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE).print(table)
    else:
        typer.echo("Nothing is owed: no accepted work of this node waits for payment.")


def _explain(claims: Iterable[Claim], refused: dict[str, str], elsewhere: int) -> None:
    """Why what is left was not settled, job by job, and whether somebody has to do something about it."""
    urgent = bool(refused)
    for claim in claims:
        job_id = claim.payable.job_id
        urgent |= claim.standing in (Standing.UNFUNDED, Standing.UNDERPAID)
        why = refused.get(job_id, _why_not(claim))
        if why:
            typer.echo(f"{job_id}: {why}")
    if elsewhere:
        typer.echo(f"{elsewhere} more are owed on another chain: run this again with --rpc naming a node of it.")
    if urgent:
        unpaid = Conflict("Some of what is owed was not paid.", todo="The lines above say why, and what to do.")
        raise NodeEnded(ExitCode.UNSETTLED, unpaid)


def _why_not(claim: Claim) -> str:
    until, total = _when(claim.deadline_s), format_usd(claim.payable.total_usd_micros)
    match claim.standing:
        case Standing.EARLY:
            return f"The coordinator has until {_when(claim.from_s)} to settle it; run this again after that."
        case Standing.UNFUNDED:
            return (
                f"The renter's account holds {format_usd(claim.balance_usd_micros)} of the {total} USD. Run this again "
                f"if it is filled; otherwise claim your part from the coordinator's bond with Cover.claimUnfunded. "
                f"Both end at {until}."
            )
        case Standing.UNDERPAID:
            return (
                f"Only {format_usd(claim.settled_usd_micros)} of the {total} USD were settled, and a nonce pays once. "
                f"If your part fell short, claim the difference from the coordinator's bond with Cover.claimUnderpaid."
            )
        case Standing.EXPIRED:
            return f"Its deadline passed at {until}: no contract pays it any more."
    return ""


def _when(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
