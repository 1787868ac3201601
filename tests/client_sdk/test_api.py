"""The public API is pinned, and importing it stays cheap."""

import subprocess
import sys

import pytest

import gristmill
from gristmill_protocol import errors

_HEAVY = ("torch", "numpy", "fastapi", "docker", "web3", "eth_account", "httpx", "pydantic", "rich", "typer")


def test_exported_names_are_these() -> None:
    not_errors = {"Client", "DepositPlan", "Job", "JobState", "Movement", "Plan", "job", "jobs", "plan", "train"}

    assert {name for name in gristmill.__all__ if not issubclass_of_error(name)} == not_errors
    assert list(gristmill.__all__) == sorted(gristmill.__all__)


def test_every_error_of_the_tree_is_exported() -> None:
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.GristmillError)
    }

    assert tree <= set(gristmill.__all__)


@pytest.mark.parametrize("name", gristmill.__all__)
def test_exported_name_exists(name: str) -> None:
    assert getattr(gristmill, name) is not None
    assert name in dir(gristmill)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = gristmill.nothing_like_this


def test_import_loads_nothing_heavy() -> None:
    code = f"import gristmill, sys; print([name for name in {_HEAVY} if name in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


@pytest.mark.slow
def test_client_loads_neither_servers_nor_torch_nor_keys() -> None:
    heavy = ("torch", "fastapi", "docker", "web3", "eth_account")
    code = f"import sys, gristmill; gristmill.Client; print([name for name in {heavy} if name in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def issubclass_of_error(name: str) -> bool:
    value = getattr(gristmill, name)
    return isinstance(value, type) and issubclass(value, errors.GristmillError)
