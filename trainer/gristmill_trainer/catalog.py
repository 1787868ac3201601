"""The recipes installed on this machine, found by the entry-point group gristmill.recipes. Torch-free."""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from gristmill_protocol.errors import MissingPart, UnknownRecipe
from gristmill_trainer.goals import Goal, example_path, read_goal
from gristmill_trainer.recipe import Recipe

GROUP = "gristmill.recipes"


def recipes() -> list[Recipe]:
    """Every installed recipe, by id.

    Raises:
        MissingPart: one of them cannot be loaded.
    """
    return [_load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]


def find(recipe_id: str) -> Recipe:
    """The recipe of that id.

    Raises:
        UnknownRecipe: naming those with a similar id.
        MissingPart: it is installed but cannot be loaded.
    """
    by_id = {entry.name: entry for entry in entry_points(group=GROUP)}
    if recipe_id in by_id:
        return _load(by_id[recipe_id])
    near = get_close_matches(recipe_id.lower(), by_id, n=3, cutoff=0.6)
    raise UnknownRecipe(
        f"There is no recipe {recipe_id!r}.",
        effect="Nothing was started or charged.",
        todo=f"Did you mean {' or '.join(near)}?" if near else f"Installed are {', '.join(sorted(by_id)) or 'none'}.",
        near=near,
    )


def goal(recipe_id: str) -> Goal | None:
    """What a recipe teaches, without a technical word; None if it has no such words, or is not installed.

    It is read from data, the recipe is not imported.

    Raises:
        MissingPart: it cannot be read.
    """
    for entry in entry_points(group=GROUP, name=recipe_id):
        return read_goal(entry.name, entry.module)
    return None


def example(goal: Goal) -> Path:
    """The file with a goal's example data.

    Raises:
        MissingPart: it was not installed.
    """
    [entry] = entry_points(group=GROUP, name=goal.recipe)
    return example_path(goal, entry.module)


def _load(entry: EntryPoint) -> Recipe:
    try:
        return cast(Recipe, entry.load().recipe)
    except (ImportError, AttributeError) as err:
        raise MissingPart(
            f"The recipe {entry.name!r} is installed but cannot be loaded: {err}.",
            effect="Jobs with this recipe cannot be planned here.",
            todo=f"Install the package of {entry.value!r} again.",
        ) from err
