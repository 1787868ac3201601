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
from gristmill_provider.journal import worked
from gristmill_provider.keys import open_key
from gristmill_provider.payday import GasPayer, open_journal, rpc_of
from gristmill_provider.pleading import court
from gristmill_provider.questions import Questions

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
        typer.echo(f"Dispute {one.opened.dispute_id} in {one.opened.disputes}: {one.opened.reason} {one.note}".rstrip())


def speak(
    settings: NodeConfig,
    dispute: int,
    plea: Literal["answer", "concede"],
    *,
    contract: str | None,
    payer: GasPayer,
    questions: Questions,
) -> None:
    """Answer or concede a dispute, as the key that the provider is paid at.

    Args:
        contract: that the dispute is in; None: the only one that has such a number.
    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    config, accusation = _find(settings, dispute, contract)
    if plea == "answer":
        _require_re_run(accusation)
    amount = format_usd(accusation.opened.amount_usd_micros)
    question = f"{plea.capitalize()} dispute {dispute} at {config.coordinator}, over {amount} USD of the bond?"
    with closing(open_journal(config)) as journal:
        with ends_as(ExitCode.CHAIN), chain_of(journal.markets(), rpc_of(config)) as w3:
            with ends_as(ExitCode.KEY):
                key = open_key(payer.keystore, payer.password_file)
            at = court(config, w3, key, accusation.opened)
            at.require_turn()
            questions.confirm(question)
            if plea == "answer":
                at.answer(accusation.evidence)
            else:
                at.concede()
        pleaded: Plea = "answered" if plea == "answer" else "conceded"
        fresh = Accusation(accusation.opened, accusation.finding, accusation.steps, pleaded)
        Accusations(journal.db).write(fresh)
    done = "answered; referees will be drawn" if plea == "answer" else "conceded"
    typer.echo(f"Dispute {dispute} at {config.coordinator} is {done}.")


def serve_as_referee(config: NodeConfig, *, enlist: bool, payer: GasPayer, questions: Questions) -> None:
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
        questions.confirm(f"{'Become' if enlist else 'Stop being'} a referee as provider {config.provider_id}?")
        chain_id = w3.eth.chain_id
        for address in sorted({one.registry.contract for one in markets if one.registry.chain_id == chain_id}):
            registry = Registry(w3, address)
            sender.run((registry.enlist if enlist else registry.resign)(config.provider_id))
    typer.echo("This provider may be drawn to judge disputes." if enlist else "This provider judges no disputes.")


def _require_re_run(accusation: Accusation) -> None:
    if not accusation.steps:
        raise BadRequest(
            "This node has not run the segment again, so there is nothing to answer with.",
            effect="Nothing was sent.",
            todo="Let the node run; it runs it as soon as it has a free slot.",
        )


def _find(settings: NodeConfig, dispute: int, contract: str | None) -> tuple[NodeConfig, Accusation]:
    """The accusation under a number, and the node that is accused; numbers are each contract's own.

    Raises:
        NotFound: there is none.
        BadRequest: there are several.
    """
    found = list[tuple[NodeConfig, Accusation]]()
    for node in worked(settings):
        with closing(open_journal(node)) as journal:
            found += [(node, one) for one in Accusations(journal.db).all() if one.opened.dispute_id == dispute]
    places = {one.opened.disputes.lower(): f"{one.opened.disputes} (at {node.coordinator})" for node, one in found}
    if contract is not None:
        found = [(node, one) for node, one in found if one.opened.disputes.lower() == contract.lower()]
    elif len(places) > 1:
        raise BadRequest(
            f"Several contracts have a dispute {dispute}: {', '.join(places.values())}.",
            effect="Nothing was sent.",
            todo="Add --contract ADDRESS.",
        )
    if not found:
        raise NotFound(f"This node knows of no dispute {dispute}.", todo="gristmill-node disputes lists them.")
    return max(found, key=lambda pair: len(pair[1].steps))  # where several cards heard of it: who ran it again
