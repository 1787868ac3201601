"""Files on their way in: whole or not at all, inside their folder, no more than may be brought."""

from hashlib import sha256
from pathlib import Path

import pytest

from fakes.studio_side import Browser, pages
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


async def test_pieces_join_up_and_a_piece_sent_again_says_which_is_next(browser: Browser) -> None:
    draft, proof = await begun(browser)

    assert await put(browser, draft, proof, CONTENT[:4000]) == (200, {"offset": 4000})
    status, said = await put(browser, draft, proof, CONTENT[:4000])
    assert (status, said["details"]) == (409, {"offset": 4000})
    assert (await browser.http.get(f"{draft}/pieces/{MARK}")).json() == {"offset": 4000}
    await browser.open(f"{draft}/files")
    assert "so far" not in browser.text()
    assert await put(browser, draft, proof, CONTENT[4000:], at=4000) == (200, {"offset": len(CONTENT)})

    await browser.open(f"{draft}/files")
    assert "1 file so far photos.zip 10 KB" in browser.text()


def outside(root: Path) -> set[Path]:
    """What lies outside the folder of the pages."""
    return {path for path in root.rglob("*") if "studio" not in path.parts and "coordinator.db" not in path.name}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/../../x", "a/../../x", "..", "a\0b.png", "x" * 300, "C:/x"])
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


async def test_pictures_of_one_kind_are_put_into_its_folder(browser: Browser) -> None:
    await begun(browser)
    for kind in ("ripe", "unripe"):
        await browser.press("Add these, then more", files={"files": ("1.png", CONTENT)}, answer=kind)

    assert "2 files so far ripe/1.png 10 KB unripe/1.png 10 KB" in browser.text()


async def test_a_form_without_a_file_says_so(browser: Browser) -> None:
    await begun(browser)
    await browser.press("Use these")

    assert "You chose no file." in browser.text()
