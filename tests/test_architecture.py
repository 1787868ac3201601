"""Fail when a module imports across a boundary that the design does not draw.

One environment holds every part, so a wrong import works on a developer's machine and breaks where only one extra is
installed: a renter's notebook, a node, a job's container. These tests read the imports instead. Each rule is first
shown a snippet that breaks it.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# What a recipe offers without PyTorch: enough to look at data, to name a price and to use what comes out.
PLANNING = (
    "gristmill_trainer.catalog",
    "gristmill_trainer.data",
    "gristmill_trainer.files",
    "gristmill_trainer.findings",
    "gristmill_trainer.goals",
    "gristmill_trainer.look",
    "gristmill_trainer.recipe",
    "gristmill_trainer.scoring",
    "gristmill_trainer.tables",
    "gristmill_trainer.tryout",
)
RECIPES = tuple(PROJECT["entry-points"]["gristmill.recipes"].values())


@dataclass(frozen=True)
class Part:
    folder: str
    extra: str | None  # what pyproject installs for it besides the base; None: the base alone
    may_import: tuple[str, ...]  # of our own modules, besides its own


PARTS = {
    "gristmill_protocol": Part("proto", None, ()),
    "gristmill_contracts": Part("contracts", "chain", ("gristmill_protocol",)),
    "gristmill_trainer": Part("trainer", "trainer", ("gristmill_protocol",)),
    "gristmill_provider": Part("provider_node", "provider", ("gristmill_protocol", "gristmill_contracts")),
    "gristmill_coordinator": Part(
        "coordinator", "coordinator", ("gristmill_protocol", "gristmill_contracts", *PLANNING)
    ),
    "gristmill": Part("client_sdk", None, ("gristmill_protocol", "gristmill_contracts", *PLANNING)),
    "gristmill_localnet": Part(
        "localnet",
        "localnet",
        (
            "gristmill_protocol",
            "gristmill_contracts",
            "gristmill_trainer",
            "gristmill_provider",
            "gristmill_coordinator",
            "gristmill",
        ),
    ),
}

# Generated from .proto files: it needs grpcio and protobuf, so only parts that declare them may load it.
GENERATED = "gristmill_protocol.v1"

DOMAIN = "gristmill_coordinator.domain"
PURE_MODULES = (
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "numpy",
    "operator",
    "re",
    "statistics",
    "string",
    "types",
    "typing",
)
IMPURE_PROTOCOL = ("gristmill_protocol.keystore", GENERATED)
CLOCKS = frozenset({"now", "utcnow", "today"})
IO_BUILTINS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})


@dataclass(frozen=True)
class Import:
    name: str  # dotted: `from a import b` is "a.b", whether b is a module or not
    line: int
    eager: bool  # it happens when the module is loaded: not in a function, not for the type checker only


@cache
def imports_of(source: str) -> list[Import]:
    """Every import that the source states, with importlib's when the name is written out."""
    return list(_imports_below(ast.parse(source), eager=True))


