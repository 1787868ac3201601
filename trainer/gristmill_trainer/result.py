"""The folder that a renter takes home: the model, how to use it, how it came to be; and reading it again."""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gristmill_protocol.errors import NotFound
from gristmill_protocol.jobs import TrainTask
from gristmill_trainer.checkpoint import save_tensors
from gristmill_trainer.data import file_ref
from gristmill_trainer.program import Model, Training
from gristmill_trainer.recipe import RecipeInfo
from gristmill_trainer.scoring import Scorecard

MODEL, CONFIG, CARD, LOCK = "model.safetensors", "config.json", "MODEL_CARD.md", "recipe.lock"


def write(folder: Path, *, info: RecipeInfo, task: TrainTask, training: Training, card: Scorecard) -> dict[str, str]:
    """Write the result into a folder and return the SHA-256 of each file, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    model = training.model()
    save_tensors(model.tensors, folder / MODEL)
    config = {"format": 1, "recipe": info.id, "recipe_version": info.version, **model.config}
    _write_json(folder / CONFIG, config)
    _write_json(folder / LOCK, _lock(info, task, training))
    (folder / CARD).write_text(_card(info, task, training, card), encoding="utf-8")
    return {name: file_ref(folder / name).sha256 for name in (MODEL, CONFIG, CARD, LOCK)}


def read(folder: Path) -> tuple[str, Model]:
    """The id of the recipe that made the model in this folder, and the model.

    Raises:
        NotFound: there is no whole model.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config["recipe"], Model(load_file(folder / MODEL), config)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as err:
        raise NotFound(
            f"There is no model in {str(folder)!r}: {err}.",
            effect="Nothing was predicted.",
            todo=f"Name the folder that holds {MODEL} and {CONFIG}.",
        ) from err


def _lock(info: RecipeInfo, task: TrainTask, training: Training) -> dict[str, object]:
    """All that is needed to train the same bits again."""
    return {
        "recipe": info.id,
        "recipe_version": info.version,
        "trainer_version": version("gristmill"),
        "torch_version": torch.__version__,
        "data_sha256": task.data.sha256,
        "data_root": training.examples.root().hex(),
        "seed": task.seed,
        "steps": task.steps,
        "threads": task.threads,
        "settings": task.settings,
    }


def _card(info: RecipeInfo, task: TrainTask, training: Training, card: Scorecard) -> str:
    examples = training.examples
    counts = {answer: examples.numbers.count(number) for number, answer in enumerate(examples.answers)}
    return f"""---
tags: [{info.task}, gristmill]
---
# {task.job_id}: {info.titles["en"]}

{info.summary}

## How good it is

{card.sentence}

It was measured on {card.held_out} examples that it did not learn from, and got {card.correct} of them right
({card.accuracy:.1%}). Always giving the commonest answer would get {card.baseline:.1%} right.

{_confusions(card)}
## What it learnt from

{len(examples.learnt)} examples; {len(examples.held)} more were held out to measure it. A copy of an example was never
on both sides.

| answer | examples |
|---|---|
{"".join(f"| {_cell(answer)} | {count} |{chr(10)}" for answer, count in counts.items())}
## How it was trained

Recipe {info.id} {info.version} by {", ".join(info.authors)} ({info.licence}), from nothing, in {task.steps} steps,
with these settings:

```json
{json.dumps(task.settings, indent=2, sort_keys=True)}
```

{LOCK} names everything that is needed to train the same bits again.

## Limits

- It knows only the answers above and gives one of them to anything, also to what belongs to none.
- It was measured on examples like those it learnt from. On others it may do worse.
- Its confidence tells sure from unsure answers; it is not a probability to rely on.
- It repeats whatever is one-sided in its examples. Don't let it decide about people without a person looking.
"""


def _confusions(card: Scorecard) -> str:
    if not card.confusions:
        return ""
    rows = "".join(f"| {_cell(one.answer)} | {_cell(one.taken_for)} | {one.count} |\n" for one in card.confusions)
    return f"| right answer | taken for | times |\n|---|---|---|\n{rows}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
