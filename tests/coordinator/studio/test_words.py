"""Every page as it is rendered: no technical word, easy to read, small."""

import asyncio
import re
from pathlib import Path

import pytest
import textstat

from fakes.studio_side import CARD, Browser, Pages, pages, read, started, text_table
from gristmill_coordinator.studio.web import asset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MOST_BYTES = 200_000
MOST_GRADE = 8.0
BANNED = re.compile(
    r"\b(?:cuda|vram|gpus?|lora|epochs?|tokens?|gas|wallets?|quanti[sz]\w*|docker|containers?|learning rate"
    r"|batch(?:es)?|hyper\w*|gradients?|loss|tensors?|weights|blockchain|on chain|smart contracts?|slash\w*|stake\w*"
    r"|usdc|provider|renter|coordinator|recipes?|segments?|checkpoints?|attempts?|json|null|none)\b",
    re.IGNORECASE,
)
ASSETS = sum(len(asset(name)) for name in ("studio.css", "studio.js", "htmx.js"))


async def _walk(root: Path) -> dict[str, str]:
    """Name -> page, of every page there is."""
    seen: dict[str, str] = {}
    async with pages(root) as site:
        for name in ("willow", "oak", "birch"):
            machine = await site.world.add_machine(name)
            machine.scorecard = CARD
        browser = site.browser()
        for name, path in (("first", "/"), ("sign in", "/sign-in"), ("lost", "/nowhere"), ("link", "/sign-in/x")):
            seen[name] = await browser.open(path)
        await _bring_bad_data(browser, seen)
        await _teach(site, browser, seen)
        await browser.http.aclose()
    return seen


async def _bring_bad_data(browser: Browser, seen: dict[str, str]) -> None:
    await browser.open("/")
    seen["files"] = await browser.press("Use my own messages")
    seen["no file"] = await browser.press("Use these")
    table = text_table() + b"\nhello,\nfar away,rare\nhello,billing\nhello,support"
    seen["looking"] = await browser.press("Use these", files={"files": ("mails.csv", table)})
    seen["findings"] = await browser.until("each answer needs 5 or more")
    await browser.press("Bring other files")
    proof = {"x-csrf": browser.form("Use these").values["csrf"]}
    part = browser.url.replace("files", f"pieces/{'0' * 64}")
    await browser.http.put(part, params={"name": "mails.csv", "size": 9, "at": 0}, content=b"half", headers=proof)
    seen["broken off"] = await browser.open(browser.url)
    await browser.press("Use these", files={"files": ("mails.csv", b"\0\1\2")})
    seen["unusable"] = await browser.until(lambda text: "We are looking" not in text)


async def _teach(site: Pages, browser: Browser, seen: dict[str, str]) -> None:
    await started(browser)
    seen["waiting"] = browser.page
    seen["learning"] = await browser.until("save point")
    job = browser.url
    seen["done"] = await browser.until("Your model is ready")
    seen["too early"] = await browser.open(f"{job}/download")
    for name, path in (("models", "/models"), ("balance", "/account"), ("market", "/market")):
        seen[name] = await browser.open(path)
    provider = re.search(r'href="(/market/\d+)"', browser.page)
    assert provider is not None
    seen["provider"] = await browser.open(provider[1])
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    await browser.until("This can be learnt.")
    seen["choices"] = await browser.press("Go on")
    for machine in site.world.machines.values():
        machine.cut()
    site.world.clock.now_s += 3600
    seen["no computer"] = await browser.press("Show me the price")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return asyncio.run(_walk(tmp_path_factory.mktemp("studio")))


def test_no_page_has_a_technical_word_outside_its_advanced_panel(rendered: dict[str, str]) -> None:
    found = {name: BANNED.findall(read(page).text) for name, page in rendered.items()}

    assert {name: words for name, words in found.items() if words} == {}


def test_every_page_is_easy_to_read(rendered: dict[str, str]) -> None:
    grades = {
        name: textstat.automated_readability_index(" ".join(read(page).sentences)) for name, page in rendered.items()
    }

    assert {name: grade for name, grade in grades.items() if grade > MOST_GRADE} == {}


def test_every_page_is_small_with_its_style_and_scripts(rendered: dict[str, str]) -> None:
    sizes = {name: len(page.encode()) + ASSETS for name, page in rendered.items()}

    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert len(sizes) >= 18


@pytest.mark.parametrize("words", ["It runs on a GPU.", "Your wallet", "in 3 epochs", "Segment 4"])
def test_the_list_of_words_sees_what_it_is_for(words: str) -> None:
    assert BANNED.search(words)
