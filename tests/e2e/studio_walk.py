"""A person in a real browser on the pages of a real market; used by the tests and by scripts/screenshots."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 240_000
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Seen = Callable[[Page, str], None]  # is told of every page that is reached, by its name


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(browser: Browser, url: str, *, width: int, scripts: bool = True) -> Iterator[Page]:
    """A page of somebody who has never been here."""
    context: BrowserContext = browser.new_context(
        base_url=url, viewport={"width": width, "height": 900}, java_script_enabled=scripts, accept_downloads=True
    )
    context.set_default_timeout(30_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def with_own_photos(page: Page, photos: Path, seen: Seen) -> None:
    """From the first page to the start, with a zip of one's own."""
    page.goto("/")
    seen(page, "first")
    page.get_by_role("button", name="Use my own photos").click()
    page.wait_for_selector("#bring")
    seen(page, "files")
    page.set_input_files("#files", photos)
    page.get_by_role("button", name="Use these").click()
    page.get_by_text("This can be learnt.").wait_for(timeout=PATIENCE_MS)
    seen(page, "data")
    page.get_by_role("button", name="Go on").click()
    seen(page, "choices")
    page.get_by_label("Quick try").check()
    show_price(page, lambda button: page.get_by_role("button", name=button).click())
    seen(page, "price")
    page.get_by_role("button", name="Add $5.00 of test money").click()
    page.get_by_role("button", name="Start the training").click(timeout=PATIENCE_MS)
    page.wait_for_url("**/models/job_*")


def show_price(page: Page, press: Callable[[str], None]) -> None:
    """Ask for the price, again while every computer is too busy to answer."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    price, busy = page.get_by_text("Who gets what of it"), page.get_by_text("No computer can do this just now.")
    while time.monotonic() < deadline:
        press("Show me the price")
        price.or_(busy).wait_for()
        if price.is_visible():
            return
        page.wait_for_timeout(2_000)
        page.goto(page.url)
    raise AssertionError("there is no price")


def until_ready(page: Page) -> None:
    """Wait for the end of the training, on a page that brings itself up to date."""
    page.get_by_role("heading", name="Your model is ready").wait_for(timeout=PATIENCE_MS)


def take_home(page: Page, to: Path) -> Path:
    """The downloaded file. Its certificate is signed some seconds after the end."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    job = page.url.split("#")[0]
    while time.monotonic() < deadline:
        answer = page.request.get(f"{job}/download")
        if answer.ok:
            to.write_bytes(answer.body())
            return to
        page.wait_for_timeout(500)
    raise AssertionError("it cannot be taken home")


def transferred(page: Page, path: str) -> int:
    """Bytes of a page with all that it loads, in a browser that has nothing of it yet."""
    bodies: list[int] = []

    def note(answer: Response) -> None:
        if not answer.request.is_navigation_request() or answer.ok:
            bodies.append(len(answer.body()))

    page.on("response", note)
    page.goto(path, wait_until="load")
    page.remove_listener("response", note)
    return sum(bodies)


def by_keyboard(page: Page, button: str) -> None:
    """Reach a button with the tabulator alone, and press it."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count() and focused.first.inner_text() == button:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{button!r} is not reached with the keyboard on {page.url}")
