"""The test that no role lowers a balance is only as good as its list of what roles may call."""

import re
from pathlib import Path

CONTRACTS = Path(__file__).parents[2] / "contracts"
FUNCTION = re.compile(r"function (\w+)\([^)]*\)([^{;]*)\{")


def _restricted(source: str) -> list[str]:
    return [name for name, modifiers in FUNCTION.findall(source) if "restricted" in modifiers.split()]


def test_restricted_functions_are_found_over_several_lines_too() -> None:
    source = (
        "function a() external restricted {} function b(uint x)\n external\n restricted\n {} function c() public {}"
    )

    assert _restricted(source) == ["a", "b"]


def test_the_list_of_restricted_functions_is_complete() -> None:
    sources = (CONTRACTS / "src").rglob("*.sol")
    listed = (CONTRACTS / "test" / "Threats.t.sol").read_text().partition("function _restricted()")[2]

    calls = re.findall(r"abi\.encodeCall\((\w+\.\w+),", listed.partition("\n    }\n")[0])

    assert sorted(calls) == sorted(f"{path.stem}.{name}" for path in sources for name in _restricted(path.read_text()))
