"""Show that the contracts' tests notice when a check goes missing: drop one at a time and run them.

    python contracts/tools/mutate.py                    all mutants, both cores
    python contracts/tools/mutate.py --sample 24 --seed 7
    python contracts/tools/mutate.py --changed-since main
    python contracts/tools/mutate.py --only "Cover.sol bond: nonReentrant"

Works on copies of contracts/ in a temporary directory. A mutant that no test can tell from the original is listed with
the reason in mutants.toml. Ends with 1 if an unlisted one survives. One whose tests time out counts as killed, and is
named: on a busy machine it may be no endless loop.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

CONTRACTS = Path(__file__).resolve().parents[1]
LISTED = CONTRACTS / "tools" / "mutants.toml"
COPIED = ("src", "test", "tools", "foundry.toml")
# Proofs are no tests.
LEFT_OUT = ("symbolic",)
TEST_COMMAND = ("forge", "test", "--fail-fast")
BOUNDARIES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
# A mutant can make a loop endless.
TEST_TIME_S = 300

FUNCTION = re.compile(r"\b(constructor|function \w+)\(")
GUARD = re.compile(r"\bif \(")
MODIFIER = re.compile(r" (?:restricted|nonReentrant)\b(?=[\s\w()]*\{)")
COMPARISON = re.compile(r" (<=|>=|<|>) ")
WORD_STEP = re.compile(r"\.(?:emptied\(\)|collected\(\)|withNonce\(\w+\))")
# A call or an assignment that stands alone on its line; not a declaration, an event or a way out.
STATEMENT = re.compile(
    r"^ +(?!return|revert|emit|using|import|assembly)"
    r"(?:\+\+|delete )?[(\w](?:[\w.]|\[[^\]]*\])*(?:(?: [-+|]?= |\(|\+\+|, ).*)?;$"
)
DECLARATION = re.compile(
    r"^ +(?:[A-Z]\w*|\w+\[\]|u?int\d+|bytes\d*|bool|address|mapping\b.*|string|type \w+)(?:\[\])? .*"
)
DECLARING_TUPLE = re.compile(r"^ +\((?:\w+ )?(?:memory |storage |calldata )?\w+ \w+,.*= ")


@dataclass(frozen=True)
class Mutant:
    file: str  # below contracts/
    start: int
    end: int
    text: str  # instead of what is there
    line: int
    within: str  # function
    before: str  # what is there, on one line
    nth: int = 1  # of those in its file that have all this alike, as in overloaded functions

    @property
    def name(self) -> str:
        nth = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.file} {self.within}{nth}: {self.before} -> {self.text or '(dropped)'}"


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a source file, in order of what is dropped; each has a name of its own."""
    seen: Counter[str] = Counter()

    def mutant(start: int, end: int, text: str) -> Mutant:
        line = source.count("\n", 0, start) + 1
        within = ["-", *FUNCTION.findall(source, 0, start)][-1].removeprefix("function ")
        made = Mutant(file, start, end, text, line, within, " ".join(source[start:end].split()))
        seen[made.name] += 1
        return replace(made, nth=seen[made.name])

    for start, end in _guards(source):
        yield mutant(start, end, "")
    for match in MODIFIER.finditer(source):
        yield mutant(match.start(), match.end(), "")
    for match in WORD_STEP.finditer(source):
        yield mutant(match.start(), match.end(), "")
    offset = 0
    for line in source.splitlines(keepends=True):
        code = line.rstrip("\n")
        if not code.lstrip().startswith(("//", "for (")):
            for match in COMPARISON.finditer(code.split("//")[0]):
                # The whole line, so that a listed mutant says which comparison it means.
                changed = code[: match.start(1)] + BOUNDARIES[match[1]] + code[match.end(1) :]
                yield mutant(offset + _indent(code), offset + len(code), changed.strip())
        inside = code.startswith("        ") or file.startswith("src/libraries/")
        if inside and STATEMENT.match(code) and not DECLARATION.match(code) and not DECLARING_TUPLE.match(code):
            yield mutant(offset + _indent(code), offset + len(code), "")
        offset += len(line)


def _indent(code: str) -> int:
    return len(code) - len(code.lstrip())


def _guards(source: str) -> Iterator[tuple[int, int]]:
    """Spans of `if (...) revert ...;` and `if (...) return ...;`, without else."""
    for match in GUARD.finditer(source):
        depth, at = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(source[at], 0)
            at += 1
        way_out = re.match(r"\s*(?:\{\s*revert [^;]*;\s*\}|(?:revert|return)\b[^;]*;|continue;)", source[at:])
        if way_out:
            yield match.start(), at + way_out.end()


