"""The check that the contracts' trees and tests agree, on files that don't."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

TREES = runpy.run_path(str(Path(__file__).parents[2] / "contracts" / "tools" / "trees.py"))

TESTS = "function test_aNonceIsPaidOnce() {}\n    function testFuzz_aPayeesShareIsExact(uint256 x) {}\n"
TREE = "Any words\n├── nonces\n│   └── a nonce is paid once: also later\n└── a payee's share is exact\n"


@pytest.fixture
def faults(tmp_path: Path) -> Callable[[str, str], list[str]]:
    def check(tests: str, tree: str) -> list[str]:
        (tmp_path / "X.t.sol").write_text(tests)
        (tmp_path / "X.tree").write_text(tree)
        found: list[str] = TREES["faults_of"](tmp_path / "X.t.sol", tmp_path / "X.tree")
        return found

    return check


def test_leaves_and_tests_agree(faults: Callable[[str, str], list[str]]) -> None:
    assert faults(TESTS, TREE) == []


def test_a_test_without_a_leaf_is_named(faults: Callable[[str, str], list[str]]) -> None:
    assert faults(TESTS + "function test_more() {}", TREE) == ["X.t.sol: more is no leaf of X.tree"]


def test_a_leaf_without_a_test_is_named(faults: Callable[[str, str], list[str]]) -> None:
    assert faults(TESTS, TREE + "└── nobody tests this: at all") == ["X.tree: no test for 'nobody tests this: at all'"]


def test_a_file_without_its_tree_is_named(tmp_path: Path) -> None:
    (tmp_path / "X.t.sol").write_text(TESTS)

    assert TREES["faults_of"](tmp_path / "X.t.sol", tmp_path / "X.tree") == ["X.tree is missing"]


def test_a_page_names_tests_that_exist() -> None:
    assert TREES["misnamed"]("`Settle.aNonceIsPaidOnce`") == []
    assert TREES["misnamed"]("`Settle.nobodyWroteThis`, `Nowhere.atAll`") == [
        "README.md: no test Nowhere.atAll",
        "README.md: no test Settle.nobodyWroteThis",
    ]
