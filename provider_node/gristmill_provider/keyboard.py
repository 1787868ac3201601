"""Is somebody at the machine? From the input devices where they may be read, else from logind; no key is looked at."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DEVICES = Path("/dev/input")
_ABOUT = Path("/sys/class/input")
_ASK_LOGIND_S = 5
_LOGIND_TIMEOUT_S = 5

# linux/input-event-codes.h: the letters from KEY_Q to KEY_M, and the buttons of mice, joysticks, pads and pens from
# BTN_LEFT to BTN_TOOL_QUADTAP. Power buttons, lids, speakers and motion sensors have none of them.
_LETTERS = (*range(16, 26), *range(30, 39), *range(44, 51))
_BUTTONS = range(0x110, 0x150)
_PEOPLES = sum(1 << code for code in (*_LETTERS, *_BUTTONS))


class Keyboard:
    """Keyboards, mice and joysticks that are plugged in, by wire or without.

    Args:
        devices: the folder of input devices.
        about: what the kernel says of each.
        loginctl: the program that asks logind about the seat.
    """

    def __init__(self, devices: Path = _DEVICES, about: Path = _ABOUT, loginctl: str = "loginctl") -> None:
        self._devices = devices
        self._about = about
        self._loginctl = loginctl
        self._open: dict[Path, int] = {}
        self._input_s = 0.0
        self._asked: tuple[float, float | None] | None = None  # when logind was asked last, and what it said

    def last_input_s(self, now_s: float) -> float | None:
        """Unix time of the last input, or when we began to watch; None: nobody can tell, unknown says why."""
        if self._watch(now_s):
            return self._input_s
        if self._asked is None or not 0 <= now_s - self._asked[0] < _ASK_LOGIND_S:
            self._asked = (now_s, self._seat_input_s(now_s))
        return self._asked[1]

    @property
    def unknown(self) -> str:
        return (
            f"No keyboard or mouse can be read in {self._devices} (the group input may), and logind knows nothing of"
            " the seat (loginctl show-seat seat0)."
        )

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _watch(self, now_s: float) -> bool:
        """Take note of what came in; False if there are no devices, or not all can be read."""
        found = set(self._present())
        for path in set(self._open) - found:
            os.close(self._open.pop(path))
        for path in found - set(self._open):
            try:
                self._open[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                return False
            # What came in before is not known, and a wireless device is there again with the first touch.
            self._input_s = now_s
        for path, descriptor in list(self._open.items()):
            try:
                if _drained(descriptor):
                    self._input_s = now_s
            except OSError:  # unplugged; what has its name by now is opened at the next look
                os.close(self._open.pop(path))
        return bool(self._open)

    def _present(self) -> Iterator[Path]:
        """The devices that people touch, by the keys that they have."""
        for device in self._about.glob("event*"):
            with suppress(OSError):  # unplugged just now
                if _bits((device / "device" / "capabilities" / "key").read_text()) & _PEOPLES:
                    yield self._devices / device.name

    def _seat_input_s(self, now_s: float) -> float | None:
        """What logind says: desktops tell it when their user is idle, and it looks at consoles itself."""
        command = [self._loginctl, "show-seat", "seat0", "-p", "IdleHint", "-p", "IdleSinceHint"]
        try:
            said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LOGIND_TIMEOUT_S).stdout
            told = dict(line.split("=", 1) for line in said.split())
            return int(told["IdleSinceHint"]) / 1e6 if told["IdleHint"] == "yes" else now_s
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            return None


def _drained(descriptor: int) -> bool:
    """Whether anything had come in; it is thrown away."""
    came = False
    with suppress(BlockingIOError):  # nothing left
        while os.read(descriptor, 4096):
            came = True
    return came


def _bits(said: str) -> int:
    """The kernel's list of bits: machine words in hex without leading zeros, the highest first."""
    digits = 2 * struct.calcsize("l")
    return int("".join(word.zfill(digits) for word in said.split()), 16)
