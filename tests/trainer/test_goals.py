"""What people who know nothing of training are told: it fits the recipe behind it, and the example data are good."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill_protocol.errors import MissingPart
from gristmill_protocol.progress import Finished, TrainerEvent
from gristmill_trainer import catalog, session
from gristmill_trainer.data import DataView
from gristmill_trainer.goals import Goal, read_goal
from gristmill_trainer.recipe import Gpu, report_on

MakeTask = Callable[..., Path]

GOALS = [goal for recipe in catalog.recipes() if (goal := catalog.goal(recipe.info.id)) is not None]


def test_pictures_and_messages_can_be_taught_and_programs_are_for_developers() -> None:
    assert [goal.recipe for goal in GOALS] == ["image-sorter", "text-sorter"]


def test_no_recipe_is_imported_for_the_gallery() -> None:
    shown = "from gristmill_trainer import catalog; print(catalog.example(catalog.goal('text-sorter')).name)"
    code = f"import sys; {shown}; print([name for name in sys.modules if name.startswith('gristmill_trainer.recipes')])"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines() == ["example.csv", "[]"]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.recipe)
def test_every_question_is_a_setting_for_everyone_and_every_choice_is_allowed(goal: Goal) -> None:
    recipe = catalog.find(goal.recipe)
    stats = report_on(recipe, DataView.open(catalog.example(goal))).stats

    for_everyone = [
        name for name, field in recipe.Settings.model_fields.items() if field.json_schema_extra == {"level": "everyone"}
    ]
    assert [question.setting for question in goal.questions] == for_everyone
    for question in goal.questions:
        for value in [choice.value for choice in question.choices] or [True, False]:
            assert recipe.plan({question.setting: value}, stats, Gpu()).settings[question.setting] == value


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.recipe)
def test_a_table_has_a_question_for_each_of_its_parts(goal: Goal) -> None:
    data = DataView.open(catalog.example(goal))

    assert set(goal.parts) == set(data.roles)
    assert goal.table == data.is_table


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "least"), [(GOALS[0], 0.95), (GOALS[1], 0.8)], ids=lambda one: str(one)[:20])
def test_example_data_are_flawless_and_learnt_well(goal: Goal, least: float, make_task: MakeTask) -> None:
    path = catalog.example(goal)
    events: list[TrainerEvent] = []

    session.run(make_task(path, settings={"quality": "quick"}), events.append, lambda: False)

    assert report_on(catalog.find(goal.recipe), DataView.open(path)).findings == ()
    assert isinstance(events[-1], Finished)
    assert events[-1].scorecard["accuracy"] >= least


def test_a_goal_that_cannot_be_read_names_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "odd_recipe"
    package.mkdir()
    (package / "goal.toml").write_text('title = "Teach"\n')
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(MissingPart, match=r"'odd' has a goal\.toml"):
        read_goal("odd", "odd_recipe")
    assert read_goal("other", "a_package_that_nobody_has") is None
