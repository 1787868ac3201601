"""Is somebody at the machine? From the input devices where they may be read, else from logind; no key is looked at."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DEVICES = Path("/dev/input")
_SUFFIXES = ("-event-kbd", "-event-mouse", "-event-joystick")  # of udev's names in by-path
_ASK_LOGIND_S = 5
_LOGIND_TIMEOUT_S = 5


class Keyboard:
    """Keyboards, mice and joysticks that are plugged in.

    Args:
        devices: udev's folder of input devices.
        loginctl: the program that asks logind about the seat.
    """

    def __init__(self, devices: Path = _DEVICES, loginctl: str = "loginctl") -> None:
        self._devices = devices
        self._loginctl = loginctl
        self._open: dict[Path, int] = {}
        self._input_s = 0.0
        self._asked: tuple[float, float | None] | None = None  # when logind was asked last, and what it said

    def last_input_s(self, now_s: float) -> float | None:
        """Unix time of the last input; 0: none since we watch; None: nobody can tell, unknown says why."""
        if self._watch(now_s):
            return self._input_s
        if self._asked is None or not 0 <= now_s - self._asked[0] < _ASK_LOGIND_S:
            self._asked = (now_s, self._seat_input_s(now_s))
        return self._asked[1]

    @property
    def unknown(self) -> str:
        return (
            f"This account may not read {self._devices} (the group input may), and logind knows nothing of the seat"
            " (loginctl show-seat seat0)."
        )

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _watch(self, now_s: float) -> bool:
        """Take note of what came in; False if the devices cannot all be read."""
        if not self._devices.is_dir():
            return False
        found = set(self._present())
        for path in set(self._open) - found:
            os.close(self._open.pop(path))
        for path in found - set(self._open):
            try:
                self._open[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except PermissionError:
                return False
            except OSError:  # unplugged just now
                continue
        for descriptor in self._open.values():
            if _drained(descriptor):
                self._input_s = now_s
        return True

    def _present(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from (path for path in (self._devices / "by-path").iterdir() if path.name.endswith(_SUFFIXES))

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
    with suppress(OSError):  # nothing left, or unplugged
        while os.read(descriptor, 4096):
            came = True
    return came
