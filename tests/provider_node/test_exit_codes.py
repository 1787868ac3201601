"""Every way a node ends is in the owners' table."""

from pathlib import Path

import pytest

from gristmill_provider.exit_codes import ExitCode

PROVIDERS = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()


@pytest.mark.parametrize("code", ExitCode)
def test_a_code_is_explained(code: ExitCode) -> None:
    assert f"| {code:d} | {code.name} |" in PROVIDERS
