import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gristmill_protocol.errors import BadData, BadSettings, UnknownRecipe
from gristmill_protocol.jobs import DataStats
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.recipe import Gpu, Report, report_on

PICTURES = DataStats(examples=1_797, answers={str(n): 180 for n in range(10)}, shape=(1, 8, 8), size_bytes=220_000)
TEXTS = DataStats(examples=2_000, answers={"a": 900, "b": 1_100}, size_bytes=500_000)
CASES = [("image-sorter", PICTURES), ("text-sorter", TEXTS)]

PLAN_ALONE = """
import sys
from gristmill_protocol.jobs import DataStats
from gristmill_trainer import catalog, data
from gristmill_trainer.recipe import Gpu
for recipe in catalog.recipes():
    shape = (1, 8, 8) if recipe.info.id == "image-sorter" else ()
    recipe.plan({}, DataStats(examples=10, answers={"a": 5, "b": 5}, shape=shape), Gpu())
print(sorted({"torch", "numpy", "PIL"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_planning_loads_nothing_heavy() -> None:
    ran = subprocess.run([sys.executable, "-c", PLAN_ALONE], capture_output=True, text=True, check=True, timeout=30)

    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(("recipe_id", "stats"), CASES)
def test_a_plan_is_pure(recipe_id: str, stats: DataStats) -> None:
    recipe = catalog.find(recipe_id)
    plans = [recipe.plan({"quality": "best"}, stats, Gpu()) for _ in range(10)]

    assert all(plan == plans[0] for plan in plans)


@pytest.mark.parametrize(("recipe_id", "stats"), CASES)
@pytest.mark.parametrize("quality", ["quick", "balanced", "best"])
def test_planning_a_plans_own_settings_changes_nothing(recipe_id: str, stats: DataStats, quality: str) -> None:
    recipe = catalog.find(recipe_id)
    plan = recipe.plan({"quality": quality}, stats, Gpu())

    assert recipe.plan(plan.settings, stats, Gpu()) == plan
    assert set(plan.settings) == set(recipe.Settings.model_fields)
    assert None not in plan.settings.values()


@pytest.mark.parametrize(("recipe_id", "stats"), CASES)
def test_better_costs_more(recipe_id: str, stats: DataStats) -> None:
    recipe = catalog.find(recipe_id)
    flops = [recipe.plan({"quality": quality}, stats, Gpu()).flops for quality in ("quick", "balanced", "best")]

    assert flops == sorted(flops)
    assert len(set(flops)) == 3


@pytest.mark.parametrize(("recipe_id", "stats"), CASES)
@pytest.mark.parametrize("flops_per_s", [1, 10**8, 10**10, 10**14])
def test_the_machine_changes_only_the_cuts(recipe_id: str, stats: DataStats, flops_per_s: int) -> None:
    recipe = catalog.find(recipe_id)
    cuts = {"segment_steps", "end_steps", "window_segments"}
    usual, plan = (recipe.plan({}, stats, Gpu(flops_per_s=rate)) for rate in (10**10, flops_per_s))

    assert plan.model_dump(exclude=cuts) == usual.model_dump(exclude=cuts)
    assert plan.segments >= 8


def test_a_short_job_is_one_window_of_about_thirty_segments() -> None:
    plan = catalog.find("image-sorter").plan({}, PICTURES, Gpu())

    assert 24 <= plan.segments <= 32
    assert 7 * plan.end_steps <= plan.segment_steps
    assert plan.window_segments >= plan.segments


def test_a_long_job_has_segments_of_about_a_minute_and_a_half_and_windows_of_an_hour() -> None:
    gpu = Gpu(flops_per_s=10**7)
    plan = catalog.find("image-sorter").plan({}, PICTURES, gpu)
    segment_s = plan.segment_steps * plan.flops / plan.steps / gpu.flops_per_s

    assert 60 <= segment_s <= 120
    assert 3_000 <= plan.window_segments * segment_s <= 4_200


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quality": "perfect"}, "quality"),
        ({"colour": True}, "colour"),
        ({"rounds": 0}, "rounds"),
        ({"batch": "x"}, "batch"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadSettings, match=named):
        catalog.find("image-sorter").plan(settings, PICTURES, Gpu())


def test_data_of_the_wrong_kind_are_not_planned() -> None:
    with pytest.raises(BadData, match="no pictures"):
        catalog.find("image-sorter").plan({}, TEXTS, Gpu())
    with pytest.raises(BadData, match="no texts"):
        catalog.find("text-sorter").plan({}, PICTURES, Gpu())


def test_every_setting_has_a_plain_title_and_says_who_is_shown_it() -> None:
    for recipe in catalog.recipes():
        for name, field in recipe.Settings.model_fields.items():
            assert field.title, name
            assert isinstance(field.json_schema_extra, dict)
            assert field.json_schema_extra["level"] in ("everyone", "expert")


def test_recipes_state_their_terms() -> None:
    assert [recipe.info.id for recipe in catalog.recipes()] == ["image-sorter", "script", "text-sorter"]
    for recipe in catalog.recipes():
        # Nobody wrote what a script does but its renter, and who runs it again is paid like who ran it first.
        assert (recipe.info.royalty_bps, recipe.info.verifier_bps) == ((0, 0) if recipe.info.whole else (300, 600))
        assert recipe.info.titles["en"]


def test_an_unknown_recipe_names_those_like_it() -> None:
    with pytest.raises(UnknownRecipe, match="image-sorter") as caught:
        catalog.find("image-sortr")
    assert caught.value.details["near"] == ["image-sorter", "text-sorter"]

    with pytest.raises(UnknownRecipe, match="Installed are image-sorter, script, text-sorter"):
        catalog.find("zzz")


def folder_of(root: Path, answers: dict[str, int]) -> Path:
    """Plain grey pictures, each one different."""
    shade = 0
    for answer, count in answers.items():
        (root / answer).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), shade % 251).resize((8 + shade // 251, 8)).save(root / answer / f"{number:03}.png")
            shade += 1
    return root


def checked(recipe: str, path: Path) -> Report:
    return report_on(catalog.find(recipe), DataView.open(path))


def test_good_pictures_have_no_findings(digits: Path) -> None:
    report = checked("image-sorter", digits)

    report.raise_if_unusable()
    assert report.findings == ()
    assert report.stats.shape == (1, 8, 8)
    assert report.stats.answers == dict.fromkeys("01234", 20)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [({"cat": 30}, "All examples have the same answer, 'cat'"), ({"cat": 30, "dog": 4}, "'dog' has only 4 examples")],
)
def test_too_few_pictures_are_an_error(tmp_path: Path, answers: dict[str, int], sentence: str) -> None:
    with pytest.raises(BadData, match=sentence):
        checked("image-sorter", folder_of(tmp_path, answers)).raise_if_unusable()


def test_damaged_pictures_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "cat" / "000.png").write_bytes(b"no picture")
    (tmp_path / "dog" / "019.png").write_bytes(b"")

    with pytest.raises(BadData, match=r"'cat/000.png' cannot be used: .* \(files like that: 2\)") as caught:
        checked("image-sorter", tmp_path).raise_if_unusable()
    assert caught.value.details["place"] == "cat/000.png"


def test_copies_contradictions_and_other_files_are_noticed(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "cat" / "copy.png").write_bytes((tmp_path / "cat" / "000.png").read_bytes())
    (tmp_path / "dog" / "torn.png").write_bytes((tmp_path / "cat" / "001.png").read_bytes())
    (tmp_path / "cat" / "notes.txt").write_text("mine")

    report = checked("image-sorter", tmp_path)

    report.raise_if_unusable()
    assert [(one.level, one.place) for one in report.findings] == [
        ("warning", "cat/notes.txt"),
        ("warning", "cat/001.png"),
        ("note", "cat/copy.png"),
    ]
    assert report.stats.examples == 42


def test_a_table_is_no_set_of_pictures(topics: Path) -> None:
    with pytest.raises(BadData, match="is a table, not pictures"):
        checked("image-sorter", topics).raise_if_unusable()


def test_texts_are_counted_and_the_columns_told(topics: Path) -> None:
    report = checked("text-sorter", topics)

    report.raise_if_unusable()
    assert report.roles == {"text": "text", "answer": "label"}
    assert len(report.stats.answers) == 5
    assert report.stats.shape == ()


def test_folders_of_texts_are_read_and_pictures_among_them_refused(tmp_path: Path, digits: Path) -> None:
    for answer in ("good", "bad"):
        (tmp_path / answer).mkdir()
        for number in range(6):
            (tmp_path / answer / f"{number}.txt").write_text(f"a {answer} text, {number}", encoding="utf-8")

    checked("text-sorter", tmp_path).raise_if_unusable()
    with pytest.raises(BadData, match="not a plain text"):
        checked("text-sorter", digits).raise_if_unusable()


def test_rows_left_out_are_a_warning(write_json_lines: Callable[..., Path]) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(60)]
    report = checked("text-sorter", write_json_lines(*rows, {"text": "", "label": "a"}))

    report.raise_if_unusable()
    assert [(one.level, one.place) for one in report.findings] == [("warning", "row 61")]
