"""A station over the driver's stand-in: what the owner and the card do decides, and the nodes hear of it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill_protocol.incidents import Incident
from gristmill_protocol.progress import Probed
from gristmill_provider import switch
from gristmill_provider.config import NodeConfig
from gristmill_provider.devices import Card, find_gpu
from gristmill_provider.lookout import Lookout
from gristmill_provider.rules import Cause, Rules
from gristmill_provider.station import Station


class Seller:
    """A node of the station, as far as the station knows."""

    def __init__(self, station: Station) -> None:
        self.taken = 0
        self.verdicts: list[bool] = []
        self.incidents: list[Incident] = []
        self._station = station
        station.join(self)

    def judged(self) -> None:
        self.verdicts.append(self._station.verdict.works)

    def happened(self, incident: Incident) -> None:
        self.incidents.append(incident)

    def account(self) -> None:
        """What it is at is the node's own business."""


@pytest.fixture
def open_station(cards: Any, config: NodeConfig) -> Callable[..., Station]:
    config.state_dir.mkdir()

    def make(**rules: Any) -> Station:
        lookout = Lookout(Card(cards.UUIDS[0]), config.state_dir, ours=lambda: frozenset({os.getpid()}))
        return Station(find_gpu(), lookout, config=config.model_copy(update={"owner": Rules(**rules)}))

    return make


def limit_w(cards: Any) -> float | None:
    card = Card(cards.UUIDS[0])
    try:
        return card.read().power_limit_w
    finally:
        card.close()


async def test_work_may_run_on_a_card_that_nobody_uses(open_station: Any) -> None:
    station = open_station()
    seller = Seller(station)

    assert not station.verdict.works
    await station.look()

    assert station.verdict.works
    assert seller.verdicts == [True]


async def test_a_foreign_process_on_the_card_comes_first(open_station: Any, cards: Any, stranger: int) -> None:
    station = open_station()
    seller = Seller(station)
    await station.look()

    cards.set(PROCS=f"{stranger}:900:G")
    await station.look()
    assert station.verdict.cause is Cause.CARD_USED
    assert station.verdict.reason == f"sleep (process {stranger}) uses the card."

    cards.set(PROCS="")
    await station.look()
    assert seller.verdicts == [True, False, True]


@pytest.mark.parametrize(
    ("processes", "rules"),
    [
        ("{ours}:900:C", {}),
        ("{stranger}:200:G", {}),
        ("{stranger}:900:G", {"ignored_programs": ["sleep"]}),
        ("{stranger}:900:C", {"yield_to_card_use": False}),
        ("999999999:900:C", {}),  # it has ended meanwhile
    ],
)
async def test_what_does_not_count_as_use_of_the_card(
    processes: str, rules: dict[str, Any], open_station: Any, cards: Any, stranger: int
) -> None:
    station = open_station(**rules)
    cards.set(PROCS=processes.format(ours=os.getpid(), stranger=stranger))

    await station.look()

    assert station.verdict.works


async def test_a_listed_program_comes_first(open_station: Any, stranger: int) -> None:
    station = open_station(yield_to_programs=["blender", "Sleep"])

    await station.look()

    assert (station.verdict.cause, station.verdict.reason) == (Cause.PROGRAM, "Sleep runs.")
    assert stranger


async def test_an_overheated_card_rests_and_goes_on(open_station: Any, cards: Any) -> None:
    station = open_station(max_temperature_c=80)
    verdicts = []

    for temperature_c in (80, 81, 75, 70, 80):
        cards.set(TEMP=temperature_c)
        await station.look()
        verdicts.append(station.verdict.works)

    assert verdicts == [True, False, False, True, True]


async def test_a_lost_card_is_told_to_the_nodes_once_and_found_again(open_station: Any, cards: Any) -> None:
    station = open_station()
    seller = Seller(station)
    await station.look()

    cards.set(LOST=1)
    await station.look()
    await station.look()
    assert station.verdict.cause is Cause.CARD_LOST
    assert "GPU is lost" in station.verdict.told

    cards.set(LOST=0)
    await station.look()
    assert station.verdict.works
    assert [incident.kind for incident in seller.incidents] == ["card_lost", "card_back"]


