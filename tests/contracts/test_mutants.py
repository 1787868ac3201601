"""What the mutation check of the contracts' tests calls its mutants; the check itself is `make mutants`."""

import runpy
from collections import Counter
from pathlib import Path

CONTRACTS = Path(__file__).parents[2] / "contracts"
MUTATE = runpy.run_path(str(CONTRACTS / "tools" / "mutate.py"))
SOURCE = """
    function _holds(uint32[] storage list) private {
        if (list.length == 0) return false;
        ++count;
    }

    function _holds(address[] memory list) private restricted {
        if (list.length == 0) return false;
        delete seats[count - 1];
    }
"""


def test_overloaded_functions_have_mutants_of_different_names() -> None:
    assert [mutant.name for mutant in MUTATE["mutants_of"]("X.sol", SOURCE)] == [
        "X.sol _holds: if (list.length == 0) return false; -> (dropped)",
        "X.sol _holds (2): if (list.length == 0) return false; -> (dropped)",
        "X.sol _holds: restricted -> (dropped)",
        "X.sol _holds: ++count; -> (dropped)",
        "X.sol _holds: delete seats[count - 1]; -> (dropped)",
    ]


def test_listed_mutants_are_there_once() -> None:
    files = (CONTRACTS / "src").rglob("*.sol")
    made = [
        mutant for file in files for mutant in MUTATE["mutants_of"](str(file.relative_to(CONTRACTS)), file.read_text())
    ]
    names = Counter(mutant.name for mutant in made)

    assert max(names.values()) == 1
    assert set(MUTATE["_listed"]().keys()) <= names.keys()
