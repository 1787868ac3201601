"""Builds the contracts and writes what the Python bindings load: each contract's ABI and bytecode as JSON.

python contracts/generate.py [FOLDER]      FOLDER defaults to contracts/gristmill_contracts/_generated
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from gristmill_contracts.artifacts import PUBLISHED

HERE = Path(__file__).parent
FORGE = HERE / "node_modules" / ".bin" / "forge"


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "gristmill_contracts" / "_generated"
    if not FORGE.exists():
        sys.stderr.write("error: forge is not installed; run `make contracts`, or npm install in contracts/.\n")
        return 1
    settings = os.environ | {"FOUNDRY_PROFILE": "release"}
    build = [FORGE, "build", "--skip", "test"]
    built = subprocess.run(build, cwd=HERE, env=settings, stdout=subprocess.DEVNULL, check=False)
    if built.returncode:
        return built.returncode
    folder.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        artifact = json.loads((HERE / "out" / "release" / f"{name}.sol" / f"{name}.json").read_text())
        published = {"abi": artifact["abi"], "bytecode": artifact["bytecode"]["object"]}
        (folder / f"{name}.json").write_text(json.dumps(published, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
