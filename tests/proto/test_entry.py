"""A command without its libraries says what to install."""

import sys
from pathlib import Path

import pytest

from gristmill_protocol.entry import start


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_a_missing_library_is_named_with_what_installs_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "lacking.py").write_text("import no_such_library")

    with pytest.raises(SystemExit) as ended:
        start("lacking", extra="provider")

    assert ended.value.code == 7
    assert "'no_such_library'" in (said := capsys.readouterr().err)
    assert "pip install 'gristmill[provider]'" in said


def test_a_command_with_its_libraries_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "complete.py").write_text("def main() -> None:\n    print('runs')")

    start("complete", extra="provider")

    assert capsys.readouterr().out == "runs\n"
