"""Reads training code, without running it, for what would make two runs differ. AST only: no torch is loaded.

It finds what is written plainly: names through imports and simple assignments. What a program builds while it runs
(getattr, operations inside libraries) it can't see; the job itself still stops at an operation without a kernel.
"""

import ast
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from gristmill import _lint_rules as rules
from gristmill._lint_rules import Rule, constant
from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import Message

ALLOW = "# gristmill: allow"

# Whoever asks for these does not care in which order things come.
_ORDERLESS = ("sorted", "set", "frozenset", "len", "sum", "min", "max", "any", "all")

_BY_NAME: dict[str, list[Rule]] = {}
for _rule in rules.WITHOUT_KERNEL + rules.SWITCHED + rules.AROUND:
    for _name in _rule.calls:
        _BY_NAME.setdefault(_name, []).append(_rule)


class Finding(Message):
    """One place that may not repeat; lines and columns count from 1."""

    file: str
    line: int
    column: int
    rule: str
    what: str  # the name as torch knows it, or what could not be read
    why: str
    instead: str


def lint(paths: Sequence[Path]) -> list[Finding]:
    """What is found in these files, and in all Python files of these folders, in the order of files and lines.

    Raises:
        NotFound: there is no such file or folder.
    """
    found: list[Finding] = []
    read: list[_File] = []
    for path in _files(paths):
        try:
            read.append(_File(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError, tokenize.TokenError) as err:
            line = (err.lineno if isinstance(err, SyntaxError) else None) or 1
            cause = err.msg if isinstance(err, SyntaxError) else str(err) or type(err).__name__
            why = f"It cannot be read as Python: {cause}."
            todo = "Mend it, or name only the files that belong to the training."
            place = {"file": str(path), "line": line, "column": 1}
            found.append(Finding(**place, rule="unreadable", what=path.name, why=why, instead=todo))
    called = {name for file in read for _, name in file.calls}
    for file in read:
        found += file.findings(called)
    return sorted(found, key=lambda one: (one.file, one.line, one.column, one.rule))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*.py") if file.is_file())
        elif path.exists():
            yield path
        else:
            what = f"There is no file or folder {str(path)!r}."
            raise NotFound(what, effect="Nothing was checked.", todo="Check the path.")


@dataclass(frozen=True)
class _Place:
    node: ast.AST
    rule: str
    what: str
    why: str
    instead: str


class _File:
    """One file's names, calls and places. Raises what reading and parsing raise."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self._path = path
        self._tree = ast.parse(content, filename=str(path))
        self._allowed = _allowed(content)
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}
        self._stars: list[str] = []
        self._names = dict(self._imported())
        self._names |= self._assigned()
        nodes = [node for node in ast.walk(self._tree) if isinstance(node, ast.Call)]
        self.calls = [(call, name) for call in nodes if (name := self._called(call))]
        self._torch = any(name.split(".")[0] == "torch" for name in (*self._names.values(), *self._stars))

    def findings(self, called: set[str]) -> Iterator[Finding]:
        """What is found here.

        Args:
            called: every name that any of the files calls: a seed or a switch in one holds for all.
        """
        places = [*self._rule_places(called), *self._seed_places(called), *self._set_places(), *self._setting_places()]
        for place in places:
            line, column = getattr(place.node, "lineno", 1), getattr(place.node, "col_offset", 0) + 1
            if self._allowed.get(line, "") in (place.rule, "*"):
                continue
            yield Finding(
                file=str(self._path), line=line, column=column, rule=place.rule, what=place.what, why=place.why,
                instead=place.instead,
            )  # fmt: skip

    def _rule_places(self, called: set[str]) -> Iterator[_Place]:
        switched = "torch.use_deterministic_algorithms" in called  # with False that is a finding of its own
        for call, name in self.calls:
            for rule in _BY_NAME.get(name, ()):
                of_a_tensor = name.startswith(".") and rule not in rules.AROUND
                if (rule in rules.SWITCHED and switched) or (of_a_tensor and not self._torch) or not rule.when(call):
                    continue
                if rule.backward and self._without_gradient(call):
                    continue
                if rule.name != "file-order" or not self._order_is_lost(call):
                    yield _Place(call, rule.name, name.lstrip("."), rule.why, rule.instead)

    def _seed_places(self, called: set[str]) -> Iterator[_Place]:
        for call, name in self.calls:
            if name in rules.SEEDED_BY_ARGUMENT and not call.keywords and constant(next(iter(call.args), None)) is None:
                why = "Without a seed it starts from the machine's own noise."
                yield _Place(call, "seed", name, why, "Give it the job's seed.")
            elif name in rules.SEEDING and self._momentary(call):
                why = "The seed is another one each time."
                yield _Place(call, "seed", name.lstrip("."), why, "Give it the job's seed.")
        for source, seeds in rules.SEEDS.items():
            if not called.isdisjoint(seeds):
                continue
            for call, name in self.calls:
                if name in rules.DRAWS[source] and rules.argument(call, "generator") is None:
                    why = f"Nothing seeds {source}, so it draws other numbers each time."
                    yield _Place(call, "seed", name, why, f"Call {seeds[0]}(seed) first.")
                    break  # one is enough: seeding once mends them all

    def _set_places(self) -> Iterator[_Place]:
        """Where the order of a set gets into something that has an order."""
        why = "Texts in a set come in another order in each process."
        for node in ast.walk(self._tree):
            match node:
                case ast.For(iter=found) | ast.comprehension(iter=found):
                    pass
                case ast.Call(func=ast.Name(id="list" | "tuple" | "enumerate" | "iter"), args=[found, *_]):
                    pass
                case _:
                    continue
            made = isinstance(found, ast.Call) and self._called(found) in ("set", "frozenset")
            if (made or isinstance(found, ast.Set | ast.SetComp)) and not self._order_is_lost(node):
                yield _Place(found, "set-order", "set", why, "Sort it: sorted(...).")

    def _setting_places(self) -> Iterator[_Place]:
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                setting = rules.SETTINGS.get(self._dotted(target) or "")
                if setting is not None and constant(node.value) in (setting[1], ...):
                    rule, _, why, instead = setting
                    yield _Place(node, rule, self._dotted(target) or "", why, instead)

    def _imported(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self._tree):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    for alias in names:
                        if alias.name == "*":
                            self._stars.append(module)
                        else:
                            yield alias.asname or alias.name, f"{module}.{alias.name}"

    def _assigned(self) -> dict[str, str]:
        """Names that stand for imported ones: resize = F.interpolate."""
        found = {}
        for node in ast.walk(self._tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute() as value):
                    dotted = self._dotted(value)
                    if dotted and dotted.split(".")[0] in ("torch", "numpy", "random", "os", "time"):
                        found[name] = dotted
        return found

    def _called(self, call: ast.Call) -> str:
        """The full name of what is called; ".name" for a method of something unknown; "" for anything else."""
        dotted = self._dotted(call.func)
        if dotted:
            return dotted
        match call.func:
            case ast.Name(id=name):
                return next((f"{module}.{name}" for module in self._stars if f"{module}.{name}" in _KNOWN), name)
            case ast.Attribute(attr=name):
                return f".{name}"
        return ""

    def _dotted(self, node: ast.AST) -> str | None:
        """torch.nn.functional.pad for F.pad; None unless it begins with an imported name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._names:
            return None
        return ".".join([self._names[node.id], *reversed(parts)])

    def _momentary(self, call: ast.Call) -> bool:
        inner = [node for one in call.args for node in ast.walk(one) if isinstance(node, ast.Call)]
        return any(self._called(one) in rules.MOMENTARY for one in inner)

    def _order_is_lost(self, node: ast.AST) -> bool:
        """Whether it is inside a call such as sorted(...), in the same statement."""
        while (above := self._parents.get(node)) is not None and not isinstance(above, ast.stmt):
            if isinstance(above, ast.Call) and isinstance(above.func, ast.Name) and above.func.id in _ORDERLESS:
                return True
            node = above
        return False

    def _without_gradient(self, node: ast.AST) -> bool:
        while (above := self._parents.get(node)) is not None:
            around: list[ast.expr] = []
            if isinstance(above, ast.With):
                around = [item.context_expr for item in above.items]
            elif isinstance(above, ast.FunctionDef):
                around = above.decorator_list
            calls = [one.func if isinstance(one, ast.Call) else one for one in around]
            if any(self._dotted(one) in ("torch.no_grad", "torch.inference_mode") for one in calls):
                return True
            node = above
        return False


_KNOWN = {*_BY_NAME, *(name for draws in rules.DRAWS.values() for name in draws), *rules.SEEDING}


def _allowed(content: bytes) -> dict[int, str]:
    """Line -> the rule that a comment on it allows; "*": any."""
    tokens = tokenize.tokenize(BytesIO(content).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT and ALLOW in token.string]
    return {token.start[0]: next(iter(token.string.partition(ALLOW)[2].split()), "*") for token in comments}