@pytest.mark.parametrize(("code", "words"), [(9, "modprobe nvidia"), (18, "restart the machine")])
async def test_a_driver_that_goes_away_ends_work(code: int, words: str, open_station: Any, cards: Any) -> None:
    station = open_station()
    await station.look()

    cards.set(None, INIT=code)
    cards.set(LOST=1)  # what an open driver says before it is opened anew
    await station.look()
    await station.look()

    assert station.verdict.cause is Cause.CARD_LOST
    assert words in station.verdict.reason


async def test_what_the_driver_reports_is_told_to_the_nodes(open_station: Any, cards: Any) -> None:
    station = open_station()
    seller = Seller(station)
    cards.set(ECC=0)
    await station.look()

    cards.set(XIDS="79", ECC=2, THROTTLE="0x24")
    await station.look()
    await station.look()

    assert [(incident.kind, incident.text) for incident in seller.incidents] == [
        ("xid", "The graphics driver reported error Xid 79: the card fell off the bus, usually the fault of the card,"
                " its power or its slot."),
        ("ecc", "Memory of the card was wrong 2 times and could not be corrected, usually the fault of the card."),
        ("throttled", "The card was slowed down by its temperature."),
    ]  # fmt: skip


async def test_the_power_limit_is_the_owners_while_work_runs(open_station: Any, cards: Any, config: NodeConfig) -> None:
    station = open_station(max_power_w=300)

    await station.look()
    assert (station.verdict.works, limit_w(cards)) == (True, 300)

    switch.pause(config.state_dir)
    await station.look()
    assert (station.verdict.works, limit_w(cards)) == (False, 450)
    assert list(config.state_dir.glob("power*")) == []


async def test_work_that_still_leaves_keeps_to_the_power_limit(
    open_station: Any, cards: Any, config: NodeConfig
) -> None:
    station = open_station(max_power_w=300)
    seller = Seller(station)
    await station.look()
    seller.taken = 1

    switch.pause(config.state_dir)
    await station.look()
    assert limit_w(cards) == 300

    seller.taken = 0
    await station.look()
    assert limit_w(cards) == 450


async def test_a_power_limit_that_cannot_be_set_forbids_work(open_station: Any, cards: Any) -> None:
    cards.set(LOCKED=1)
    station = open_station(max_power_w=300)

    await station.look()

    assert station.verdict.cause is Cause.POWER
    assert "may draw 450 W, you allow 300 W" in station.verdict.reason


async def test_the_power_limit_is_given_back_by_the_next_life_of_a_node_that_was_killed(
    open_station: Any, cards: Any, config: NodeConfig
) -> None:
    await open_station(max_power_w=300).look()  # and never closed
    again = open_station(max_power_w=300)
    await again.look()
    assert limit_w(cards) == 300

    switch.pause(config.state_dir)
    await again.look()

    assert limit_w(cards) == 450


async def test_a_pause_holds_until_it_is_ended(open_station: Any, config: NodeConfig) -> None:
    station = open_station()
    switch.pause(config.state_dir)
    await station.look()
    assert station.verdict.cause is Cause.PAUSED

    assert switch.resume(config.state_dir)
    await station.look()
    assert station.verdict.works
    assert not switch.resume(config.state_dir)


@pytest.mark.parametrize("broken", ["", "{}", '{"until_s": "soon"}', "[]"])
def test_a_broken_switch_pauses(broken: str, tmp_path: Path) -> None:
    switch.pause(tmp_path)
    [file] = tmp_path.iterdir()
    file.write_text(broken)

    assert switch.paused_until_s(tmp_path) == float("inf")


async def test_a_slot_is_sold_once(open_station: Any) -> None:
    station = open_station()
    first, second = Seller(station), Seller(station)
    await station.look()

    first.taken = 1

    assert not station.has_room
    assert (station.full_for(first), station.full_for(second)) == (False, True)


async def test_a_machine_is_measured_once_and_only_while_work_may_run(open_station: Any, config: NodeConfig) -> None:
    station, begun = open_station(), asyncio.Queue[bool]()
    done = asyncio.Event()

    async def measure() -> Probed:
        begun.put_nowait(station.verdict.works)
        await done.wait()
        return Probed(event="probed", numeric_class="00" * 32, flops_per_s=1)

    measured = asyncio.create_task(station.measured(measure))
    await station.look()
    assert await begun.get()

    switch.pause(config.state_dir)
    await station.look()
    switch.resume(config.state_dir)
    await station.look()
    assert await begun.get()

    done.set()
    assert await station.measured(measure) is await measured
    assert begun.empty()
