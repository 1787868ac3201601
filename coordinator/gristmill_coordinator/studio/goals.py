"""What can be taught here: goals as recipes tell them, and the answers to a goal's questions as settings."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import structlog

from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import GristmillError, NotFound
from gristmill_trainer import catalog
from gristmill_trainer.goals import Goal

logger = structlog.get_logger(__name__)


def gallery(studio: Studio) -> list[Goal]:
    """The goals whose recipes are paid on this coordinator's chain, by recipe; one that cannot be read is left out."""
    return [goal for recipe_id in sorted(studio.co.recipe_ids) if (goal := _goal(recipe_id)) is not None]


def find(studio: Studio, recipe_id: str) -> Goal:
    """Raises:
    NotFound: that cannot be taught here.
    """
    goal = _goal(recipe_id) if recipe_id in studio.co.recipe_ids else None
    if goal is None:
        raise NotFound("This cannot be taught here.", todo="Choose a goal on the first page.")
    return goal


@cache
def _goal(recipe_id: str) -> Goal | None:
    try:
        return catalog.goal(recipe_id)
    except GristmillError as err:
        logger.warning("goal_left_out", recipe=recipe_id, why=err.what)
        return None


def defaults(goal: Goal) -> dict[str, Any]:
    """What each question is answered with unless somebody chooses otherwise."""
    fields = catalog.find(goal.recipe).Settings.model_fields
    return {question.setting: fields[question.setting].get_default() for question in goal.questions}


def settings(goal: Goal, answers: Mapping[str, str]) -> dict[str, Any]:
    """The settings that a form's answers stand for; what is none of the choices is left to the recipe."""
    found: dict[str, Any] = {}
    for question in goal.questions:
        said = answers.get(question.setting, "")
        if not question.choices:
            found[question.setting] = said == "yes"
        elif any(said == choice.value for choice in question.choices):
            found[question.setting] = said
    return found


def explained(goal: Goal, resolved: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Of every setting of a plan: what it is called, its value, what it means."""
    fields = catalog.find(goal.recipe).Settings.model_fields
    known = [(fields[name], value) for name, value in resolved.items() if name in fields]
    return [(field.title or "", value, field.description or "") for field, value in known]
