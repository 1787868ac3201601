"""How long `import gristmill` keeps a person waiting: beside a bare interpreter, and beside `import httpx`."""

import subprocess
import sys
import time

RUNS = 7


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs this; the best of seven, so that files are in the cache."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    bare, httpx = seconds("pass"), seconds("import httpx")
    ours, used = seconds("import gristmill"), seconds("import gristmill; gristmill.Client")
    print(f"python -c pass {bare:.3f} s, import httpx {httpx:.3f} s (baseline)")
    print(f"import gristmill {ours:.3f} s, ratio to httpx {(ours - bare) / (httpx - bare):.2f}")
    print(f"with its client  {used:.3f} s, ratio to httpx {(used - bare) / (httpx - bare):.2f}")
