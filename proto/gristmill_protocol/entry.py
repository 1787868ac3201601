"""Starting a command whose extra may not be installed: `gristmill` alone brings every command, not every library."""

import sys
from importlib import import_module


def start(module: str, *, extra: str) -> None:
    """Run a module's main(); a missing library ends it with the line that installs it, exit code 7 (MissingPart)."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as err:
        if (err.name or "").startswith("gristmill"):
            raise
        sys.stderr.write(f"error: The library {err.name!r} is missing. Run: pip install 'gristmill[{extra}]'\n")
        sys.exit(7)
    main()
