"""Against a driver library of our own, since machines that test have no card. The library is loaded once a process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill_provider.devices import find_cpu

pytestmark = pytest.mark.slow

SHOW = """
from gristmill_protocol.errors import MissingPart
from gristmill_provider.devices import find_gpu
import sys
try:
    device = find_gpu(*sys.argv[1:])
    print(device.name, device.memory_bytes, device.driver, device.uuid, device.is_cpu, sep="|")
except MissingPart as err:
    print(err)
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    require(compiler is not None, "no C compiler for the driver's stand-in")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("nvml_stub.c")
    subprocess.run(
        [
            str(compiler),
            "-shared",
            "-fPIC",
            "-o",
            folder / "libnvidia-ml.so.1",
            "-Wl,-soname,libnvidia-ml.so.1",
            source,
        ],
        check=True,
    )
    return folder


def shown(driver: Path | None, *uuid: str, **env: str) -> str:
    variables = {**os.environ, **env, "LD_LIBRARY_PATH": str(driver or "")}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *uuid], env=variables, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_card_is_offered_as_its_driver_reports_it(driver: Path) -> None:
    whole = "NVIDIA GeForce RTX 4090|25757220864|580.82.07|GPU-fa4e0000-0000-4000-8000-000000000000|False"

    assert shown(driver) == whole
    assert shown(driver, "GPU-fa4e0000-0000-4000-8000-000000000000") == whole


@pytest.mark.parametrize(
    ("uuid", "env", "words"),
    [
        ((), {"NVML_STUB_COUNT": "0"}, "reports no card"),
        ((), {"NVML_STUB_NO_DRIVER": "1"}, "Driver Not Loaded"),
        (("GPU-other",), {}, "GPU-other cannot be used"),
    ],
)
def test_a_missing_card_is_explained(driver: Path, uuid: tuple[str, ...], env: dict[str, str], words: str) -> None:
    said = shown(driver, *uuid, **env)

    assert words in said
    assert "cpu = true" in said


def test_the_cpu_is_no_larger_than_an_attempt_may_be() -> None:
    device = find_cpu(1024**2)

    assert (device.name, device.memory_bytes, device.uuid, device.is_cpu) == ("CPU", 1024**2, None, True)
