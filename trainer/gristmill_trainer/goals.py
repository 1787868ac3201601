"""What a recipe says to people who want an AI and know nothing of how one is made: words, questions, an example.

A goal is data in the recipe's package, goal.toml, so a gallery shows it without running anybody's code.
"""

import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from gristmill_protocol.errors import MissingPart
from gristmill_protocol.jobs import Message

FILE = "goal.toml"


class Choice(Message):
    """One answer to a question."""

    value: str  # of the setting
    title: str
    sentence: str = ""  # what it means


class Question(Message):
    """A setting that everyone is asked for; without choices it is asked with yes or no."""

    setting: str
    title: str
    sentence: str = ""
    choices: tuple[Choice, ...] = ()


class TryIt(Message):
    """How the finished model is asked."""

    kind: Literal["picture", "text"]
    title: str
    label: str  # of the field
    button: str


class ExampleData(Message):
    """Prepared data to try with."""

    file: str  # in the recipe's package; what a person could have brought
    title: str
    sentence: str  # what it is and who made it
    button: str


class Goal(Message):
    """Something that a person wants to teach an AI."""

    recipe: str
    title: str  # "Teach an AI to sort my photos"
    example: str  # what it can be good for, in one sentence
    bring: str  # what to bring, in one sentence
    how: tuple[str, ...] = Field(min_length=1)  # to lay it out, step by step
    drop: str  # on the button that chooses files
    takes: tuple[str, ...] = Field(min_length=1)  # ends of file names, such as ".zip"
    thing: str  # what an example is: "photo"
    things: str  # several of them
    table: bool = False  # whether a table may be brought, whose columns are then to be confirmed
    parts: Mapping[str, str] = Field(default_factory=dict)  # role of a column -> what a person is asked
    questions: tuple[Question, ...] = ()
    try_it: TryIt
    example_data: ExampleData


def read_goal(recipe_id: str, package: str) -> Goal | None:
    """The goal that a recipe's package has; None if it has none. Nothing of the package is imported.

    Raises:
        MissingPart: what it says cannot be read.
    """
    folder = _folder(package)
    if folder is None or not (folder / FILE).is_file():
        return None
    try:
        said: dict[str, Any] = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
        return Goal.model_validate({"recipe": recipe_id, **said})
    except (OSError, ValueError, ValidationError) as err:
        raise MissingPart(
            f"The recipe {recipe_id!r} has a {FILE} that cannot be read: {err}.",
            effect="It is not among the goals.",
            todo=f"Install the package of {package!r} again.",
        ) from err


def example_path(goal: Goal, package: str) -> Path:
    """Where the goal's example data are.

    Raises:
        MissingPart: they were not installed with it.
    """
    folder = _folder(package)
    path = None if folder is None else folder / goal.example_data.file
    if path is None or not path.is_file():
        raise MissingPart(
            f"The example data of {goal.recipe!r} are missing.",
            effect="They cannot be tried.",
            todo=f"Install the package of {package!r} again.",
        )
    return path


def _folder(package: str) -> Path | None:
    """Where a package lies. find_spec would import the packages above it, so only the first is asked for."""
    first, *rest = package.split(".")
    spec = find_spec(first)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *rest)
