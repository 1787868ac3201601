"""Checks that every test of the contracts is a leaf of the tree beside it, every leaf a test, and that the tests
which test/README.md names exist.

python contracts/tools/trees.py

X.tree is the tree of X.t.sol. A leaf's words, up to a colon, are the test's name: "a recipe's terms are bounded: ..."
is test_aRecipesTermsAreBounded or testFuzz_aRecipesTermsAreBounded. Branches and the first line say what they like.
"""

import re
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent / "test"
TEST = re.compile(r"^\s*function test(?:Fuzz)?_(\w+)\(", re.MULTILINE)
NAMED = re.compile(r"`([A-Z]\w+)\.([a-z]\w+)`")
NODE = re.compile(r"^([│ ]*)[├└]── (.*)$", re.MULTILINE)


def main() -> int:
    stems = {path.name.split(".")[0] for path in (*TESTS.glob("*.t.sol"), *TESTS.glob("*.tree"))}
    faults = [fault for stem in sorted(stems) for fault in faults_of(TESTS / f"{stem}.t.sol", TESTS / f"{stem}.tree")]
    faults += misnamed((TESTS / "README.md").read_text())
    for fault in faults:
        sys.stderr.write(f"error: {fault}\n")
    return 1 if faults else 0


def faults_of(tests: Path, tree: Path) -> list[str]:
    """What a file's tests and its tree don't have in common, in words."""
    for path in (tests, tree):
        if not path.exists():
            return [f"{path.name} is missing"]
    names = {name.lower(): name for name in _names(tests)}
    leaves = {_name(leaf): leaf for leaf in leaves_of(tree.read_text())}
    untold = [f"{tests.name}: {names[key]} is no leaf of {tree.name}" for key in sorted(names.keys() - leaves.keys())]
    untested = [f"{tree.name}: no test for '{leaves[key]}'" for key in sorted(leaves.keys() - names.keys())]
    return untold + untested


def misnamed(page: str) -> list[str]:
    """The tests that a page names and that are not there."""
    named = sorted(set(NAMED.findall(page)))
    return [f"README.md: no test {stem}.{name}" for stem, name in named if name not in _names(TESTS / f"{stem}.t.sol")]


def leaves_of(tree: str) -> list[str]:
    """The lines that have no deeper one next."""
    nodes = [(len(match[1]), match[2]) for match in NODE.finditer(tree)]
    depths = [depth for depth, _ in nodes] + [0]
    return [words for i, (depth, words) in enumerate(nodes) if depths[i + 1] <= depth]


def _names(tests: Path) -> list[str]:
    return TEST.findall(tests.read_text()) if tests.exists() else []


def _name(leaf: str) -> str:
    return re.sub(r"[^a-z0-9]", "", leaf.split(":")[0].lower())


if __name__ == "__main__":
    sys.exit(main())
