"""Each file that is not as it should be, brought to the pages: its sentence, its button, and nothing half-kept."""

import asyncio
from pathlib import Path

import pytest

from fakes.bad_files import FOUND, REFUSED
from fakes.studio_side import Browser, pages, read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def _bring_all(root: Path) -> dict[str, tuple[str, str]]:
    """Kind of file -> the page that its bringer sees, and the one on which others can be brought instead."""
    seen = {}
    async with pages(root) as site:
        for kind, (name, content, *_) in (REFUSED | FOUND).items():
            browser = site.browser()
            seen[kind] = await _bring(browser, name, content), await browser.press("Bring other files")
            await browser.http.aclose()
    return seen


async def _bring(browser: Browser, name: str, content: bytes) -> str:
    await browser.open("/")
    await browser.press(f"Use my own {'photos' if name.startswith('photos') else 'messages'}")
    await browser.press("Use these", files={"files": (name, content)})
    return await browser.until(lambda text: "We are looking" not in text)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    return asyncio.run(_bring_all(tmp_path_factory.mktemp("studio")))


@pytest.mark.parametrize("kind", REFUSED)
def test_the_page_says_why_a_file_cannot_be_used(kind: str, seen: dict[str, tuple[str, str]]) -> None:
    page, instead = map(read, seen[kind])

    assert [sentence for sentence in REFUSED[kind][2:] if sentence not in page.text] == []
    assert "This can be learnt." not in page.text
    assert "so far" not in instead.text


@pytest.mark.parametrize("kind", FOUND)
def test_the_page_says_what_was_found_and_offers_to_mend_it(kind: str, seen: dict[str, tuple[str, str]]) -> None:
    _, _, level, sentence, effect, todo, button = FOUND[kind]
    page, _ = map(read, seen[kind])

    assert [said for said in (sentence, effect, todo) if said not in page.text] == []
    assert button is None or any(button in form.buttons for form in page.forms)
    assert ("This can be learnt." in page.text) <= (level != "error")
