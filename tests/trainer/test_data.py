import os
import stat
import string
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill_protocol.errors import BadData, NoSpace, TooLarge
from gristmill_trainer import files
from gristmill_trainer.data import DataView

# What a person may call a file, apart from a drive's letter and what desktops leave behind.
names = st.text(string.ascii_letters + string.digits + "äß猫 -_,;:'\u202f", min_size=1, max_size=12).filter(
    lambda name: name.strip() == name and name[1:] != ":" and name not in files.IGNORED
)


def make_folder(root: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def make_zip(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def test_folder_gives_examples_in_the_order_of_their_names(tmp_path: Path) -> None:
    make_folder(tmp_path, {"dog/2.png": b"d2", "cat/1.png": b"c1", "dog/10.png": b"d10"})

    view = DataView.open(tmp_path)

    assert [(one.place, one.answer, one.content) for one in view] == [
        ("cat/1.png", "cat", b"c1"),
        ("dog/10.png", "dog", b"d10"),
        ("dog/2.png", "dog", b"d2"),
    ]
    assert view.answers == {"cat": 1, "dog": 2}
    assert view.size_bytes == 7


def test_what_desktops_leave_behind_is_not_seen(tmp_path: Path) -> None:
    make_folder(
        tmp_path, {"cat/1.png": b"c", "cat/.DS_Store": b"x", "dog/Thumbs.db": b"x", "dog/1.png": b"d", ".git/x": b""}
    )

    assert [one.place for one in DataView.open(tmp_path)] == ["cat/1.png", "dog/1.png"]


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"key")
    make_folder(tmp_path / "set", {"cat/1.png": b"c", "dog/1.png": b"d"})
    (tmp_path / "set" / "cat" / "2.png").symlink_to(secret)

    assert b"key" not in {one.content for one in DataView.open(tmp_path / "set")}


def test_folders_around_the_answers_are_taken_off(tmp_path: Path) -> None:
    contents = {"cat/1.png": b"c", "dog/1.png": b"d"}
    plain = DataView.open(make_folder(tmp_path / "plain", contents))
    wrapped = DataView.open(make_zip(tmp_path / "w.zip", {f"my/animals/{name}": one for name, one in contents.items()}))

    assert list(wrapped) == list(plain)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.dictionaries(
        names, st.dictionaries(names, st.binary(max_size=20), min_size=1, max_size=3), min_size=2, max_size=4
    )
)
def test_packing_gives_the_same_bytes_from_folder_zip_and_pack(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[str, dict[str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("pack")
    contents = {f"{answer}/{name}": content for answer, files in answers.items() for name, content in files.items()}
    folder = DataView.open(make_folder(root / "folder", contents))
    archive = DataView.open(make_zip(root / "a.zip", dict(reversed(contents.items()))))

    packed = folder.pack(root / "packed")

    assert archive.pack(root / "packed2") == packed
    assert DataView.open(root / "packed").pack(root / "packed3") == packed
    assert {one.place: one.content for one in DataView.open(root / "packed")} == contents


def test_pack_does_not_depend_on_times_and_modes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", {"cat/1.png": b"c", "dog/1.png": b"d"})
    before = DataView.open(folder).pack(tmp_path / "one")

    os.utime(folder / "cat" / "1.png", (0, 0))
    (folder / "dog" / "1.png").chmod(0o600)

    assert DataView.open(folder).pack(tmp_path / "two") == before


@pytest.mark.parametrize(
    "name", ["../cat/1.png", "/etc/passwd", "cat/../../1.png", "cat\\..\\1.png", "C:/cat/1.png", "cat/1\n.png"]
)
def test_a_zip_that_names_a_place_outside_itself_is_refused(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "a.zip", {name: b"x", "dog/1.png": b"d"})

    with pytest.raises(BadData, match="not allowed"):
        DataView.open(path)


def test_a_zip_with_a_file_that_has_no_name_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"Q": b"x", "dog/1.png": b"d"})
    path.write_bytes(path.read_bytes().replace(b"Q", b"\0"))

    with pytest.raises(BadData, match="not allowed"):
        DataView.open(path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("cat/1.png")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")

    with pytest.raises(BadData, match="link"):
        DataView.open(path)


def test_a_zip_packed_so_that_reading_it_could_take_gigabytes_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", b"x")

    with pytest.raises(BadData, match="unusual way"):
        DataView.open(tmp_path / "a.zip")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE_EXPANSION_BYTES", 1_000)
    path = make_zip(tmp_path / "bomb.zip", {"cat/1.png": b"\0" * 3_000_000, "dog/1.png": b"d"})

    with pytest.raises(TooLarge, match="200 times"):
        DataView.open(path)


def test_a_file_that_is_too_large_is_refused_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    view = DataView.open(make_folder(tmp_path, {"cat/1.png": b"c" * 11, "dog/1.png": b"d"}))

    with pytest.raises(TooLarge, match=r"cat/1\.png"):
        list(view)


def test_a_damaged_zip_says_which_file_cannot_be_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"cat/1.png": bytes(range(256)), "dog/1.png": b"d"})
    damaged = bytearray(path.read_bytes())
    damaged[45:60] = b"\xff" * 15
    path.write_bytes(damaged)

    with pytest.raises(BadData, match=r"cat/1\.png"):
        list(DataView.open(path))


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [({}, "no files"), ({"1.png": b"x", "cat/1.png": b"x"}, "outside any answer")],
)
def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, contents: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(BadData, match=sentence):
        DataView.open(make_folder(tmp_path, contents))


