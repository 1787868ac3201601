"""Small real data sets, and tasks made from them the way the coordinator makes them."""

import ast
import csv
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gristmill_protocol.jobs import TrainTask
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView, file_ref
from gristmill_trainer.environment import pin_environment
from gristmill_trainer.recipe import Gpu

pin_environment()

MakeTask = Callable[..., Path]
Trainer = Callable[..., subprocess.CompletedProcess[str]]

TOPICS = {
    "asynchronous": "asyncio/*.py",
    "mail": "email/**/*.py",
    "testing": "unittest/*.py",
    "drawing": "turtle.py",
    "arithmetic": "_pydecimal.py",
}


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Path:
    """scikit-learn's 1,797 handwritten digits as PNGs, one folder for each digit."""
    require(find_spec("sklearn") is not None, "the digits come from scikit-learn: pip install 'gristmill[localnet]'")
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for number, (pixels, answer) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / str(answer)
        folder.mkdir(exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / f"{number:04}.png")
    return root


@pytest.fixture(scope="session")
def digits(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty of each of five digits: enough to train something in a tenth of a second."""
    root = tmp_path_factory.mktemp("few_digits")
    for answer in "01234":
        (root / answer).mkdir()
        for path in sorted((all_digits / answer).iterdir())[:20]:
            (root / answer / path.name).write_bytes(path.read_bytes())
    return root


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the standard library's authors wrote about five subjects: real texts that every machine has."""
    table = tmp_path_factory.mktemp("topics") / "topics.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for topic, pattern in TOPICS.items():
            rows.writerows([text, topic] for text in _docstrings(pattern))
    return table


def _docstrings(pattern: str) -> list[str]:
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if len(text) > 40:
                    found[text] = None
    return list(found)


@pytest.fixture(scope="session")
def make_task(tmp_path_factory: pytest.TempPathFactory) -> MakeTask:
    """make_task(data, settings=..., **fields) makes a new task folder for a data set."""

    def make(data: Path, *, settings: dict[str, Any], state: Path | None = None, **fields: Any) -> Path:
        folder = tmp_path_factory.mktemp("task")
        (folder / "input").mkdir()
        view = DataView.open(data)
        recipe = catalog.find("text-sorter" if view.is_table else "image-sorter")
        plan = recipe.plan(settings, recipe.check(view).stats, Gpu())
        if state is not None:
            (folder / "input" / "state.safetensors").write_bytes(state.read_bytes())
        task = {
            "job_id": "job_1",
            "attempt_id": "attempt_1",
            "recipe": recipe.info.id,
            "settings": plan.settings,
            "seed": 7,
            "steps": plan.steps,
            "segment_steps": plan.segment_steps,
            "end_steps": plan.end_steps,
            "data": view.pack(folder / "input" / "data"),
            "state": None if state is None else file_ref(state),
        }
        (folder / "task.json").write_text(TrainTask.model_validate(task | fields).model_dump_json())
        return folder

    return make


@pytest.fixture(scope="session")
def trainer() -> Trainer:
    """trainer("run", folder) runs the real trainer in a process of its own, to its end."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gristmill_trainer", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    return run


@pytest.fixture
def write_json_lines(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: dict[str, Any], name: str = "table.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
