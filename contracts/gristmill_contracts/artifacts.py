"""The compiled contracts, as contracts/generate.py wrote them into _generated/."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

PUBLISHED = (
    "AccessManager",
    "CommonsFund",
    "Cover",
    "Disputes",
    "Erc3009Collector",
    "FeeSplitter",
    "Ledger",
    "Permit2Collector",
    "PermitCollector",
    "RecipeRegistry",
    "Registry",
    "RoyaltyPool",
    "TestUSD",
)


@dataclass(frozen=True)
class Artifact:
    """One contract's interface and creation bytecode."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str  # 0x-prefixed hex


@cache
def artifact(name: str) -> Artifact:
    """The artifact of one of PUBLISHED."""
    stored = json.loads((files("gristmill_contracts") / "_generated" / f"{name}.json").read_text())
    return Artifact(name, stored["abi"], stored["bytecode"])
