"""Whether somebody is at the machine. The devices are pipes, since machines that test have no keyboard."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill_provider.keyboard import Keyboard

EVENT = b"\0" * 24  # linux/input.h: struct input_event


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    (tmp_path / "input" / "by-path").mkdir(parents=True)
    return tmp_path / "input"


@pytest.fixture
def keyboard(devices: Path) -> Iterator[Keyboard]:
    watched = Keyboard(devices, loginctl="/none")
    yield watched
    watched.close()


def plug_in(devices: Path, name: str) -> int:
    path = devices / "by-path" / name
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)


def logind(folder: Path, answer: str) -> str:
    program = folder / "loginctl"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    return str(program)


def test_input_is_seen_when_it_comes(keyboard: Keyboard, devices: Path) -> None:
    keys, mouse = plug_in(devices, "usb-event-kbd"), plug_in(devices, "usb-event-mouse")
    assert keyboard.last_input_s(1_000) == 0

    os.write(keys, EVENT * 300)
    assert keyboard.last_input_s(1_010) == 1_010
    assert keyboard.last_input_s(1_020) == 1_010

    os.write(mouse, EVENT)
    assert keyboard.last_input_s(1_030) == 1_030
    for descriptor in (keys, mouse):
        os.close(descriptor)


def test_devices_come_and_go(keyboard: Keyboard, devices: Path) -> None:
    assert keyboard.last_input_s(1_000) == 0
    keys = plug_in(devices, "usb-event-kbd")
    keyboard.last_input_s(1_005)
    os.write(keys, EVENT)
    assert keyboard.last_input_s(1_010) == 1_010

    (devices / "by-path" / "usb-event-kbd").unlink()
    os.write(keys, EVENT)
    assert keyboard.last_input_s(1_020) == 1_010
    os.close(keys)


def test_other_devices_are_nobody(keyboard: Keyboard, devices: Path) -> None:
    lid = plug_in(devices, "acpi-event-lid")
    os.write(lid, EVENT)

    assert keyboard.last_input_s(1_000) == 0
    os.close(lid)


def test_logind_is_asked_where_devices_cannot_be_read(tmp_path: Path) -> None:
    idle = Keyboard(tmp_path / "none", logind(tmp_path, "echo IdleHint=yes; echo IdleSinceHint=900000000"))
    assert idle.last_input_s(1_000) == 900

    busy = Keyboard(tmp_path / "none", logind(tmp_path, "echo IdleHint=no; echo IdleSinceHint=0"))
    assert busy.last_input_s(1_000) == 1_000


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense", "echo IdleHint=yes"])
def test_what_nobody_can_tell_is_not_made_up(answer: str, tmp_path: Path) -> None:
    keyboard = Keyboard(tmp_path / "none", logind(tmp_path, answer))

    assert keyboard.last_input_s(1_000) is None
    assert "the group input may" in keyboard.unknown
