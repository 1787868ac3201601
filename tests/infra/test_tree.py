"""What no committed file may be: too long to read, or tied to one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 500
COUNTED = {".py", ".sol", ".html", ".js", ".mjs", ".css"}
GENERATED = ("proto/gristmill_protocol/v1/", "contracts/gristmill_contracts/_generated/")

# Package indexes by address: which one is used is each machine's own setting.
REGISTRY_ADDRESS = re.compile(
    r"//(?:[\w.-]+\.)?(?:pypi|pythonhosted|npmjs|yarnpkg|pytorch)\.\w+/?\S*(?:simple|whl|-/|tgz)|//registry\."
)
# Folders that only one machine has: people's homes, and what was installed by hand.
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(?:(?:home|Users|root)/\w|opt/\w+(?![\w.]))")


def committed() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def texts(require) -> dict[str, str]:
    """Committed text files by their path."""
    require((ROOT / ".git").exists(), "this is no git checkout, so what is committed is not known")
    found = {}
    for path in committed():
        try:
            found[str(path)] = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
    return found


def test_no_file_is_too_long(texts: dict[str, str]) -> None:
    lengths = {
        path: len(text.splitlines())
        for path, text in texts.items()
        if Path(path).suffix in COUNTED and not path.startswith(GENERATED)
    }

    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_registry_address_is_committed(texts: dict[str, str]) -> None:
    assert found_in(texts, REGISTRY_ADDRESS) == []


def test_no_path_of_one_machine_is_committed(texts: dict[str, str]) -> None:
    assert found_in(texts, MACHINE_PATH) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRY_ADDRESS, "--extra-index-url https://download.py" + "torch.org/whl/cpu"),
        (REGISTRY_ADDRESS, "resolved: https://regis" + "try.npmjs.org/solc/-/solc-0.8.37.tgz"),
        (MACHINE_PATH, "open('/" + "home/ada/data')"),
        (MACHINE_PATH, "wheels=/" + "opt/wheels"),
    ],
)
def test_the_patterns_see_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


def found_in(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {found.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (found := pattern.search(line))
    ]