def run(mutant: Mutant, copy: Path) -> str:
    """Test one mutant in a copy of the contracts; gives killed, survived, timed out or stillborn (no code)."""
    path = copy / mutant.file
    source = path.read_text()
    path.write_text(source[: mutant.start] + mutant.text + source[mutant.end :])
    try:
        done = _forge(copy)
    except subprocess.TimeoutExpired:
        return "timed out"
    finally:
        path.write_text(source)
    return _verdict(done.stdout + done.stderr)


def _verdict(output: str) -> str:
    """What forge's words say; with --fail-fast it can end with 0 although a test failed."""
    if "Compiler run failed" in output:
        return "stillborn"
    if "[FAIL" in output:
        return "killed"
    if re.search(r"\b[1-9]\d* tests passed, 0 failed", output):
        return "survived"
    raise RuntimeError(f"forge said neither that tests failed nor that they passed:\n{output}")


def _forge(copy: Path) -> subprocess.CompletedProcess[str]:
    settings = {"FOUNDRY_PROFILE": "mutants"}
    return subprocess.run(
        TEST_COMMAND,
        cwd=copy,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=TEST_TIME_S,
        check=False,
    )


def _copy_to(folder: Path) -> Path:
    copy = folder / "contracts"
    copy.mkdir(parents=True)
    for name in COPIED:
        origin = CONTRACTS / name
        if origin.is_dir():
            shutil.copytree(origin, copy / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy(origin, copy / name)
    (copy / "node_modules").symlink_to((CONTRACTS / "node_modules").resolve())
    vectors = CONTRACTS.parent / "tests" / "vectors"
    (folder / "tests").mkdir()
    (folder / "tests" / "vectors").symlink_to(vectors)
    done = _forge(copy)
    if _verdict(done.stdout + done.stderr) != "survived":
        sys.exit(f"The tests fail without any mutation:\n{done.stdout}{done.stderr}")
    return copy


def _run_all(chosen: list[Mutant], workers: int) -> dict[Mutant, str]:
    results: dict[Mutant, str] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(workers) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for copy in pool.map(_copy_to, [Path(scratch) / str(worker) for worker in range(workers)]):
            copies.put(copy)

        def test(mutant: Mutant) -> tuple[Mutant, str]:
            copy = copies.get()
            try:
                return mutant, run(mutant, copy)
            finally:
                copies.put(copy)

        for mutant, result in pool.map(test, chosen):
            results[mutant] = result
            if result in ("survived", "timed out"):
                print(f"{result} (line {mutant.line})  {mutant.name}", flush=True)
    return results


def _listed() -> dict[str, str]:
    """Mutants that are known to change nothing, by name, with the reason."""
    return {entry["mutant"]: entry["why"] for entry in tomllib.loads(LISTED.read_text()).get("equivalent", [])}


def _choose(arguments: argparse.Namespace) -> list[Mutant]:
    files = sorted(str(path.relative_to(CONTRACTS)) for path in (CONTRACTS / "src").rglob("*.sol"))
    files = [file for file in files if not file.startswith("src/dev/")]
    if arguments.changed_since:
        command = ["git", "diff", "--name-only", "--relative", arguments.changed_since, "--", "src"]
        changed = subprocess.run(command, cwd=CONTRACTS, capture_output=True, text=True, check=True).stdout.split()
        files = [file for file in files if file in changed]
    found = [mutant for file in files for mutant in mutants_of(file, (CONTRACTS / file).read_text())]
    if arguments.only:
        found = [mutant for mutant in found if any(text in mutant.name for text in arguments.only)]
    if arguments.sample and arguments.sample < len(found):
        kept = set(random.Random(arguments.seed).sample(range(len(found)), arguments.sample))
        # In order, so that neighbours share a compiled state.
        found = [mutant for at, mutant in enumerate(found) if at in kept]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation check of the contracts' tests")
    parser.add_argument("--sample", type=int, help="test only so many, drawn by --seed")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--changed-since", metavar="REVISION", help="test only files that differ from it")
    parser.add_argument(
        "--only",
        metavar="TEXT",
        action="append",
        help="test only mutants whose name has this in it, or one more of these",
    )
    parser.add_argument("--list", action="store_true", help="print the mutants' names and stop")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    chosen = _choose(arguments)
    if arguments.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    began = time.monotonic()
    results = {
        mutant: result for mutant, result in _run_all(chosen, arguments.workers).items() if result != "stillborn"
    }
    survivors = [mutant for mutant, result in results.items() if result == "survived"]
    listed = _listed()
    unlisted = [mutant for mutant in survivors if mutant.name not in listed]
    print(
        f"{len(results)} mutants, {len(results) - len(survivors)} killed, {len(survivors)} survived"
        f" (listed: {len(survivors) - len(unlisted)}), {time.monotonic() - began:.0f} s"
    )
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
