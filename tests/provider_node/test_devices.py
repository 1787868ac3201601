"""Against a driver library of our own (nvml_stub.c), since machines that test have no card."""

from typing import Any

import pytest

from gristmill_protocol.errors import MissingPart, NotAllowed, Unavailable
from gristmill_provider.devices import Card, CardProcess, Device, find_cpu, find_gpu, find_gpus

MIB = 1024**2


@pytest.fixture
def card(cards: Any) -> Any:
    watched = Card(cards.UUIDS[0])
    yield watched
    watched.close()


def test_a_card_is_described_as_its_driver_reports_it(cards: Any) -> None:
    cards.set(NVLINKS=4, ECC=0)

    assert find_gpu(cards.UUIDS[0]) == Device(
        name="NVIDIA GeForce RTX 4090",
        memory_bytes=24564 * MIB,
        driver="580.82.07",
        uuid=cards.UUIDS[0],
        cuda="13.0",
        capability=(8, 9),
        mig=False,
        nvlinks=4,
        pcie=(4, 16),
        power_limits_w=(150, 600),
        ecc=True,
    )


def test_what_a_card_does_not_know_is_left_out(cards: Any) -> None:
    found = find_gpu()

    assert (found.ecc, found.mig, found.nvlinks) == (None, False, 0)


def test_each_of_two_cards_is_found_by_its_name(cards: Any) -> None:
    cards.set(None, COUNT=2)
    cards.set(1, NAME="NVIDIA H100 80GB HBM3")

    assert [found.uuid for found in find_gpus()] == list(cards.UUIDS)
    assert find_gpu(cards.UUIDS[1]).name == "NVIDIA H100 80GB HBM3"
    assert find_gpu().uuid == cards.UUIDS[0]


def test_a_lost_card_does_not_hide_the_other(cards: Any) -> None:
    cards.set(None, COUNT=2)
    cards.set(0, LOST=1)

    assert [found.uuid for found in find_gpus()] == [cards.UUIDS[1]]


@pytest.mark.parametrize(
    ("driver", "words", "todo"),
    [
        ({"COUNT": 0}, "reports no card", "Install the NVIDIA driver"),
        ({"INIT": 9}, "Driver Not Loaded", "modprobe nvidia"),
        ({"INIT": 12}, "Library Not Found", "Install the NVIDIA driver"),
        ({"INIT": 18}, "version mismatch", "restart the machine"),
        ({"0.MIG": 1}, "cut into MIG instances", "-mig 0"),
    ],
)
def test_why_there_is_no_card_is_said_with_its_remedy(
    driver: dict[str, int], words: str, todo: str, cards: Any
) -> None:
    cards.set(None, **driver)

    with pytest.raises(MissingPart) as missing:
        find_gpu()

    assert words in missing.value.what
    assert missing.value.effect == "The node offers nothing."
    assert todo in missing.value.todo


def test_another_card_than_there_is_names_those_there_are(cards: Any) -> None:
    with pytest.raises(MissingPart, match=f"no graphics card GPU-other.*{cards.UUIDS[0]}"):
        find_gpu("GPU-other")


def test_a_reading_says_how_the_card_is_now(card: Card, cards: Any) -> None:
    cards.set(TEMP=83, UTIL=99, POWER_W=431, USED_MIB=900, PROCS="4242:800:C,77:100:G", THROTTLE="0x25", ECC=2)

    now = card.read()

    assert (now.temperature_c, now.busy_percent, now.power_w, now.power_limit_w) == (83, 99, 431, 450)
    assert now.memory_used_bytes == 900 * MIB
    assert now.processes == (CardProcess(4242, 800 * MIB, False), CardProcess(77, 100 * MIB, True))
    assert now.throttled == ("its power limit", "its temperature")
    assert now.ecc_errors == 2


def test_an_error_that_the_driver_reports_is_told_once(card: Card, cards: Any) -> None:
    assert card.read().xids == ()

    cards.set(XIDS="13,79")

    assert [card.read().xids, card.read().xids] == [(13, 79), ()]


def test_a_card_that_was_lost_is_found_again(card: Card, cards: Any) -> None:
    card.read()
    cards.set(LOST=1)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"GPU is lost.*No work runs"):
            card.read()

    cards.set(LOST=0, TEMP=50)

    assert card.read().temperature_c == 50


def test_a_power_limit_is_set(card: Card) -> None:
    card.set_power_limit(300)

    assert card.read().power_limit_w == 300


def test_a_power_limit_that_may_not_be_set_is_explained(card: Card, cards: Any) -> None:
    cards.set(LOCKED=1)

    with pytest.raises(NotAllowed, match=r"cannot be set to 300 W: Insufficient Permissions.*as root"):
        card.set_power_limit(300)


def test_the_cpu_is_no_larger_than_an_attempt_may_be() -> None:
    device = find_cpu(1024**2)

    assert (device.name, device.memory_bytes, device.uuid, device.is_cpu) == ("CPU", 1024**2, None, True)
