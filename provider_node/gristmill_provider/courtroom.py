"""`gristmill-node disputes`, `enlist`, `resign`: an owner's own word in disputes of its work, and of others'."""

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Literal

import typer
from rich.console import Console
from rich.table import Table

from gristmill_contracts.node import Sender
from gristmill_contracts.registry import Registry
from gristmill_protocol.errors import BadRequest, NotFound
from gristmill_protocol.money import format_usd
from gristmill_provider.accusations import Accusation, Accusations, Plea
from gristmill_provider.config import NodeConfig
from gristmill_provider.direct import chain_of
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.keys import open_key
from gristmill_provider.payday import GasPayer, open_journal, require_yes, rpc_of
from gristmill_provider.pleading import court

_WIDE = 200


def list_disputes(config: NodeConfig) -> None:
    """Print every dispute that the node has heard of, and what is to be done about it."""
    with closing(open_journal(config)) as journal:
        found = Accusations(journal.db).all()
    if not found:
        typer.echo("Nobody has challenged the work of this node.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("dispute", "at stake USD", "answer by", "segment", "its re-run says", "said"):
        table.add_column(column, overflow="fold")
    for one in found:
        opened = one.opened
        until = datetime.fromtimestamp(opened.answer_by_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        segment = f"{opened.segment} of {opened.attempt_id}"
        words = {"wrong": "its work was wrong", "right": "its work was right"}.get(one.finding, "nothing yet")
        amount = format_usd(opened.amount_usd_micros)
        table.add_row(str(opened.dispute_id), amount, until, segment, words, one.pleaded or "nothing yet")
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE).print(table)
    for one in found:
        typer.echo(f"Dispute {one.opened.dispute_id}: {one.opened.reason} {one.note}".rstrip())


def knows_dispute(config: NodeConfig, dispute: int) -> bool:
    with closing(open_journal(config)) as journal:
        return any(one.opened.dispute_id == dispute for one in Accusations(journal.db).all())


def speak(config: NodeConfig, dispute: int, plea: Literal["answer", "concede"], *, payer: GasPayer, yes: bool) -> None:
    """Answer or concede a dispute, as the key that the provider is paid at.

    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    with closing(open_journal(config)) as journal:
        rows, markets = Accusations(journal.db), journal.markets()
        accusation = _find(rows, dispute)
        if plea == "answer" and not accusation.steps:
            raise BadRequest(
                "This node has not run the segment again, so there is nothing to answer with.",
                effect="Nothing was sent.",
                todo="Let the node run; it runs it as soon as it has a free slot.",
            )
        amount = format_usd(accusation.opened.amount_usd_micros)
        question = f"{plea.capitalize()} dispute {dispute}, over {amount} USD of the bond?"
        with ends_as(ExitCode.CHAIN), chain_of(markets, rpc_of(config)) as w3:
            with ends_as(ExitCode.KEY):
                key = open_key(payer.keystore, payer.password_file)
            at = court(config, w3, key, accusation.opened)
            at.require_turn()
            require_yes(question, yes=yes)
            if plea == "answer":
                at.answer(accusation.evidence)
            else:
                at.concede()
        _note(rows, accusation, "answered" if plea == "answer" else "conceded")
    typer.echo(f"Dispute {dispute} is {'answered; referees will be drawn' if plea == 'answer' else 'conceded'}.")


def serve_as_referee(config: NodeConfig, *, enlist: bool, payer: GasPayer, yes: bool) -> None:
    """Take a referee's seat in the Registry, or leave it.

    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    with closing(open_journal(config)) as journal:
        markets = journal.markets()
    if not markets:
        raise BadRequest("This node has met no coordinator yet.", effect="Nothing was sent.", todo="Let it run once.")
    with ends_as(ExitCode.CHAIN), chain_of(markets, rpc_of(config)) as w3:
        with ends_as(ExitCode.KEY):
            sender = Sender(w3, open_key(payer.keystore, payer.password_file))
        question = f"{'Become' if enlist else 'Stop being'} a referee as provider {config.provider_id}?"
        require_yes(question, yes=yes)
        chain_id = w3.eth.chain_id
        for address in sorted({one.registry.contract for one in markets if one.registry.chain_id == chain_id}):
            registry = Registry(w3, address)
            sender.run((registry.enlist if enlist else registry.resign)(config.provider_id))
    typer.echo("This provider may be drawn to judge disputes." if enlist else "This provider judges no disputes.")


def _find(rows: Accusations, dispute: int) -> Accusation:
    for one in rows.all():
        if one.opened.dispute_id == dispute:
            return one
    raise NotFound(f"This node knows of no dispute {dispute}.", todo="gristmill-node disputes lists them.")


def _note(rows: Accusations, accusation: Accusation, plea: Plea) -> None:
    rows.write(Accusation(accusation.opened, accusation.finding, accusation.steps, plea))
