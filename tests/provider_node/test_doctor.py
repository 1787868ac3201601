"""What the doctor makes of what it sees."""

from pathlib import Path

import pytest

from gristmill_protocol.errors import MissingPart
from gristmill_provider import doctor
from gristmill_provider.config import Limits
from gristmill_provider.devices import Device
from gristmill_provider.doctor import Engine, Finding, KeyFiles, Level, Registration, Room
from gristmill_provider.owner import OtherChain

CARD = Device("NVIDIA GeForce RTX 4090", 24 * 2**30, "580.82.07", "GPU-1")
KEY = "0x" + "Ab" * 20


def level_and_remedy(finding: Finding) -> tuple[Level, str]:
    return finding.level, finding.todo


def test_a_card_that_is_there_is_named() -> None:
    found = doctor.card([CARD], wanted="", cpu=False)

    assert (found.level, found.what) == (Level.OK, "NVIDIA GeForce RTX 4090, 24 GiB, driver 580.82.07, GPU-1")


@pytest.mark.parametrize(
    ("cards", "wanted", "words"),
    [
        ([], "", "reports no card"),
        ([CARD], "GPU-2", "The card GPU-2 is not there. There are: GPU-1"),
        ([Device("H100", 2**36, "580", "GPU-1", mig=True)], "", "cut into MIG"),
        (MissingPart("The graphics driver does not answer: Driver/library version mismatch."), "", "mismatch"),
    ],
)
def test_a_card_that_cannot_be_offered_is_a_problem(cards: list[Device], wanted: str, words: str) -> None:
    found = doctor.card(cards, wanted=wanted, cpu=False)

    assert found.level is Level.PROBLEM
    assert words in found.what


def test_the_cpu_needs_no_card() -> None:
    assert doctor.card([], wanted="", cpu=True).level is Level.OK


def test_mig_is_switched_off_for_the_card_that_has_it() -> None:
    cut = Device("H100", 2**36, "580", "GPU-7", mig=True)

    assert doctor.card([cut], wanted="", cpu=False).todo == "sudo nvidia-smi -i GPU-7 -mig 0"


def test_an_old_docker_is_a_problem() -> None:
    old, new = Engine("19.03", (1, 40), Path("/"), cdi=False), Engine("20.10", (1, 41), Path("/"), cdi=False)

    assert (doctor.docker(old).level, doctor.docker(new).level) == (Level.PROBLEM, Level.OK)


def test_cdi_needs_a_description_of_the_cards() -> None:
    described = doctor.toolkit(None, engine_cdi=True, cdi_spec=True)
    missing = doctor.toolkit(None, engine_cdi=True, cdi_spec=False)

    assert described.level is Level.OK
    assert level_and_remedy(missing) == (Level.PROBLEM, "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")


@pytest.mark.parametrize(
    ("state_gib", "engine_gib", "keep_free_gib", "level"),
    [
        (100, 100, 1, Level.OK),
        (30, 100, 1, Level.WARNING),
        (30, 100, 25, Level.PROBLEM),
        (10, 100, 1, Level.PROBLEM),
        (100, 0.5, 1, Level.PROBLEM),
    ],
)
def test_room_is_held_against_the_limits(
    state_gib: float, engine_gib: float, keep_free_gib: float, level: Level
) -> None:
    rooms = [Room(Path("/state"), int(state_gib * 2**30)), Room(Path("/docker"), int(engine_gib * 2**30))]

    assert doctor.room(rooms, Limits(work_gib=10, cache_gib=40, keep_free_gib=keep_free_gib)).level is level


@pytest.mark.parametrize(
    ("behind_s", "level", "words"),
    [
        (2, Level.OK, "Agrees"),
        (-60, Level.WARNING, "60 s fast"),
        (7200, Level.PROBLEM, "7200 s slow"),
        (None, Level.WARNING, "nobody to compare"),
    ],
)
def test_the_clock_is_held_against_the_coordinators(behind_s: float | None, level: Level, words: str) -> None:
    found = doctor.clock(behind_s)

    assert found.level is level
    assert words in found.what


def test_files_of_the_key_that_others_may_read_are_closed_by_one_command() -> None:
    found = doctor.key(KeyFiles(KEY, (Path("/n/node-key.json"), Path("/n/password"))))

    assert level_and_remedy(found) == (Level.WARNING, "chmod 600 /n/node-key.json /n/password")


@pytest.mark.parametrize(
    ("registered", "level", "words"),
    [
        (Registration(7, KEY.lower(), 10_000_000, 10_000_000), Level.OK, "Provider 7, with a bond of 10.00 USD"),
        (Registration(7, KEY, 9_000_000, 10_000_000), Level.PROBLEM, "9.00 USD, and 10.00 USD is the least"),
        (Registration(7, "0x" + "00" * 20, 10_000_000, 10_000_000), Level.PROBLEM, "names the node key 0x00"),
    ],
)
def test_a_registration_is_this_keys_with_the_least_bond(registered: Registration, level: Level, words: str) -> None:
    found = doctor.registration(registered, node_key=KEY)

    assert found.level is level
    assert words in found.what


def test_a_coordinator_on_another_chain_than_ours_is_no_problem() -> None:
    elsewhere = doctor.registration(OtherChain("The node is on chain 1.", todo="Name another."), node_key=KEY)

    assert level_and_remedy(elsewhere) == (Level.WARNING, "Name another.")


def test_a_node_that_is_not_root_is_told_how_it_could_be() -> None:
    assert "gristmill-node service install --user root" in doctor.rights(root=False, can_make_volumes=True).todo


def test_working_below_the_price_of_electricity_is_told() -> None:
    levels = [doctor.price(ask_usd_micros=ask, power_usd_micros=135_000).level for ask in (100_000, 200_000)]

    assert levels == [Level.WARNING, Level.OK]
    assert doctor.price(ask_usd_micros=1, power_usd_micros=0).level is Level.WARNING


def test_only_problems_keep_a_machine_from_working() -> None:
    fine, odd = Finding("a", Level.OK, ""), Finding("b", Level.WARNING, "")

    assert doctor.fit([fine, odd])
    assert not doctor.fit([fine, Finding("c", Level.PROBLEM, "")])
