"""A look at data: what is shown of them, columns to confirm, repairs on a copy; whatever bytes somebody brings."""

import contextlib
import csv
import datetime
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gristmill_protocol.errors import BadRequest, GristmillError
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.look import SAMPLES, Look, look, repair, shown
from gristmill_trainer.recipe import Recipe

PICTURES, TEXTS = catalog.find("image-sorter"), catalog.find("text-sorter")

# Without what spreadsheets write for a formula that failed ("#VALUE!"): there it counts as empty.
cells = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=9
).filter(lambda text: not text.startswith("#"))


def picture(shade: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, shade).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-five grey pictures of each of two answers."""
    for answer, shade in (("cat", 0), ("dog", 100)):
        (tmp_path / "photos" / answer).mkdir(parents=True)
        for number in range(25):
            (tmp_path / "photos" / answer / f"{number:02}.png").write_bytes(picture(shade + number, (200, 100)))
    return tmp_path / "photos"


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: tuple[str, ...], names: tuple[str, ...] = ("body", "topic")) -> Path:
        path = tmp_path / "mails.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
        return path

    return write


MAILS = [(f"this is mail number {number}", "ab"[number % 2]) for number in range(50)]


def ids(seen: Look) -> list[str]:
    return [one.repair.id for one in seen.findings if one.repair]


def test_pictures_are_shown_small_a_few_of_each_answer(folder: Path) -> None:
    seen = look(folder, PICTURES)

    assert seen.answers == {"cat": 25, "dog": 25}
    assert {answer: len(samples) for answer, samples in seen.samples.items()} == {"cat": SAMPLES, "dog": SAMPLES}
    first = seen.samples["dog"][0]
    assert (first.place, first.answer, first.text) == ("dog/00.png", "dog", "")
    with Image.open(io.BytesIO(first.picture)) as image:
        assert (image.format, image.size) == ("PNG", (96, 48))
    assert seen.usable


def test_texts_are_shown_by_their_beginning(table: Callable[..., Path]) -> None:
    seen = look(table(("long  \n text " * 100, "a"), *MAILS), TEXTS)

    first = seen.samples["a"][0]
    assert first.text.startswith("long text long text")
    assert len(first.text) == 201
    assert first.picture == b""


def test_columns_are_guessed_and_can_be_chosen(table: Callable[..., Path]) -> None:
    path = table(*((f"n{number}", text, answer) for number, (text, answer) in enumerate(MAILS)), names=("a", "b", "c"))

    guessed, chosen = look(path, TEXTS), look(path, TEXTS, roles={"text": "a", "answer": "c"})

    assert [(role.name, role.column, role.confidence) for role in guessed.roles] == [
        ("text", "b", 0.5), ("answer", "c", 0.5),
    ]  # fmt: skip
    assert guessed.roles[0].candidates["c"] == ("a", "b", "a")
    assert [(role.column, role.confidence) for role in chosen.roles] == [("a", 1.0), ("c", 1.0)]
    assert chosen.samples["a"][0].text == "n0"


def test_a_table_whose_columns_cannot_be_guessed_leaves_them_open(table: Callable[..., Path]) -> None:
    path = table(*((f"x{number}", f"y{number}") for number in range(9)), names=("a", "b"))

    seen = look(path, TEXTS)

    assert [(role.name, role.column, role.confidence, set(role.candidates)) for role in seen.roles] == [
        ("text", "", 0.0, {"a", "b"}), ("answer", "", 0.0, {"a", "b"}),
    ]  # fmt: skip
    assert not seen.usable


def test_what_was_brought_alone_in_a_folder_is_taken_for_itself(table: Callable[..., Path], folder: Path) -> None:
    packed = table(*MAILS)
    with zipfile.ZipFile(folder.parent / "photos.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    alone = folder.parent / "alone"
    for brought, recipe in ((packed, TEXTS), (folder.parent / "photos.zip", PICTURES)):
        alone.mkdir()
        moved = brought.rename(alone / brought.name)

        assert look(alone, recipe).answers == look(moved, recipe).answers
        moved.unlink()
        alone.rmdir()


def test_repairs_are_made_together_on_a_copy(folder: Path, tmp_path: Path) -> None:
    (folder / "Cat").mkdir()
    for number in range(20):
        (folder / "Cat" / f"{number:02}.png").write_bytes(picture(200 + number))
    (folder / "cat" / "copy.png").write_bytes(picture(0, (200, 100)))
    (folder / "dog" / "odd.png").write_bytes(b"no picture")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert ids(look(folder, PICTURES)) == ["unreadable", "spelling", "copies"]

    mended = repair(folder, ["unreadable", "spelling", "copies"], tmp_path / "mended", recipe=PICTURES)

    seen = look(mended, PICTURES)
    assert seen.answers == {"cat": 45, "dog": 25}
    assert seen.findings == ()
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_a_file_that_joins_another_folder_takes_no_others_name(tmp_path: Path) -> None:
    for answer in ("a.b", "A.B", "other"):
        (tmp_path / "texts" / answer).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "texts" / answer / f"{number}").write_text(f"this is text {number} of {answer}")
    (tmp_path / "texts" / "a.b" / "5.txt").write_text("one more")

    mended = repair(tmp_path / "texts", ["spelling"], tmp_path / "mended", recipe=TEXTS)

    joined = [one.place for one in DataView.open(mended) if one.answer == "a.b"]
    assert joined[:4] == ["a.b/0", "a.b/0 (2)", "a.b/1", "a.b/1 (2)"]
    assert look(mended, TEXTS).answers == {"a.b": 11, "other": 5}


def test_a_table_in_other_letters_is_mended_before_anything_else(table: Callable[..., Path], tmp_path: Path) -> None:
    path = table(*MAILS, ("grüße", "a"), ("grüße", "a"))
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))

    assert ids(look(path, TEXTS)) == ["encoding"]
    with pytest.raises(BadRequest, match="no repair 'copies'"):
        repair(path, ["copies"], tmp_path / "mended", recipe=TEXTS)

    once = repair(path, ["encoding"], tmp_path / "once", recipe=TEXTS)
    twice = repair(once, ["copies"], tmp_path / "twice", recipe=TEXTS)
    assert [one.content.decode() for one in DataView.open(twice)][-1] == "grüße"
    assert ids(look(twice, TEXTS)) == []


def test_a_first_line_that_is_an_example_is_kept_as_one(table: Callable[..., Path], tmp_path: Path) -> None:
    path = table(*MAILS[1:], names=MAILS[0])

    mended = repair(path, ["header"], tmp_path / "mended", recipe=TEXTS)

    assert next(iter(DataView.open(mended))).content.decode() == MAILS[0][0]
    assert len(DataView.open(mended)) == len(MAILS)


def test_columns_that_somebody_chose_are_the_same_when_their_names_become_an_example(
    table: Callable[..., Path], tmp_path: Path
) -> None:
    ids_first = [(f"{number:02}", answer, text) for number, (text, answer) in enumerate(MAILS)]
    path = table(*ids_first[1:], names=ids_first[0])
    chosen = {"text": "00", "answer": "a"}
    assert "header" in ids(look(path, TEXTS, roles=chosen))

    mended = repair(path, ["header"], tmp_path / "mended", recipe=TEXTS, roles=chosen)

    first = next(iter(DataView.open(mended)))
    assert (first.content.decode(), first.answer) == ("00", "a")
    assert len(DataView.open(mended)) == len(MAILS)


def test_a_repair_that_is_not_needed_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="need no repair 'copies'"):
        repair(folder, ["copies"], tmp_path / "mended", recipe=PICTURES)
    assert not (tmp_path / "mended").exists()


def test_mistakes_are_shown_in_the_order_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    DataView.open(folder).pack(tmp_path / "packed")
    data = DataView.open(tmp_path / "packed")

    samples = shown(data, ["dog/03.png", "gone.png", "cat/01.png"])

    assert [(one.place, one.answer) for one in samples] == [("dog/03.png", "dog"), ("cat/01.png", "cat")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_a_table_packs_to_the_same_bytes_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("formats")
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
    (root / "t.jsonl").write_text("".join(lines), encoding="utf-8")
    write_spreadsheet(root / "t.xlsx", rows)

    packed = [DataView.open(root / f"t.{kind}").pack(root / "packed") for kind in ("csv", "tsv", "jsonl", "xlsx")]

    assert len(set(packed)) == 1


def write_spreadsheet(path: Path | io.BytesIO, rows: list[tuple[str, str]]) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for at, row in enumerate([("text", "label"), *rows], 1):
        for column, value in enumerate(row, 1):
            cell = book.active.cell(at, column)
            cell.value, cell.data_type = value, "s"
    book.save(path)


def test_numbers_dates_and_yes_or_no_in_a_spreadsheet_are_as_a_table_of_values_has_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    at = datetime.datetime.fromisoformat("2026-01-31 14:30")
    answers = [3, 3.5, True, datetime.date(2026, 1, 31), at, "#N/A"]
    for row in [("text", "label"), *((f"text {number}", answer) for number, answer in enumerate(answers))]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")

    seen = [one.answer for one in DataView.open(tmp_path / "t.xlsx")]

    assert seen == ["3", "3.5", "TRUE", "2026-01-31", "2026-01-31 14:30:00"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.xlsx", "t.zip", "t.png", "t"]),
    content=st.one_of(
        st.binary(max_size=300),
        st.text('ab,;\t\n\r"\\{}[]:0 ü\0', max_size=120).map(str.encode),
        st.text(max_size=60).map(lambda text: text.encode("utf-16", errors="replace")),
    ),
)
def test_any_bytes_give_a_look_or_an_error_for_people(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)

    for recipe in (TEXTS, PICTURES):
        is_said(path, recipe)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["photos.zip", "mails.xlsx", "photo.png"]), data=st.data())
def test_damage_anywhere_in_a_file_gives_a_look_or_an_error_for_people(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("damage")
    whole = bytearray(whole_file(kind))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        whole[at] = data.draw(st.integers(0, 255))
    path = root / kind
    if kind == "photo.png":  # one of several
        path = root / "photos"
        for answer in ("cat", "dog"):
            (path / answer).mkdir(parents=True)
            (path / answer / "1.png").write_bytes(whole)
    else:
        path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))] if data.draw(st.booleans()) else whole)

    is_said(path, TEXTS if kind == "mails.xlsx" else PICTURES)


def is_said(path: Path, recipe: Recipe) -> None:
    with contextlib.suppress(GristmillError):
        look(path, recipe)


@cache
def whole_file(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "photo.png":
        return picture(90, (30, 30))
    if kind == "mails.xlsx":
        write_spreadsheet(buffer, MAILS[:6])
        return buffer.getvalue()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("cat/1.png", "dog/1.png"):
            archive.writestr(name, picture(len(name)))
    return buffer.getvalue()
