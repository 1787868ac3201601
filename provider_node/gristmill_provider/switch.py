"""The owner's switch: `pause` and `resume` leave a file that the running node looks at, and a later one too."""

import json
import math
from pathlib import Path

_FILE = "paused.json"  # in the node's state folder


def pause(state_dir: Path, until_s: float = math.inf) -> None:
    """Have the node of this folder take no work until that unix time, or until resume()."""
    state_dir.mkdir(parents=True, exist_ok=True)
    fresh = state_dir / f".{_FILE}"
    fresh.write_text(json.dumps({"until_s": None if math.isinf(until_s) else until_s}))
    fresh.replace(state_dir / _FILE)


def resume(state_dir: Path) -> bool:
    """Let it work again; False if it was not paused."""
    file = state_dir / _FILE
    was = file.exists()
    file.unlink(missing_ok=True)
    return was


def paused_until_s(state_dir: Path) -> float | None:
    """Unix time until which it is paused; infinite: until resume(); None: it is not. A file that is broken pauses."""
    try:
        until_s = json.loads((state_dir / _FILE).read_text())["until_s"]
        return math.inf if until_s is None else float(until_s)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return math.inf
