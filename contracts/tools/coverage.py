"""Show which lines and branches of src/ no test reaches; end with 1 if one is not explained in coverage.toml.

Runs `forge coverage` (which compiles without via_ir). Forge does not measure free functions, so the packed words and
the statement's parsing (src/libraries/*Word.sol, Statement.sol) are not in its figures; proofs and mutants cover those.
"""

import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

CONTRACTS = Path(__file__).resolve().parents[1]
EXPLAINED = CONTRACTS / "tools" / "coverage.toml"
COMMAND = ("forge", "coverage", "--no-match-path", "test/symbolic/*", "--report", "lcov", "--report-file")
# For local networks only.
LEFT_OUT = ("src/dev/",)


@dataclass
class Coverage:
    lines: dict[int, int] = field(default_factory=dict)  # times run, by line
    branches: dict[tuple[int, int, int], int] = field(default_factory=dict)  # by line, branch and way

    def gaps(self) -> list[tuple[int, str]]:
        """Lines never run, and branches of lines that ran without one of their ways."""
        missed = [(line, "line") for line, times in self.lines.items() if times == 0]
        missed += [
            (line, "branch") for (line, *_), times in self.branches.items() if times == 0 and self.lines.get(line) != 0
        ]
        return sorted(set(missed))


def parse(lcov: str) -> dict[str, Coverage]:
    """Read a tracefile (man geninfo) into the coverage of each source file."""
    files: dict[str, Coverage] = {}
    for entry in lcov.splitlines():
        kind, _, rest = entry.partition(":")
        if kind == "SF":
            current = files.setdefault(rest, Coverage())
        elif kind == "DA":
            line, times = rest.split(",")[:2]
            current.lines[int(line)] = int(times)
        elif kind == "BRDA":
            line, branch, way, times = rest.split(",")
            current.branches[int(line), int(branch), int(way)] = 0 if times == "-" else int(times)
    return files


def measure() -> dict[str, Coverage]:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "lcov.info"
        done = subprocess.run([*COMMAND, str(report)], cwd=CONTRACTS, capture_output=True, text=True, check=False)
        if "[FAIL" in done.stdout or not report.exists():
            sys.exit(f"forge coverage failed:\n{done.stdout}{done.stderr}")
        files = parse(report.read_text())
    return {name: files[name] for name in sorted(files) if name.startswith("src/") and not name.startswith(LEFT_OUT)}


def _share(counts: list[int]) -> str:
    run = sum(1 for times in counts if times)
    return f"{run}/{len(counts)}"


def main() -> int:
    explained = {(gap["file"], gap["code"]): gap["why"] for gap in tomllib.loads(EXPLAINED.read_text()).get("gap", [])}
    unexplained = 0
    print(f"{'':34}{'lines':>10}{'branches':>10}")
    gaps: list[str] = []
    for name, coverage in measure().items():
        print(f"{name:34}{_share(list(coverage.lines.values())):>10}{_share(list(coverage.branches.values())):>10}")
        source = (CONTRACTS / name).read_text().splitlines()
        for line, kind in coverage.gaps():
            code = source[line - 1].strip()
            why = explained.get((name, code))
            unexplained += why is None
            gaps.append(f"{name}:{line}: {kind} not reached: {code}{f'  ({why})' if why else ''}")
    print("\n".join(gaps))
    print(f"{len(gaps)} gaps, {unexplained} unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
