"""What people are told of files that are not as they should be, in the very words; and that a click mends them."""

from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from fakes.bad_files import FOUND, GOOD, LINES, NOTHING, REFUSED, ROWS, TABLE, spreadsheet, zipped
from gristmill_protocol.errors import GristmillError, TooLarge
from gristmill_trainer import catalog, files, records, sheets
from gristmill_trainer.findings import Finding
from gristmill_trainer.look import Look, look, repair

PICTURES, TEXTS = catalog.find("image-sorter"), catalog.find("text-sorter")


def recipe_for(name: str):
    return PICTURES if name.startswith("photos") else TEXTS


@pytest.fixture
def brought(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """A file as somebody brought it, alone in a folder."""

    def write(name: str, content: bytes) -> Path:
        folder = tmp_path / "brought"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return folder / name

    return write


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_used_says_so(kind: str, brought: Callable[[str, bytes], Path]) -> None:
    name, content, *sentences = REFUSED[kind]
    path = brought(name, content)

    with pytest.raises(GristmillError) as refused:
        look(path, recipe_for(name))

    assert [refused.value.what, refused.value.effect, refused.value.todo] == sentences
    assert [one.name for one in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_wrong_with_a_file_is_said_and_a_click_mends_it(
    kind: str, brought: Callable[[str, bytes], Path], tmp_path: Path
) -> None:
    name, content, level, sentence, effect, fix, button = FOUND[kind]
    path = brought(name, content)

    found = the_finding(look(path, recipe_for(name)), sentence)

    assert (found.level, found.effect, found.fix) == (level, effect, fix)
    assert (found.repair.button if found.repair else None) == button
    if found.repair:
        mended = repair(path, [found.repair.id], tmp_path / "mended", recipe=recipe_for(name))
        assert sentence not in [one.sentence for one in look(mended, recipe_for(name)).findings]
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("limit", "name", "content", "sentence"),
    [
        ((files, "MAX_FILE_BYTES", 1_000), "mails.csv", ROWS.encode() * 800,
         "'mails.csv' has 2 MB; a file may have 1 MB."),
        ((files, "FREE_EXPANSION_BYTES", 1_000), "photos.zip", zipped({"cat/1.png": bytes(3_000_000)}),
         "'photos.zip' would unpack to 3 MB, more than 200 times its size."),
        ((files, "MAX_FILES", 10), "photos.zip", zipped(GOOD), "'photos.zip' holds 50 files with 1 MB."),
        ((sheets, "MAX_UNPACKED_BYTES", 1_000), "mails.xlsx", spreadsheet(),
         "'mails.xlsx' would unpack to more than 0 MB."),
        ((sheets, "MAX_PART_BYTES", 100), "mails.xlsx", spreadsheet(),
         "'mails.xlsx' has a part 'docProps/app.xml' of more than 0 MB."),
        ((sheets, "MAX_COLUMNS", 1), "mails.xlsx", spreadsheet(), "'mails.xlsx' has more than 1 columns."),
        ((records, "MAX_CELLS", 50), "mails.csv", TABLE.encode(), "'mails.csv' has more than 50 cells."),
        ((records, "MAX_CELLS", 50), "mails.jsonl", LINES, "'mails.jsonl' has more than 50 cells."),
    ],
)  # fmt: skip
def test_a_file_that_is_too_large_says_so(
    limit: tuple[object, str, int], name: str, content: bytes, sentence: str, brought: Callable[[str, bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(*limit)

    with pytest.raises(TooLarge) as refused:
        look(brought(name, content), recipe_for(name))

    assert refused.value.what == sentence
    assert refused.value.effect == NOTHING
    assert refused.value.todo


def test_a_spreadsheet_that_claims_a_billion_cells_is_given_up(brought: Callable[[str, bytes], Path]) -> None:
    def far_away(book: openpyxl.Workbook) -> None:
        for row in range(70, 1_000_000, 60_000):
            book.worksheets[0].cell(row, 16_000, "x")

    with pytest.raises(TooLarge, match="more than 1,000 columns"):
        look(brought("mails.xlsx", spreadsheet(far_away)), TEXTS)


def the_finding(seen: Look, sentence: str) -> Finding:
    assert sentence in [one.sentence for one in seen.findings]
    return next(one for one in seen.findings if one.sentence == sentence)
