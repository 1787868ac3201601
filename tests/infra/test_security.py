"""docs/security.md names tests that exist, and every attack has one or says that it isn't stopped."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text().splitlines()
    if line.startswith("| **")
]
NAMED = re.compile(r"`([\w/.]+)::(\w+)`")


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "-", row[0].split("**")[1]).lower() for row in ROWS])
def test_an_attack_is_shown_to_be_stopped_or_said_not_to_be(row: list[str]) -> None:
    _, stopped_by, shown_by = row

    missing = [
        f"{path}::{name}"
        for path, name in NAMED.findall(shown_by)
        if not re.search(rf"(?:def|function) {name}\(", (ROOT / path).read_text())
    ]

    assert missing == []
    assert NAMED.search(shown_by) or "**Not stopped" in stopped_by


def test_the_whole_list_is_there() -> None:
    assert len(ROWS) >= 35