def _imports_below(node: ast.AST, *, eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        match child:
            case ast.Import(names=names):
                yield from (Import(alias.name, child.lineno, eager) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (Import(f"{module}.{alias.name}", child.lineno, eager) for alias in names)
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if ast.unparse(function) in (
                "import_module",
                "importlib.import_module",
                "__import__",
            ):
                yield Import(name, child.lineno, eager)
        yield from _imports_below(child, eager=eager and not in_function and not for_types)


def sources_of(package: str) -> dict[str, str]:
    """Module name -> source of the part's own, not generated modules."""
    base = ROOT / PARTS[package].folder
    sources = {}
    for path in sorted((base / package).rglob("*.py")):
        name = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        if not is_under(name, GENERATED):
            sources[name] = path.read_text()
    return sources


def all_sources() -> dict[str, str]:
    return {name: source for package in PARTS for name, source in sources_of(package).items()}


def is_under(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def wrong_arrows(package: str, source: str) -> list[str]:
    """The source's imports of our own modules that its part may not make."""
    part = PARTS[package]
    return [
        f"line {found.line}: {package} may not import {found.name}"
        for found in imports_of(source)
        if found.name.split(".")[0] in PARTS and not is_under(found.name, package, *part.may_import)
    ]


def declared_by(extra: str | None) -> set[str]:
    """Distributions that pyproject names in the base dependencies and in an extra, with the extras it builds on."""
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    names: set[str] = set()
    for requirement in map(Requirement, PROJECT["dependencies"] + (extras[extra] if extra else [])):
        if requirement.name == PROJECT["name"]:
            names.update(*(declared_by(inner) for inner in requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


@cache
def distributions_of(package: str) -> set[str]:
    """The installed distributions that bring an import package; its own name where none does."""
    return {canonicalize_name(name) for name in _installed().get(package, [package])}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def undeclared(declared: set[str], found: Import) -> str | None:
    """Say what is wrong with an import of a distribution that isn't declared; None when all is well."""
    package = found.name.split(".")[0]
    if is_under(found.name, GENERATED):
        missing = {"grpcio", "protobuf"} - declared
        return f"line {found.line}: {found.name} needs {', '.join(sorted(missing))}" if missing else None
    if package in sys.stdlib_module_names or package in PARTS:
        return None
    if distributions_of(package) & declared:
        return None
    return f"line {found.line}: imports {package}, which pyproject does not declare here"


def loaded_with(roots: set[str], sources: dict[str, str]) -> set[str]:
    """Our modules that loading the roots loads, by their eager imports and the packages they lie in."""
    loaded: set[str] = set()
    waiting = set(roots)
    while waiting:
        name = waiting.pop()
        if name in loaded:
            continue
        if name in sources:
            loaded.add(name)
            waiting |= {found.name for found in imports_of(sources[name]) if found.eager}
        if "." in name and name.split(".")[0] in PARTS:
            waiting.add(name.rpartition(".")[0])
    return loaded


def undeclared_when_loaded(roots: set[str], sources: dict[str, str], declared: set[str]) -> list[str]:
    return [
        f"{name}, {problem}"
        for name in sorted(loaded_with(roots, sources))
        for found in imports_of(sources[name])
        if found.eager and (problem := undeclared(declared, found))
    ]


def impurities(source: str) -> list[str]:
    """What in a domain module reads the world: imports that can, clocks, and built-in I/O."""
    problems = [
        f"line {found.line}: imports {found.name}"
        for found in imports_of(source)
        if is_under(found.name, *IMPURE_PROTOCOL)
        or not (found.name.split(".")[0] in PURE_MODULES or is_under(found.name, "gristmill_protocol", DOMAIN))
    ]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCKS:
                problems.append(f"line {node.lineno}: reads the clock ({name})")
            case ast.Call(func=ast.Name(id=name)) if name in IO_BUILTINS:
                problems.append(f"line {node.lineno}: calls {name}")
            case ast.AsyncFunctionDef() | ast.Await():
                problems.append(f"line {node.lineno}: is async")
    return problems


@pytest.mark.parametrize(
    ("package", "snippet"),
    [
        ("gristmill_protocol", "import gristmill_contracts"),
        ("gristmill_provider", "from gristmill_coordinator.domain import lease"),
        ("gristmill_provider", "def run():\n    from gristmill_trainer import engine"),
        ("gristmill_coordinator", "from gristmill_trainer.engine import run"),
        ("gristmill_coordinator", "import gristmill_localnet"),
        ("gristmill_trainer", "import gristmill"),
        ("gristmill", "import importlib\nimportlib.import_module('gristmill_coordinator.app')"),
        ("gristmill", "from gristmill_trainer import engine"),
    ],
)
def test_a_wrong_arrow_is_seen(package: str, snippet: str) -> None:
    assert wrong_arrows(package, snippet)


@pytest.mark.parametrize(
    ("package", "snippet"),
    [
        ("gristmill", "from gristmill_trainer.catalog import recipes"),
        ("gristmill_coordinator", "from gristmill_trainer import recipe, data"),
        ("gristmill_provider", "from gristmill_protocol.v1 import provider_pb2"),
        ("gristmill_provider", "def settle():\n    from gristmill_contracts.ledger import Ledger"),
        ("gristmill_localnet", "import gristmill_coordinator.app"),
    ],
)
def test_a_drawn_arrow_is_let_through(package: str, snippet: str) -> None:
    assert wrong_arrows(package, snippet) == []


@pytest.mark.parametrize("package", PARTS)
def test_parts_import_only_along_the_arrows(package: str) -> None:
    problems = {name: wrong_arrows(package, source) for name, source in sources_of(package).items()}

    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    ("extra", "snippet"),
    [
        (None, "import torch"),
        (None, "from gristmill_protocol.v1 import provider_pb2"),
        ("trainer", "def plan():\n    import sqlalchemy"),
        ("provider", "import a_package_that_nobody_has"),
    ],
)
def test_an_undeclared_import_is_seen(extra: str | None, snippet: str) -> None:
    assert [problem for found in imports_of(snippet) if (problem := undeclared(declared_by(extra), found))]


@pytest.mark.parametrize("package", PARTS)
def test_parts_import_only_what_their_extra_declares(package: str) -> None:
    declared = declared_by(PARTS[package].extra)
    problems = [
        f"{name}, {problem}"
        for name, source in sources_of(package).items()
        for found in imports_of(source)
        if (problem := undeclared(declared, found))
    ]

    assert problems == []


def test_an_undeclared_import_is_seen_through_other_modules() -> None:
    sources = {
        "gristmill": "from gristmill_contracts import deploy",
        "gristmill_contracts": "",
        "gristmill_contracts.deploy": "import web3",
    }

    assert undeclared_when_loaded({"gristmill"}, sources, declared_by(None))


@pytest.mark.parametrize("package", PARTS)
def test_loading_a_part_needs_only_what_its_extra_declares(package: str) -> None:
    roots = set(sources_of(package))

    assert undeclared_when_loaded(roots, all_sources(), declared_by(PARTS[package].extra)) == []


def test_a_node_at_work_loads_nothing_of_the_chain() -> None:
    loaded = loaded_with({"gristmill_provider.cli", "gristmill_provider.daemon"}, all_sources())

    assert {name for name in loaded if is_under(name, "gristmill_contracts")} == set()


def test_planning_needs_only_the_base() -> None:
    assert undeclared_when_loaded({*PLANNING, *RECIPES}, all_sources(), declared_by(None)) == []


@pytest.mark.parametrize(
    "snippet",
    [
        "import asyncio",
        "import os",
        "import time",
        "from sqlalchemy import select",
        "import httpx",
        "from gristmill_protocol.keystore import load",
        "from gristmill_coordinator.store import Store",
        "from datetime import datetime\nat = datetime.now()",
        "rows = open('rows')",
        "async def decide(): ...",
    ],
)
def test_an_impure_domain_module_is_seen(snippet: str) -> None:
    assert impurities(snippet)


def test_domain_is_pure() -> None:
    domain = {name: source for name, source in all_sources().items() if is_under(name, DOMAIN)}
    problems = {name: impurities(source) for name, source in domain.items()}

    assert domain, "coordinator/domain has no modules: has it moved?"
    assert {name: found for name, found in problems.items() if found} == {}
