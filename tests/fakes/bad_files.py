"""Files that are not as they should be, and what people are told of them, in the very words."""

import io
import stat
import zipfile
from collections.abc import Callable

import openpyxl
from openpyxl.styles import PatternFill
from PIL import Image

NOTHING = "Nothing was ordered or charged."
FOLDERS = (
    "Make one folder per answer and put its files inside (a zip of that is fine too), or bring a table (CSV or XLSX) "
    "with a column of texts and a column of answers."
)
ROWS = "".join(f"message number {number},{'wish' if number % 2 else 'bill'}\n" for number in range(60))
TABLE = "text,label\n" + ROWS
LINES = b"".join(
    b'{"text": "text %d", "label": "%s"}\n' % (number, b"yes" if number % 2 else b"no") for number in range(50)
)


def picture(shade: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, shade).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = {
    f"{answer}/{number:02}.png": picture(shade + number)
    for answer, shade in (("cat", 0), ("dog", 100))
    for number in range(25)
}


def zipped(contents: dict[str, bytes], *, flags: int = 0, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = ((stat.S_IFLNK if name == link else stat.S_IFREG) | 0o644) << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    packed = bytearray(buffer.getvalue())
    if flags:
        packed[6] |= flags
        packed[packed.index(b"PK\x01\x02") + 8] |= flags
    return bytes(packed)


def spreadsheet(*changes: Callable[[openpyxl.Workbook], None]) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for line in TABLE.splitlines():
        book.active.append(line.split(","))
    for change in changes:
        change(book)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def a_formula(book: openpyxl.Workbook) -> None:
    book.worksheets[0]["B3"] = '=A1&"x"'


def merged_cells(book: openpyxl.Workbook) -> None:
    book.worksheets[0].merge_cells("B4:B6")


def a_second_sheet(book: openpyxl.Workbook) -> None:
    book.create_sheet("Notes")["A1"] = "mine"


def a_coloured_sheet_in_front(book: openpyxl.Workbook) -> None:
    for cell in book.create_sheet("Cover", 0)["A1":"C3"]:
        for one in cell:
            one.fill = PatternFill("solid", "00FF00")


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
HUGE_PICTURE = picture(0, (20_000, 20_000))

# Files that give no look at all: (file name, content, what happened, its effect, what to do).
REFUSED = {
    "an empty file": (
        "mails.csv", b"", "'mails.csv' is empty.", NOTHING, "Save it again, and see that it is the right file.",
    ),
    "an empty zip": ("photos.zip", zipped({}), "'photos.zip' holds no files.", NOTHING, FOLDERS),
    "a zip in a zip": (
        "photos.zip", zipped(GOOD | {"more.zip": zipped(GOOD)}), "There is another zip in 'photos.zip': 'more.zip'.",
        f"What is in it would not be seen. {NOTHING}", "Unpack it, and make one zip of plain folders, one per answer.",
    ),
    "a way out of a zip": (
        "photos.zip", zipped(GOOD | {"../x.png": b""}),
        "The file name '../x.png' is not allowed: it leads elsewhere, or has signs that names should not have.",
        NOTHING, "Rename it to plain letters and digits.",
    ),
    "a link in a zip": (
        "photos.zip", zipped(GOOD | {"cat/x.png": b"/etc/passwd"}, link="cat/x.png"),
        "The zip 'photos.zip' cannot be used: 'cat/x.png' is a link to another place.",
        NOTHING, "Make it again from plain folders, one per answer.",
    ),
    "a zip with a password": (
        "photos.zip", zipped({"cat/1.png": b"x"}, flags=1),
        "The zip 'photos.zip' cannot be used: it is protected by a password.",
        NOTHING, "Make it again from plain folders, one per answer.",
    ),
    "a spreadsheet with a password": (
        "mails.xlsx", OLE + "EncryptedPackage".encode("utf-16-le"),
        "The spreadsheet 'mails.xlsx' is protected by a password.", NOTHING, "Save it without a password.",
    ),
    "an old spreadsheet": (
        "mails.xls", OLE, "'mails.xls' is a spreadsheet of the old kind (.xls), which is not read.",
        NOTHING, 'In the spreadsheet program, choose "Save as", then CSV or XLSX.',
    ),
    "a spreadsheet that breaks off": (
        "mails.xlsx", spreadsheet()[:3_000], "'mails.xlsx' is no spreadsheet, or a damaged one.",
        NOTHING, 'In the spreadsheet program, choose "Save as", then CSV or XLSX.',
    ),
    "quotes that never close": (
        "mails.csv", (TABLE + '"hello,bill\n' + ROWS).encode(),
        "'mails.csv' cannot be read: on line 62 a quotation mark opens that is never closed.",
        f"Everything after it would be one cell. {NOTHING}",
        "Correct that line. Or: open it in a spreadsheet program and save it again as a CSV file.",
    ),
    "quotes that never close in a long table": (
        "mails.csv", (TABLE + '"hello,bill\n' + 100 * ROWS).encode(),
        "'mails.csv' cannot be read: on line 62 a quotation mark opens that is never closed.",
        f"Everything after it would be one cell. {NOTHING}",
        "Correct that line. Or: open it in a spreadsheet program and save it again as a CSV file.",
    ),
    "no table at all": (
        "mails.csv", bytes(range(256)) * 9, "'mails.csv' holds no text that can be read.", NOTHING,
        "See that it is the right file. Open it in a spreadsheet program and save it again as a CSV file.",
    ),
    "something else": (
        "book.pdf", b"%PDF-1.7", "'book.pdf' is neither a folder, a zip nor a table.", NOTHING, FOLDERS,
    ),
    "pictures without answers": (
        "photos.zip", zipped({"1.png": picture(1), "2.png": picture(2)}),
        "'1.png' lies outside any answer's folder (files like that: 2).", NOTHING, FOLDERS,
    ),
}  # fmt: skip

# Files that are read, with what is wrong: (name, content, level, what happened, its effect, what to do, button).
FOUND = {
    "letters of another system": (
        "mails.csv", (TABLE + "müde,bill\n").encode("cp1252"), "error",
        "'mails.csv' was most likely saved in an older way (Windows, Western European), as line 62 shows.",
        "Read the wrong way, letters such as ü and é turn into others.",
        'See that they are right in the examples, or save it again as "CSV UTF-8".', "The letters are right",
    ),
    "letters two bytes wide": (
        "mails.csv", (TABLE + "müde,bill\n").encode("utf-16"), "error",
        "'mails.csv' was most likely saved in a rare way (UTF-16), as line 1 shows.",
        "Read the wrong way, letters such as ü and é turn into others.",
        'See that they are right in the examples, or save it again as "CSV UTF-8".', "The letters are right",
    ),
    "one answer only": (
        "photos.zip", zipped({name: one for name, one in GOOD.items() if name.startswith("cat")}), "error",
        "All examples have the same answer, 'cat': there is nothing to tell apart.", "",
        "Add examples of at least one other answer.", None,
    ),
    "a damaged picture": (
        "photos.zip", zipped(GOOD | {"cat/x.png": picture(1)[:20] + b"junk" * 9}), "error",
        "'cat/x.png' cannot be used: it is damaged or no picture.", "", "Replace it, or leave it out.", "Leave it out",
    ),
    "a picture that breaks off": (
        "photos.zip", zipped(GOOD | {"cat/x.png": picture(1, (99, 99))[:-30]}), "error",
        "'cat/x.png' cannot be used: it breaks off before its end.", "", "Replace it, or leave it out.", "Leave it out",
    ),
    "texts called pictures": (
        "photos.zip", zipped(GOOD | {"cat/x.png": b"hello", "dog/x.png": b"hi"}), "error",
        "'cat/x.png' cannot be used: it is a text, not a picture (files like that: 2).", "",
        "Replace it, or leave it out.", "Leave these 2 out",
    ),
    "a picture of enormous size": (
        "photos.zip", zipped(GOOD | {"cat/x.png": HUGE_PICTURE}), "error",
        "'cat/x.png' cannot be used: it has too many pixels.", "", "Replace it, or leave it out.", "Leave it out",
    ),
    "a file that is no picture": (
        "photos.zip", zipped(GOOD | {"cat/notes.txt": b"mine"}), "warning",
        "1 example is left out, first 'cat/notes.txt': a name that is not a picture's.", "",
        "Correct them if they matter.", "Leave it out",
    ),
    "too few of an answer": (
        "photos.zip", zipped(GOOD | {f"cow/{number}.png": picture(200 + number) for number in range(3)}), "error",
        "'cow' has only 3 examples; each answer needs 5 or more.", "", "Add examples, or leave that answer out.",
        "Leave 'cow' out",
    ),
    "too many answers": (
        "mails.csv", ("text,label\n" + "".join(f"text {n},answer {n}\n" for n in range(1_500))).encode(), "error",
        "There are 1500 different answers; at most 1000 can be learnt.", "", "Join answers that mean the same.", None,
    ),
    "formulas without a value": (
        "mails.xlsx", spreadsheet(a_formula), "warning", "Cell B3 is a formula without a value.", "It counts as empty.",
        "Open it in a spreadsheet program, save it and bring it again.", None,
    ),
    "merged cells": (
        "mails.xlsx", spreadsheet(merged_cells), "warning",
        "Some cells are merged; only the first of each such group has a value.",
        "The other rows that a merged cell spans lack it.", "Unmerge them, and fill the cells in.", None,
    ),
    "several sheets": (
        "mails.xlsx", spreadsheet(a_second_sheet), "note", "There are 2 sheets; only 'Sheet' is read.", "",
        "Move the sheet that matters to the front.", None,
    ),
    "a sheet in front that is only coloured": (
        "mails.xlsx", spreadsheet(a_second_sheet, a_coloured_sheet_in_front), "note",
        "There are 2 sheets; only 'Sheet' is read.", "", "Move the sheet that matters to the front.", None,
    ),
    "a very long text among copies": (
        "mails.csv", (TABLE + f'"{"long, " * 30_000}",wish\nmessage number 3,wish\n').encode(), "note",
        "1 example is a copy of another one.", "A copy counts twice.", "", "Keep one of each",
    ),
    "numbers among words": (
        "mails.csv", (TABLE + "hello,12\n").encode(), "warning",
        "The answers in 'label' are mixed: in row 61 it is a number, '12'.",
        "Each of them is learnt as an answer of its own.",
        "See that this is the right column, and that no cells have slipped.", None,
    ),
    "copies": (
        "mails.csv", (TABLE + "message number 3,wish\n" * 2).encode(), "note",
        "2 examples are copies of another one.", "A copy counts twice.", "", "Keep one of each",
    ),
    "copies that contradict": (
        "mails.csv", (TABLE + "message number 3,bill\n").encode(), "warning",
        "'row 4' (wish) and 'row 61' (bill) are the same but have different answers.",
        "Nobody can learn which of them is right.", "Keep the one with the right answer.", "Leave these 2 out",
    ),
    "rows with too many cells": (
        "mails.csv", (TABLE + "well, no,bill\n").encode(), "warning",
        "1 example is left out, first 'row 61': more cells than there are columns (2).", "",
        "Put quotation marks around texts that hold a comma, or correct those rows.", "Leave it out",
    ),
    "rows with a gap": (
        "mails.csv", (TABLE + "hello\n,bill\n").encode(), "warning",
        "2 examples are left out, first 'row 61': no text or no answer.", "", "Correct them if they matter.",
        "Leave these 2 out",
    ),
    "a broken line": (
        "mails.jsonl", LINES + b"{oh\n", "warning",
        "1 example is left out, first 'line 51': a line of 'mails.jsonl' that is broken.", "",
        "Correct those lines if they matter.", "Leave it out",
    ),
    "no names above the columns": (
        "mails.csv", ROWS.encode(), "warning", "The first line looks like an example: 'bill' is one of the answers.",
        "It is taken for the names of the columns, 'message number 0' and 'bill', and not learnt from.",
        "Let it count as an example, or write names above the columns.", "Count it as an example",
    ),
    "answers spelt in two ways": (
        "mails.csv", (TABLE + "".join(f"number {n},Wish\n" for n in range(20))).encode(), "warning",
        "'Wish' and 'wish' differ only in capitals or spaces.", "They are learnt as different answers.",
        "Join them if they mean the same.", "Join 'Wish' with 'wish'",
    ),
    "pictures instead of texts": (
        "mails.zip", zipped(GOOD), "error", "'cat/00.png' is not a plain text (files like that: 50).", "",
        "Save it as plain text (UTF-8), or leave it out.", None,
    ),
    "one column": (
        "mails.csv", b"only\nhello\n", "error",
        "'mails.csv' does not show which column holds the texts and which the answers; its columns are 'only'.",
        NOTHING, "Choose the column of the texts and that of the answers.", None,
    ),
}  # fmt: skip
