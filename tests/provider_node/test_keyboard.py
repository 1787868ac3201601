"""Whether somebody is at the machine. The devices are pipes, since machines that test have no keyboard."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill_provider.keyboard import Keyboard

EVENT = b"\0" * 24  # linux/input.h: struct input_event

# The kernel's lists of keys, as such devices show them in sysfs.
KEYS = "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe"
MOUSE = "1f0000 0 0 0 0"
TOUCHPAD = "e520 10000 0 0 0 0"
GAMEPAD = "7cdb000000000000 0 0 0 0"
POWER_BUTTON = "10000000000000 0"
LID = "0"


class Inputs:
    """What is plugged in: a folder of devices, and what the kernel says of each."""

    def __init__(self, folder: Path) -> None:
        self.devices, self.about = folder / "dev", folder / "sys"
        self.devices.mkdir()
        self.about.mkdir()

    def plug_in(self, name: str, keys: str) -> int:
        folder = self.about / name / "device" / "capabilities"
        folder.mkdir(parents=True)
        (folder / "key").write_text(f"{keys}\n")
        os.mkfifo(self.devices / name)
        return os.open(self.devices / name, os.O_RDWR)

    def unplug(self, name: str) -> None:
        (self.about / name).rename(self.about / "gone")
        (self.devices / name).unlink()

    def keyboard(self, loginctl: str = "/none") -> Keyboard:
        return Keyboard(self.devices, self.about, loginctl)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path)


@pytest.fixture
def keyboard(inputs: Inputs) -> Iterator[Keyboard]:
    watched = inputs.keyboard()
    yield watched
    watched.close()


def logind(folder: Path, answer: str) -> str:
    program = folder / "loginctl"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    return str(program)


def test_input_is_seen_when_it_comes(keyboard: Keyboard, inputs: Inputs) -> None:
    keys, mouse = inputs.plug_in("event0", KEYS), inputs.plug_in("event1", MOUSE)
    keyboard.last_input_s(900)

    os.write(keys, EVENT * 300)
    assert keyboard.last_input_s(1_010) == 1_010
    assert keyboard.last_input_s(1_020) == 1_010

    os.write(mouse, EVENT)
    assert keyboard.last_input_s(1_030) == 1_030
    for descriptor in (keys, mouse):
        os.close(descriptor)


def test_whoever_was_there_before_we_watched_counts_as_there(keyboard: Keyboard, inputs: Inputs) -> None:
    keys = inputs.plug_in("event0", KEYS)

    assert keyboard.last_input_s(1_000) == 1_000
    assert keyboard.last_input_s(1_010) == 1_000
    os.close(keys)


@pytest.mark.parametrize("capable", [KEYS, MOUSE, TOUCHPAD, GAMEPAD])
def test_what_people_touch_is_told_by_its_keys(keyboard: Keyboard, inputs: Inputs, capable: str) -> None:
    touched = inputs.plug_in("event7", capable)

    assert keyboard.last_input_s(1_000) == 1_000
    os.close(touched)


def test_plugging_in_is_input_and_devices_go(keyboard: Keyboard, inputs: Inputs) -> None:
    mouse = inputs.plug_in("event1", MOUSE)
    assert keyboard.last_input_s(1_000) == 1_000
    keys = inputs.plug_in("event0", KEYS)  # a wireless one is there again with the first key
    assert keyboard.last_input_s(1_005) == 1_005

    inputs.unplug("event0")
    os.write(keys, EVENT)
    assert keyboard.last_input_s(1_020) == 1_005
    for descriptor in (keys, mouse):
        os.close(descriptor)


@pytest.mark.parametrize("capable", [POWER_BUTTON, LID])
def test_other_devices_are_nobody(keyboard: Keyboard, inputs: Inputs, capable: str) -> None:
    other = inputs.plug_in("event3", capable)
    os.write(other, EVENT)

    assert keyboard.last_input_s(1_000) is None
    os.close(other)


def test_a_device_that_cannot_be_opened_leaves_it_to_logind(inputs: Inputs, tmp_path: Path) -> None:
    mouse = inputs.plug_in("event1", MOUSE)
    os.close(inputs.plug_in("event0", KEYS))
    (inputs.devices / "event0").unlink()
    keyboard = inputs.keyboard(logind(tmp_path, "echo IdleHint=yes; echo IdleSinceHint=900000000"))

    assert keyboard.last_input_s(1_000) == 900
    keyboard.close()
    os.close(mouse)


def test_logind_is_asked_where_no_device_is_there(inputs: Inputs, tmp_path: Path) -> None:
    idle = inputs.keyboard(logind(tmp_path, "echo IdleHint=yes; echo IdleSinceHint=900000000"))
    assert idle.last_input_s(1_000) == 900

    busy = inputs.keyboard(logind(tmp_path, "echo IdleHint=no; echo IdleSinceHint=0"))
    assert busy.last_input_s(1_000) == 1_000


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense", "echo IdleHint=yes"])
def test_what_nobody_can_tell_is_not_made_up(answer: str, inputs: Inputs, tmp_path: Path) -> None:
    keyboard = inputs.keyboard(logind(tmp_path, answer))

    assert keyboard.last_input_s(1_000) is None
    assert "the group input may" in keyboard.unknown
