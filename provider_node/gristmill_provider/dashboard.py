"""`gristmill-node top`: how this machine's nodes do, in the terminal."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gristmill_protocol.money import format_usd
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.overview import Overview
from gristmill_provider.status import Event, Moment, Period, Status, Task, in_hours

_EVERY_S = 2.0
_WIDE = 100  # where it is not a terminal


def show_top(config: NodeConfig, *, once: bool, as_json: bool) -> None:
    """Show how the nodes do: until Ctrl-C in a terminal, else once.

    Raises:
        NodeEnded: there is no journal to read.
    """
    with closing(Overview(config)) as overview, ends_as(ExitCode.JOURNAL):
        if as_json:
            nodes = [asdict(one) | {"net_usd_micros": _net(one)} for one in overview.read()]
            sys.stdout.write(json.dumps(nodes) + "\n")
            return
        if once or not sys.stdout.isatty():
            Console(width=None if sys.stdout.isatty() else _WIDE).print(frame(overview.read()))
            return
        with Live(frame(overview.read()), screen=True, auto_refresh=False) as live:
            try:
                while True:
                    time.sleep(_EVERY_S)
                    live.update(frame(overview.read()), refresh=True)
            except KeyboardInterrupt:
                return


def frame(nodes: Sequence[Status]) -> RenderableType:
    """Everything, once."""
    return Group(*(part for node in nodes for part in _node(node)))


def device_words(moment: Moment) -> list[str]:
    """What the card says, value by value."""
    known = (
        (moment.temperature_c, "{} °C"),
        (moment.power_w, "{:.0f} W"),
        (moment.busy_percent, "{} % busy"),
    )
    words = [form.format(value) for value, form in known if value is not None]
    if moment.memory_used_bytes is not None:
        words.append(f"{moment.memory_used_bytes / 2**30:.1f} GiB used")
    return words


def task_words(task: Task) -> str:
    """A task as a sentence."""
    if task.kind == "check":
        return f"Checking others' work ({task.work_id})"
    of = f" of {task.segments}" if task.segments else ""
    return f"A job: {task.segments_done}{of} segments signed ({task.work_id})"


def demand_lines(node: Status) -> Iterator[str]:
    """What the market wants of such devices."""
    wanted = node.demand
    if wanted is None:
        yield node.trouble
        return
    yield f"{wanted.busy} of {wanted.slots} {wanted.device} at work; {_jobs(wanted.waiting_jobs)} for a machine."
    if wanted.asks_usd_micros is None:
        yield "Nobody else offers one."
        return
    low, middle, high = map(format_usd, wanted.asks_usd_micros)
    if wanted.others == 1:
        yield f"One other asks {low} USD an hour, which is {'less' if wanted.cheaper else 'no less'} than you."
        return
    yield f"Others ask {low} to {high} USD an hour, {middle} in the middle."
    yield f"{wanted.cheaper} of {wanted.others} ask less than you."


def when(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%a %d %b %H:%M}"


def _net(node: Status) -> dict[str, int]:
    return {one.name: one.net_usd_micros for one in node.periods}


def _node(node: Status) -> Iterator[RenderableType]:
    light = Text("● ", style="green" if node.tasks else "yellow" if node.running else "red")
    yield Text.assemble(light, (node.name, "bold"), f"   {node.device}   provider {node.provider_id}", style="default")
    yield _inset(Text(" · ".join([node.coordinator, *device_words(node.moment)]), style="dim"))
    for line in [*map(task_words, node.tasks)] or [node.now]:
        yield _inset(Text(line))
    if node.moment.trouble:
        yield _inset(Text(node.moment.trouble, style="red"))
    yield _inset(_earnings(node.periods))
    yield _inset(
        Text(
            f"You ask {format_usd(node.ask_usd_micros)} USD an hour; "
            f"electricity costs {format_usd(node.power_usd_micros)} at work.",
            style="dim",
        )
    )
    yield _titled("Demand")
    for line in demand_lines(node):
        yield _inset(Text(line))
    if node.standing:
        yield _inset(Text(f"Your offer is {node.standing}"))
    yield _titled("Hours that earned nothing")
    yield _inset(_idle(node))
    for title, events in (("Lost standing", node.lost), ("What went wrong", node.events)):
        if events:
            yield _titled(title)
            yield _inset(_events(events))
    yield Text()


def _earnings(periods: Sequence[Period]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for column in ("accepted, USD", "electricity", "net", "at work"):
        table.add_column(column, justify="right")
    for one in periods:
        style = "green" if one.net_usd_micros > 0 else ""
        table.add_row(
            one.name,
            format_usd(one.accepted_usd_micros),
            format_usd(one.electricity_usd_micros),
            Text(format_usd(one.net_usd_micros), style=style),
            in_hours(one.worked_s),
        )
    return table


def _idle(node: Status) -> RenderableType:
    if not node.idle:
        return Text("None.")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("why", overflow="fold")
    table.add_column("today", justify="right", no_wrap=True)
    table.add_column("7 days", justify="right", no_wrap=True)
    for row in node.idle:
        table.add_row(row.reason, in_hours(row.today_s), in_hours(row.week_s))
    return table


def _events(events: Sequence[Event]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in events[:8]:
        table.add_row(when(one.at_s), one.text)
    return table


def _titled(title: str) -> Text:
    return Text(f"\n  {title}", style="bold")


def _inset(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2))


def _jobs(count: int) -> str:
    return "no job waits" if count == 0 else "1 job waits" if count == 1 else f"{count} jobs wait"
