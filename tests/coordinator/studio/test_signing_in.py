"""A link by e-mail is the only way in, works once, and keeps what a guest has begun."""

import re
from pathlib import Path

import pytest

from fakes.studio_side import Browser, Pages, pages, started
from gristmill_coordinator.studio import makers
from gristmill_coordinator.studio.mail import Smtp
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_protocol.errors import Unavailable

ADA = "ada@example.org"


async def ask(browser: Browser, email: str = ADA) -> str:
    """The path of the link that was sent."""
    await browser.open("/sign-in")
    await browser.press("Send me a link", email=email)
    assert "We sent you a link." in browser.text()
    to, text = browser.pages.letters.sent[-1]
    assert to == email.lower()
    [path] = re.findall(r"http://127\.0\.0\.1:8080(/sign-in/\S+)", text)
    return str(path)


async def test_a_link_signs_in_once(site: Pages, browser: Browser) -> None:
    link = await ask(browser, "Ada@Example.org")
    await browser.open(link)
    await browser.press("Sign me in")
    assert f"Signed in as {ADA}" in browser.text()

    other = site.browser()
    await other.open(link)
    await other.press("Sign me in")

    assert other.status == 403
    assert "This link does not work any more." in other.text()
    await other.http.aclose()


async def test_looking_at_a_link_does_not_use_it_up(browser: Browser) -> None:
    link = await ask(browser)
    for _ in range(3):  # a program that checks e-mails
        await browser.open(link)

    await browser.press("Sign me in")

    assert f"Signed in as {ADA}" in browser.text()


async def test_an_old_link_does_not_work(site: Pages, browser: Browser) -> None:
    link = await ask(browser)
    site.world.clock.now_s += site.studio.settings.link_s + 1

    await browser.open(link)
    await browser.press("Sign me in")

    assert "Ask for a new one." in browser.text()


async def test_a_guests_work_is_theirs_after_signing_in(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    await browser.open(await ask(browser))
    await browser.press("Sign me in")
    assert "Teach an AI to sort my messages" in browser.text()
    await browser.press("Sign out")

    elsewhere = site.browser()
    await elsewhere.open("/")
    await elsewhere.press("Try with handwritten numbers")
    await elsewhere.open(await ask(elsewhere))
    await elsewhere.press("Sign me in")

    assert "Teach an AI to sort my messages" in elsewhere.text()
    assert "Teach an AI to sort my photos" in elsewhere.text()
    await elsewhere.http.aclose()


async def test_whoever_asked_for_a_link_gets_nothing_of_who_opens_it(site: Pages, browser: Browser) -> None:
    eve, link = browser, await _begun_and_asked(browser)
    ada = site.browser()
    await ada.open(link)
    await ada.press("Sign me in")
    assert f"Signed in as {ADA}" in ada.text()
    assert "Teach an AI to sort my messages" not in ada.text()

    await eve.open("/models")

    assert ADA not in eve.text()
    assert "Teach an AI to sort my messages" in eve.text()
    await ada.http.aclose()


async def _begun_and_asked(browser: Browser) -> str:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    return await ask(browser)


async def test_a_guest_with_money_does_not_lose_it_to_another_account(site: Pages, browser: Browser) -> None:
    elsewhere = site.browser()
    await elsewhere.open(await ask(elsewhere))
    await elsewhere.press("Sign me in")
    await started(browser)
    job = browser.url
    link = await ask(browser)

    await browser.open(link)
    await browser.press("Sign me in")
    assert browser.status == 409
    assert "what you have here is still yours" in browser.text()
    await browser.open(job)
    assert browser.status == 200

    other = site.browser()
    await other.open(link)
    await other.press("Sign me in")
    assert f"Signed in as {ADA}" in other.text()
    await elsewhere.http.aclose()
    await other.http.aclose()


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@home", "a b@example.org", "a@b@example.org", "ada@example.org,eve@x.yz"]
)
async def test_what_is_no_address_is_said_in_place(browser: Browser, email: str) -> None:
    await browser.open("/sign-in")
    await browser.press("Send me a link", email=email)

    assert "That is not an e-mail address." in browser.text()
    assert browser.pages.letters.sent == []


async def test_nobody_is_flooded_with_links(browser: Browser) -> None:
    for _ in range(5):
        await ask(browser)

    await browser.open("/sign-in")
    await browser.press("Send me a link", email=ADA)

    assert "Several links were sent to this address within an hour." in browser.text()
    assert len(browser.pages.letters.sent) == 5


async def test_mail_that_is_down_is_said_in_place(browser: Browser) -> None:
    browser.pages.letters.broken = True
    await browser.open("/sign-in")
    await browser.press("Send me a link", email=ADA)

    assert "The e-mail could not be sent." in browser.text()


async def test_a_mail_server_that_does_not_answer_is_unavailable() -> None:
    nowhere = StudioSettings(smtp_host="127.0.0.1", smtp_port=9, smtp_encryption="none", mail_from="studio@example.org")

    with pytest.raises(Unavailable, match="could not be sent"):
        await Smtp(nowhere).send(ADA, "subject", "text")


async def test_a_key_opens_only_with_this_coordinators_secret(tmp_path: Path) -> None:
    async with pages(tmp_path) as site:
        maker = await makers.create_guest(site.studio)

        key = await makers.wallet(site.studio, maker.id)

        assert key.address.lower() == maker.renter
        held = (tmp_path / "coordinator.db").read_bytes() + (tmp_path / "coordinator.db-wal").read_bytes()
        assert key.account.key.hex().encode() not in held
