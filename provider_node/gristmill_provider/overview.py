"""Reading how this machine's nodes do: their journals, their cards and the market. It disturbs nothing that runs."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from gristmill_protocol.api import OfferView
from gristmill_protocol.errors import BadData, GristmillError, MissingPart, NotFound
from gristmill_protocol.jobs import TrainTask
from gristmill_provider import status
from gristmill_provider.config import NodeConfig
from gristmill_provider.devices import Card, Device, find_cpu, find_gpu
from gristmill_provider.history import History, Recorded
from gristmill_provider.introduction import Front
from gristmill_provider.journal import JOURNAL
from gristmill_provider.payables import Payables
from gristmill_provider.pricing import watts_at_work
from gristmill_provider.rules import electricity_usd_micros_per_hour
from gristmill_provider.status import Event, Moment, Status, Task

_ASK_AGAIN_S = 30
_STANDING = "standing"
_LOCKS = Path("/proc/locks")  # proc(5)


class Overview:
    """The nodes of one configuration; read() blocks for milliseconds, and for seconds while a coordinator is silent."""

    def __init__(self, config: NodeConfig) -> None:
        self._nodes = [_Node(one) for one in config.nodes()]

    def read(self) -> list[Status]:
        """How each does now."""
        return [node.read() for node in self._nodes]

    def close(self) -> None:
        for node in self._nodes:
            node.close()


class _Node:
    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._front = Front(config.coordinator_url, config.ca_file)
        self._asked_s = float("-inf")
        self._market: tuple[list[OfferView], int] | GristmillError = ([], 0)
        self._card: Card | None = None
        self._device: Device | None = None
        self._no_device = ""

    def close(self) -> None:
        if self._card is not None:
            self._card.close()

    def read(self) -> Status:
        config, now_s = self._config, time.time()
        self._look()
        day_s, week_s = status.starts(datetime.fromtimestamp(now_s, UTC).astimezone())
        watts = watts_at_work(self._device)
        running = _held(config)
        with closing(_Journal(config)) as journal:
            spans, happened = journal.history.spans(week_s), journal.history.incidents(since_s=week_s)
            tasks = tuple(journal.tasks()) if running else ()
            periods = tuple(
                status.period(
                    name,
                    spans,
                    from_s=from_s,
                    accepted=journal.payables.earned_usd_micros(from_s),
                    price=config.price,
                    watts=watts,
                )
                for name, from_s in (("Today", day_s), ("7 days", week_s))
            )
        standing, demand, trouble = self._at_the_market(now_s)
        return Status(
            name=config.name,
            device=self._device.name if self._device else "Graphics card",
            provider_id=config.provider_id,
            coordinator=config.coordinator_url,
            running=running,
            now=status.what_now(spans, running=running),
            tasks=tasks,
            moment=self._moment(),
            ask_usd_micros=config.ask_usd_micros_per_gpu_hour,
            power_usd_micros=electricity_usd_micros_per_hour(config.price, watts),
            periods=periods,
            idle=status.idle_hours(spans, day_s=day_s, week_s=week_s, now_s=now_s),
            lost=_events(happened, lost=True),
            events=_events(happened, lost=False),
            standing=standing,
            demand=demand,
            trouble=trouble,
        )

    def _look(self) -> None:
        if self._device is not None:
            return
        try:
            config = self._config
            self._device = find_cpu(config.limits.memory_bytes) if config.cpu else find_gpu(config.gpu)
            self._card = Card(self._device.uuid) if self._device.uuid else None
        except MissingPart as err:
            self._no_device = str(err)

    def _moment(self) -> Moment:
        if self._card is None:
            return Moment(trouble=self._no_device)
        try:
            reading = self._card.read()
        except GristmillError as err:
            return Moment(trouble=str(err))
        return Moment(reading.temperature_c, reading.power_w, reading.busy_percent, reading.memory_used_bytes)

    def _at_the_market(self, now_s: float) -> tuple[str, status.Demand | None, str]:
        """How the market sees this node, what is wanted there, and why that is not known."""
        if now_s - self._asked_s > _ASK_AGAIN_S:
            self._asked_s = now_s
            try:
                self._market = self._front.market(), self._front.waiting_jobs()
            except GristmillError as err:
                self._market = err
        if isinstance(self._market, GristmillError):
            return "", None, str(self._market)
        offers, waiting = self._market
        node_id = _node_id(self._config)
        mine = next((offer for offer in offers if offer.node_id == node_id), None)
        wanted = status.demand(
            offers,
            device=self._device.name if self._device else "",
            is_cpu=self._config.cpu,
            provider_id=self._config.provider_id,
            ask_usd_micros=self._config.ask_usd_micros_per_gpu_hour,
            waiting_jobs=waiting,
        )
        return (f"{mine.standing}: {mine.standing_text}" if mine else ""), wanted, ""


class _Journal:
    """A journal, for reading only.

    Raises:
        NotFound: there is none yet.
        BadData: it cannot be read.
    """

    def __init__(self, config: NodeConfig) -> None:
        path = config.state_dir / JOURNAL
        if not path.exists():
            raise NotFound(
                f"There is no journal at {path}.", effect="There is nothing to show.", todo="Start: gristmill-node up."
            )
        try:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._db.execute("SELECT 1 FROM earned, spans, incidents LIMIT 1")
        except sqlite3.Error as err:
            raise BadData(
                f"The journal at {path} cannot be read: {err}.",
                effect="There is nothing to show.",
                todo="Run this as the node's own account, and start the node once after an update.",
            ) from err
        self.history = History(self._db)
        self.payables = Payables(self._db)

    def close(self) -> None:
        self._db.close()

    def tasks(self) -> Iterator[Task]:
        """The work at hand."""
        at_hand = self._db.execute("SELECT work_id, kind FROM work WHERE ended_s IS NULL ORDER BY rowid").fetchall()
        for work_id, kind in at_hand:
            if kind == "audit":
                yield Task("check", work_id)
                continue
            done = self._db.execute(
                "SELECT count(*) FROM made WHERE work_id = ? AND name LIKE 'segment %'", (work_id,)
            ).fetchone()[0]
            row = self._db.execute("SELECT task FROM tasks WHERE attempt_id = ?", (work_id,)).fetchone()
            yield Task("job", work_id, done, _segments(row[0]) if row else 0)


def _segments(task_json: str) -> int:
    task = TrainTask.model_validate_json(task_json)
    return -(-(task.steps - task.step_from) // task.segment_steps)


def _events(happened: list[Recorded], *, lost: bool) -> tuple[Event, ...]:
    """Newest first; what happened to several pieces of work at once is told once."""
    told = {(one.at_s, one.kind, one.text): None for one in happened if (one.kind == _STANDING) is lost}
    return tuple(Event(*one) for one in reversed(told))


def _held(config: NodeConfig) -> bool:
    """Whether a node runs from this folder. To try its lock could keep one from starting, so the kernel is asked."""
    try:
        inode = str((config.state_dir / JOURNAL).with_suffix(".lock").stat().st_ino)
        locks = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:
        return False
    return any(lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == inode for lock in locks)


def _node_id(config: NodeConfig) -> str:
    with suppress(OSError):
        return (config.state_dir / "node_id").read_text()
    return ""
