"""The Makefile: every target that the documents name exists, and a machine that lacks something is told so."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_targets_named_in_documents_exist(document: Path) -> None:
    in_code = re.findall(r"^```.*?^```|`[^`\n]+`", document.read_text(), re.MULTILINE | re.DOTALL)
    named = {name for code in in_code for name in re.findall(r"(?:^|[`$;&|]\s*)make ([a-z-]+)", code, re.MULTILINE)}

    assert named <= targets()


def test_help_lists_every_target() -> None:
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert {line.split()[1] for line in shown.splitlines()} == targets()


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A checkout with nothing but the set-up script and a folder of programs that come first on PATH."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts" / "setup")
    return tmp_path


def add_program(machine: Path, name: str, script: str) -> None:
    program = machine / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def set_up(machine: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{machine / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [machine / "scripts" / "setup", "venv"],
        env={"PATH": path, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def test_an_old_python_is_named_with_what_to_do(bare_machine: Path) -> None:
    add_program(bare_machine, "old-python", '[ "$1" = --version ] && exec echo Python 3.9.2; exit 1')

    run = set_up(bare_machine, PYTHON="old-python")

    assert run.returncode == 1
    assert "needs Python 3.11 or newer; this machine's old-python is: Python 3.9.2" in run.stderr
    assert "make demo PYTHON=" in run.stderr


def test_a_full_disk_is_named_before_anything_is_installed(bare_machine: Path) -> None:
    add_program(bare_machine, "df", "echo Filesystem; echo /dev/sda 100 99 1024 99% /")

    run = set_up(bare_machine)

    assert run.returncode == 1
    assert "only 0 GB are free on this disk" in run.stderr
    assert not (bare_machine / ".venv").exists()


def test_a_python_without_venv_is_named_with_what_to_do(bare_machine: Path) -> None:
    add_program(bare_machine, "python-alone", '[ "$1" = -m ] && exit 1; exit 0')

    run = set_up(bare_machine, PYTHON="python-alone")

    assert run.returncode == 1
    assert "apt-get install python3-venv" in run.stderr
