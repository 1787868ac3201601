import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import trainer
from fakes.provider_side import DATA, task
from gristmill_protocol.errors import Unavailable
from gristmill_provider.runner import MAX_LINE_BYTES, Ended, ProcessRunner

pytestmark = pytest.mark.slow
FAKE_TRAINER = (sys.executable, trainer.__file__)

# Starts the fake trainer under a node's runner, says its pid and waits.
NODE = """
import asyncio, sys
from pathlib import Path
from gristmill_provider.runner import ProcessRunner

async def main():
    run = await ProcessRunner((sys.executable, sys.argv[1])).start(Path(sys.argv[2]), "run")
    async for event in run.events():
        if event.event == "segment":
            print(run._process.pid, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("input", "out"):
        (tmp_path / part).mkdir()
    (tmp_path / "input" / "data").write_bytes(DATA)
    (tmp_path / "task.json").write_text(task(settings={"hold_at": 6}).model_dump_json())
    return tmp_path


def ended(process: int) -> bool:
    """Whether the process of a pidfd is gone, or goes within ten seconds."""
    gone, _, _ = select.select([process], [], [], 10)
    os.close(process)
    return bool(gone)


async def test_a_process_is_probed(folder: Path) -> None:
    run = await ProcessRunner(FAKE_TRAINER).start(folder, "probe")

    [event] = [event async for event in run.events()]

    assert event.event == "probed"
    assert (await run.wait()).code == 0
    await run.close()


async def test_a_trainer_gets_none_of_the_nodes_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_SECRET", "x")
    show = 'import os, sys; sys.exit("GRISTMILL_SECRET" in os.environ or os.environ["CUDA_VISIBLE_DEVICES"] != "GPU-1")'
    run = await ProcessRunner((sys.executable, "-c", show), gpu_uuid="GPU-1").start(folder, "run")

    assert (await run.wait()).code == 0
    await run.close()


async def test_a_line_without_end_is_refused(folder: Path) -> None:
    flood = f"import sys; sys.stdout.write('x' * {MAX_LINE_BYTES + 1})"
    run = await ProcessRunner((sys.executable, "-c", flood)).start(folder, "run")

    with pytest.raises(Unavailable, match="cannot be understood"):
        [event async for event in run.events()]
    await run.close()


async def test_a_missing_program_ends_with_its_reason(folder: Path) -> None:
    run = await ProcessRunner(("/no/such/program",)).start(folder, "run")

    assert [event async for event in run.events()] == []
    assert "No such file" in (await run.wait()).cause
    await run.close()


async def test_closing_kills_the_whole_group(folder: Path) -> None:
    script = "import os, time; child = os.fork(); print(child or '', flush=True); time.sleep(60)"
    run = await ProcessRunner((sys.executable, "-c", script)).start(folder, "run")
    with pytest.raises(Unavailable) as seen:
        [event async for event in run.events()]
    child = os.pidfd_open(int(str(seen.value).split("b'")[1].split("\\n")[0]))

    await run.close()

    assert ended(child)


def test_a_killed_node_leaves_no_process_behind(folder: Path) -> None:
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, trainer.__file__, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert node.stdout is not None
    with node.stdout:
        held = os.pidfd_open(int(node.stdout.readline()))
    node.send_signal(signal.SIGKILL)
    node.wait()

    assert ended(held)


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (Ended(137, out_of_memory=True), "more memory than an attempt may take"),
        (Ended(9, "Traceback\nValueError: no\n"), "code 9 before it was done, saying 'ValueError: no'"),
        (Ended(-9), "code -9 before it was done."),
    ],
)
def test_an_end_without_a_word_is_explained(end: Ended, cause: str) -> None:
    assert cause in end.cause
