"""`gristmill-node evidence`: what went wrong with the machine, during which work, and why it earned nothing."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.history import History, Recorded, Span
from gristmill_provider.journal import JOURNAL, worked

_WIDE = 200


def show_evidence(config: NodeConfig, *, days: float, as_json: bool) -> None:
    """Print what the journals of the last days hold.

    Raises:
        NodeEnded: the first node has no journal yet.
    """
    since_s = time.time() - days * 86_400
    incidents, spans = list[Recorded](), list[Span]()
    for one in worked(config):
        with ends_as(ExitCode.JOURNAL), closing(History.open(one.state_dir / JOURNAL)) as history:
            incidents += history.incidents(since_s=since_s)
            spans += history.spans(since_s)
    incidents.sort(key=lambda incident: incident.at_s)
    if as_json:
        shown = {
            "incidents": [incident.model_dump() for incident in incidents],
            "spans": [vars(span) for span in spans],
        }
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(_table_of_incidents(incidents) if incidents else "Nothing went wrong.")
    console.print(_table_of_spans(list(_summed(spans))))


def _table_of_incidents(incidents: list[Recorded]) -> Table:
    table = Table("when", "during", "what happened", title="Incidents", title_justify="left")
    for one in incidents:
        table.add_row(
            f"{datetime.fromtimestamp(one.at_s).astimezone():%Y-%m-%d %H:%M:%S}", one.work_id or "-", one.text
        )
    return table


def _table_of_spans(summed: list[tuple[str, float]]) -> Table:
    table = Table("how long", "what the device was at", title="Time", title_justify="left")
    for reason, seconds in summed:
        table.add_row(str(timedelta(seconds=round(seconds))), reason)
    return table


def _summed(spans: list[Span]) -> Iterator[tuple[str, float]]:
    """Every reason with the time that it took, the longest first."""
    total: dict[str, float] = {}
    for span in spans:
        what = span.reason or span.cause
        total[what] = total.get(what, 0) + span.to_s - span.from_s
    yield from sorted(total.items(), key=lambda one: -one[1])
