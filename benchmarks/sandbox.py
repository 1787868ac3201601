"""What the sandbox costs: the start of a container, the speed of training in it, and a node that waits for work.

Starts and trainings are interleaved with what they are compared to. A start is counted from the call to the first line
of output, for the same program in the same image. The bare training is a plain process that has the image's files and
nothing else of a container (which takes root), so that both have the same Python. The fastest training of each kind
counts, since other programs can only slow one down; its processor time is disturbed less by them than the clock, which
favours containers on a busy machine: each gets a share of its own.
"""

import argparse
import asyncio
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psutil

from gristmill_localnet.digits import write_digits
from gristmill_localnet.net import NodeSpec, localnet
from gristmill_localnet.sandbox_image import trainer_image
from gristmill_protocol.jobs import TrainTask
from gristmill_provider.config import Limits
from gristmill_provider.docker_runner import DockerRunner
from gristmill_provider.runner import ProcessRunner, Runner
from gristmill_provider.task_dirs import new_task_dir
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.recipe import Gpu

STARTS = 20
TRAININGS = 5
SETTINGS = {"quality": "quick", "rounds": 6}
IDLE_S = 30
LIMITS = Limits(work_gib=1, memory_gib=4)
TIMED = """
import sys, time, torch
from gristmill_trainer.__main__ import main
began = time.process_time(), time.perf_counter()
code = main(sys.argv[1:])
with open(sys.argv[2] + "/out/seconds", "w") as file:
    file.write(f"{time.process_time() - began[0]} {time.perf_counter() - began[1]}")
sys.exit(code)
"""
SAY = """print('{"event": "progress", "step": 0, "metrics": {}}', flush=True)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="", help="the trainer's, by its id; otherwise what `make image` made")
    image = parser.parse_args().image or trainer_image("docker")
    print(f"{platform.machine()}, Python {platform.python_version()}, Docker")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_starts(Path(folder), image))
        asyncio.run(_trainings(Path(folder), image))
        _idle(Path(folder) / "net")


async def _starts(folder: Path, image: str) -> None:
    runner = DockerRunner(
        node_id="node_of_benchmark", image=image, limits=LIMITS, gpu_uuid=None, command=("python", "-c", SAY)
    )
    await runner.open()
    ours, bare = [], []
    for number in range(STARTS):
        ours.append(await _first_line(runner, await new_task_dir(runner, folder, f"start_{number}")))
        bare.append(await asyncio.to_thread(_bare_start, image))
    await runner.close()
    print("start of a container      p50 ms  p95 ms")
    for name, seconds in (("docker run", bare), ("through the node", ours)):
        print(f"  {name:<22} {1000 * median(seconds):>7.0f} {1000 * _p95(seconds):>7.0f}")
    print(f"  ratio                  {median(ours) / median(bare):>7.2f} {_p95(ours) / _p95(bare):>7.2f}")


async def _first_line(runner: Runner, task_dir: Path) -> float:
    started = time.perf_counter()
    run = await runner.start(task_dir, "probe")
    await anext(run.events())
    seconds = time.perf_counter() - started
    await run.close()
    return seconds


def _bare_start(image: str) -> float:
    started = time.perf_counter()
    command = ["docker", "run", "--rm", "--entrypoint", "python", image, "-c", SAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - started
        process.wait()
    return seconds


async def _trainings(folder: Path, image: str) -> None:
    docked = DockerRunner(
        node_id="node_of_benchmark", image=image, limits=LIMITS, gpu_uuid=None, command=("python", "-c", TIMED)
    )
    await docked.open()
    found: dict[str, list[list[float]]] = {"bare": [], "sandbox": []}
    with _files_of(image, folder) as root:
        bare = ProcessRunner(("chroot", root, "python", "-c", TIMED))
        for number in range(TRAININGS):
            for name, runner in (("bare", bare), ("sandbox", docked)):
                found[name].append(await _training(runner, folder, f"{name}_{number}"))
    await docked.close()
    print(f"training, fastest of {TRAININGS}      bare s  sandbox s  throughput in the sandbox")
    for at, clock in enumerate(("processor time", "by the clock")):
        fastest = {name: min(seconds[at] for seconds in runs) for name, runs in found.items()}
        ratio = fastest["bare"] / fastest["sandbox"]
        print(f"  {clock:<22} {fastest['bare']:>8.2f} {fastest['sandbox']:>10.2f} {ratio:>11.3f}")


@contextmanager
def _files_of(image: str, folder: Path) -> Iterator[str]:
    """Where an image's files are, with this folder among them."""
    idle = ["docker", "run", "--detach", "--rm", "--volume", f"{folder}:{folder}", "--entrypoint", "sleep", image, "1h"]
    container = subprocess.run(idle, check=True, capture_output=True, text=True).stdout.strip()
    try:
        where = ["docker", "inspect", "--format", "/proc/{{.State.Pid}}/root", container]
        yield subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    finally:
        subprocess.run(["docker", "kill", container], check=True, capture_output=True)


async def _training(runner: Runner, folder: Path, name: str) -> list[float]:
    """Seconds of a job's training: processor time, and by the clock."""
    task_dir = await new_task_dir(runner, folder, name)
    view = DataView.open(write_digits(folder / f"{name}_digits"))
    recipe = catalog.find("image-sorter")
    plan = recipe.plan(SETTINGS, recipe.check(view).stats, Gpu())
    task = TrainTask(
        job_id="job_1", attempt_id=name, recipe="image-sorter", settings=plan.settings, seed=1, steps=plan.steps,
        segment_steps=plan.segment_steps, data=view.pack(task_dir / "input" / "data"),
    )  # fmt: skip
    (task_dir / "task.json").write_text(task.model_dump_json())
    run = await runner.start(task_dir, "run")
    try:
        events = [event.event async for event in run.events()]
        ended = await run.wait()
        if events[-1:] != ["finished"]:
            raise SystemExit(f"The training failed: {ended}")
        return [float(seconds) for seconds in (task_dir / "out" / "seconds").read_text().split()]
    finally:
        await run.close()


def _idle(folder: Path) -> None:
    with localnet(folder, nodes=(NodeSpec("willow", "0.20"),)) as net:
        node = psutil.Process(net.nodes["willow"].process.pid)
        time.sleep(IDLE_S / 3)  # the test of its card
        before, at = node.cpu_times(), time.perf_counter()
        time.sleep(IDLE_S)
        after, seconds = node.cpu_times(), time.perf_counter() - at
        used = after.user + after.system - before.user - before.system
        rss = node.memory_info().rss
    print(f"a node that waits:  {rss / 1e6:.0f} MB resident, {100 * used / seconds:.2f} % of a processor")


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


if __name__ == "__main__":
    main()
