"""Files on their way in: whole or not at all, inside their folder, no more than may be brought."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from fakes.studio_side import Browser, pages, text_table
from gristmill_coordinator.studio.settings import StudioSettings

MARK = sha256(b"photos.zip").hexdigest()
CONTENT = bytes(range(256)) * 40


async def begun(browser: Browser) -> tuple[str, dict[str, str]]:
    """The path of a draft without examples, and the proof that goes with what is sent to it."""
    await browser.open("/")
    await browser.press("Use my own photos")
    proof = {"x-csrf": browser.form("Use these").values["csrf"]}
    return browser.url.removesuffix("/files"), proof


async def put(browser: Browser, draft: str, proof: dict[str, str], content: bytes, **query: object) -> tuple[int, dict]:
    params = {"name": "photos.zip", "size": len(CONTENT), "at": 0, **query}
    answer = await browser.http.put(f"{draft}/pieces/{MARK}", params=params, content=content, headers=proof)
    return answer.status_code, answer.json()


async def here(browser: Browser, draft: str, mark: str = MARK, **query: object) -> int:
    """How much of a file is here, as a browser asks before it sends the rest."""
    params = {"name": "photos.zip", "size": len(CONTENT), **query}
    offset: int = (await browser.http.get(f"{draft}/pieces/{mark}", params=params)).json()["offset"]
    return offset


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Browser]:
    """Somebody who may bring CONTENT and a bit more."""
    settings = StudioSettings(test_money=True, max_upload_bytes=len(CONTENT) + 1_000)
    async with pages(tmp_path, settings=settings) as site:
        browser = site.browser()
        yield browser
        await browser.http.aclose()


async def test_pieces_join_up_and_a_piece_sent_again_says_which_is_next(browser: Browser) -> None:
    draft, proof = await begun(browser)

    assert await put(browser, draft, proof, CONTENT[:4000]) == (200, {"offset": 4000})
    status, said = await put(browser, draft, proof, CONTENT[:4000])
    assert (status, said["details"]) == (409, {"offset": 4000})
    assert await here(browser, draft) == 4000
    await browser.open(f"{draft}/files")
    assert "so far" not in browser.text()
    assert await put(browser, draft, proof, CONTENT[4000:], at=4000) == (200, {"offset": len(CONTENT)})

    await browser.open(f"{draft}/files")
    assert "1 file so far photos.zip 10 KB" in browser.text()


async def test_a_file_whose_last_answer_was_lost_is_not_asked_for_again(browser: Browser) -> None:
    draft, proof = await begun(browser)

    await put(browser, draft, proof, CONTENT)

    assert await here(browser, draft) == len(CONTENT)
    assert await here(browser, draft, sha256(b"corrected").hexdigest()) == 0


async def test_a_file_that_was_replaced_is_asked_for_again(browser: Browser) -> None:
    draft, proof = await begun(browser)
    await put(browser, draft, proof, CONTENT)

    await browser.press("Add these, then more", files={"files": ("photos.zip", CONTENT[::-1])})

    assert await here(browser, draft) == 0


async def test_a_file_that_came_whole_before_the_process_died_counts_when_it_is_asked_for(
    browser: Browser, tmp_path: Path
) -> None:
    draft, proof = await begun(browser)
    await put(browser, draft, proof, CONTENT[:-1])
    the_part_in(tmp_path).write_bytes(CONTENT)

    assert await here(browser, draft) == len(CONTENT)

    await browser.open(f"{draft}/files")
    assert "1 file so far photos.zip 10 KB" in browser.text()


def the_part_in(root: Path) -> Path:
    (part,) = root.rglob(MARK)
    return part


def outside(root: Path) -> set[Path]:
    """What lies outside the folder of the pages."""
    return {path for path in root.rglob("*") if "studio" not in path.parts and "coordinator.db" not in path.name}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/../../x", "a/../../x", "..", "a\0b.png", "x" * 300, "C:/x", "ж" * 150]
)
async def test_a_name_cannot_lead_out_of_the_folder(browser: Browser, tmp_path: Path, name: str) -> None:
    draft, proof = await begun(browser)
    before = outside(tmp_path)

    status, said = await put(browser, draft, proof, CONTENT, name=name)

    assert status == 400
    assert "A file cannot be called" in said["what"]
    assert outside(tmp_path) == before


async def test_more_than_may_be_brought_is_refused_and_not_kept(tmp_path: Path) -> None:
    settings = StudioSettings(test_money=True, max_upload_bytes=len(CONTENT) - 1)
    async with pages(tmp_path, settings=settings) as site:
        browser = site.browser()
        await begun(browser)
        await browser.press("Use these", files={"files": ("photos.zip", CONTENT)})

        assert "the most that is taken here" in browser.text()
        assert "so far" not in browser.text()
        await browser.http.aclose()


async def test_a_file_is_replaced_by_one_as_large(narrow: Browser) -> None:
    await begun(narrow)

    for content in (CONTENT, CONTENT[::-1], CONTENT):
        await narrow.press("Add these, then more", files={"files": ("photos.zip", content)})
        assert (narrow.status, "1 file so far" in narrow.text()) == (200, True)

    await narrow.press("Add these, then more", files={"files": ("more.zip", CONTENT[:1_001])})
    assert "the most that is taken here" in narrow.text()


async def test_what_is_refused_or_given_up_takes_no_room(narrow: Browser) -> None:
    draft, proof = await begun(narrow)
    large = CONTENT * 2
    await put(narrow, draft, proof, large[:10_000], size=len(large))

    status, said = await put(narrow, draft, proof, large[10_000:], size=len(large), at=10_000)

    assert (status, said["effect"]) == (400, "Nothing of it was kept.")
    assert await here(narrow, draft, size=len(large)) == 0
    await narrow.press("Add these, then more", files={"files": ("photos.zip", CONTENT)})
    assert "1 file so far" in narrow.text()


async def test_what_broke_off_can_be_taken_out(narrow: Browser) -> None:
    draft, proof = await begun(narrow)
    await put(narrow, draft, proof, CONTENT[:8_000])
    await narrow.press("Add these, then more", files={"files": ("other.zip", CONTENT)})
    assert "the most that is taken here" in narrow.text()
    assert "Part of a file is here as well (8 KB)." in narrow.text()

    await narrow.press("Take them all out")
    await narrow.press("Add these, then more", files={"files": ("other.zip", CONTENT)})

    assert "1 file so far other.zip 10 KB" in narrow.text()


async def test_while_examples_are_looked_at_one_has_to_wait(browser: Browser) -> None:
    draft, proof = await begun(browser)
    await browser.press("Use these", files={"files": ("photos.zip", CONTENT)})
    assert "We are looking" in browser.text()

    status, said = await put(browser, draft, proof, CONTENT)

    assert (status, said["details"]) == (409, {})
    assert said["what"] == "Your examples are being looked at."
    assert said["todo"] == "Wait until that is done, then bring this file again."


@pytest.mark.parametrize("button", ["Use these", "Add these, then more"])
async def test_what_comes_after_a_look_is_looked_at_and_learnt(browser: Browser, button: str) -> None:
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", text_table(20))})
    await browser.until("40 messages with 2 answers")
    data = browser.url

    await browser.open(data.replace("/data", "/files"))
    await browser.press(button, files={"files": ("mails.csv", text_table(50))})
    await browser.open(data)
    if browser.url != data:
        assert "1 file so far" in browser.text()
        await browser.press("Look at them")

    await browser.until("100 messages with 2 answers")


async def test_nothing_is_looked_at_where_nothing_is(browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", text_table())})
    await browser.until("Take these columns")
    data, old = browser.url, browser.form("Take these columns")
    await browser.press("Bring other files")  # in another tab

    for answer in (await browser.http.get(data), await browser.send(old)):
        assert str(answer.url).endswith("/files")
        assert "Bring your examples" in answer.text
    assert (await browser.http.get(f"{data}/now")).headers["hx-redirect"] == data.removesuffix("/data")


async def test_pictures_of_one_kind_are_put_into_its_folder(browser: Browser) -> None:
    await begun(browser)
    for kind in ("ripe", "unripe"):
        await browser.press("Add these, then more", files={"files": ("1.png", CONTENT)}, answer=kind)

    assert "2 files so far ripe/1.png 10 KB unripe/1.png 10 KB" in browser.text()


async def test_a_form_without_a_file_says_so(browser: Browser) -> None:
    await begun(browser)
    await browser.press("Use these")

    assert "You chose no file." in browser.text()


@pytest.mark.parametrize("names", [("cats", "cats/1.png"), ("cats/1.png", "cats"), ("cats", "cats/white/1.png")])
async def test_a_file_and_a_folder_of_one_name_are_told_apart(browser: Browser, names: tuple[str, str]) -> None:
    draft, proof = await begun(browser)
    await put(browser, draft, proof, CONTENT, name=names[0])

    status, said = await put(browser, draft, proof, CONTENT, name=names[1])

    assert (status, said["what"]) == (400, f"{names[1]!r} does not fit: a file and a folder would have one name.")
    await browser.open(f"{draft}/files")
    assert "1 file so far" in browser.text()
    assert "Part of a file" not in browser.text()