def test_missing_path_and_unknown_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "book.pdf").write_bytes(b"%PDF")

    with pytest.raises(BadData, match="nothing at"):
        DataView.open(tmp_path / "gone")
    with pytest.raises(BadData, match="neither a folder, a zip nor a table"):
        DataView.open(tmp_path / "book.pdf")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mails.csv"
    path.write_text("id;Body;Topic\n1;hello there;greeting\n2;pay me;bill\n", encoding="utf-8")

    view = DataView.open(path)

    assert view.roles == {"text": "Body", "answer": "Topic"}
    assert [(one.place, one.answer, one.content) for one in view] == [
        ("row 1", "greeting", b"hello there"),
        ("row 2", "bill", b"pay me"),
    ]


def test_columns_are_guessed_by_what_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    rows = [f"{n},{'spam' if n % 2 else 'ham'},this is message number {n}" for n in range(20)]
    path.write_text("\n".join(["a,b,c", *rows]), encoding="utf-8")

    assert DataView.open(path).roles == {"text": "c", "answer": "b"}


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label,other\na,b,c\nd,e,f\n", encoding="utf-8")

    assert DataView.open(path, text_column="other").roles == {"text": "other", "answer": "label"}
    with pytest.raises(BadData, match="no column 'nope'"):
        DataView.open(path, answer_column="nope")


def test_columns_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("only\nhello\n", encoding="utf-8")

    with pytest.raises(BadData, match="its columns are 'only'"):
        DataView.open(path)


def test_a_table_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\nhello,a\nmüde,b\n".encode("latin-1"))

    [finding] = DataView.open(path).noticed
    assert (finding.level, finding.place) == ("error", "line 3")


def test_rows_without_text_or_answer_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,x\n,x\nb,\n c ,y\n", encoding="utf-8")

    view = DataView.open(path)

    assert [(one.place, one.sentence) for one in view.noticed] == [
        ("row 2", "2 examples are left out, first 'row 2': no text or no answer.")
    ]
    assert [one.content for one in view] == [b"a", b"c"]


def test_a_table_packs_to_the_same_bytes_from_csv_json_lines_and_pack(
    tmp_path: Path, write_json_lines: Callable[..., Path]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text('text,label\n"grün, ja",x\nb,y\n', encoding="utf-8-sig")
    lines = write_json_lines({"text": "grün, ja", "label": "x"}, {"text": "b", "label": "y"})

    packed = DataView.open(table).pack(tmp_path / "one")

    assert DataView.open(lines).pack(tmp_path / "two") == packed
    assert DataView.open(tmp_path / "one").pack(tmp_path / "three") == packed


def test_half_a_character_in_json_does_not_break_packing(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a\\ud800", "label": "x"}\n', encoding="utf-8")

    assert [one.content for one in DataView.open(path)] == [b"a?"]


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n[1]\n', encoding="utf-8")

    view = DataView.open(path)

    assert len(view) == 1
    assert [one.place for one in view.noticed] == ["line 2"]


def test_unclosed_quotes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label\n"a,x\n', encoding="utf-8")

    with pytest.raises(BadData, match="on line 2 a quotation mark opens"):
        DataView.open(path)


def test_a_table_that_could_not_be_opened_again_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "a,x\nb,y\n" * 100, encoding="utf-8")
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1_000)
    view = DataView.open(path)

    with pytest.raises(TooLarge, match=r"t\.csv"):
        view.pack(tmp_path / "packed")
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    view = DataView.open(make_folder(tmp_path / "set", {"cat/1.png": b"c", "dog/1.png": b"d"}))

    with pytest.raises(NoSpace, match="No such file"):
        view.pack(tmp_path / "gone" / "packed")
