"""What every test may use: fakes on the path, and one way to say that a part is missing."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

os.environ.setdefault("OMP_NUM_THREADS", "1")

Require = Callable[[bool, str], None]


@pytest.fixture(scope="session")
def require() -> Require:
    """require(condition, reason): skip for a user whose machine lacks a part, fail where CI promised it."""

    def check(condition: bool, reason: str) -> None:
        if not condition:
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)

    return check


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Golden vectors that Python and Solidity both read."""
    return TESTS / "vectors"
