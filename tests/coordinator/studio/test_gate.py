"""Nobody else can press a button for somebody, read a cookie, or run a script on a page."""

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fakes.studio_side import URL, Browser, Form, Pages, pages, read
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_coordinator.studio.web import make_studio

PUBLIC = StudioSettings(smtp_host="mail.example.org", mail_from="studio@example.org")


async def test_a_form_without_its_proof_changes_nothing(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    form = browser.form("Try with messages to a shop")

    for values in ({**form.values, "csrf": "0" * 64}, {k: v for k, v in form.values.items() if k != "csrf"}):
        answer = await browser.http.post(form.action, data=values)
        assert answer.status_code == 403
        assert "This form is too old." in answer.text

    await browser.open("/models")
    assert browser.url.startswith("/sign-in")  # no guest was made


async def test_the_proof_of_one_visit_is_none_in_another(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    form = browser.form("Try with messages to a shop")
    other = site.browser()
    await other.open("/")

    assert (await other.send(form)).status_code == 403
    assert (await browser.send(form)).status_code == 200
    await other.http.aclose()


async def test_every_route_that_changes_something_wants_the_proof(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    paths = make_studio(site.studio).openapi()["paths"]
    changing = [(method, path) for path, methods in paths.items() for method in methods if method != "get"]

    refused = {}
    for method, path in changing:
        url = re.sub(r"{\w+}", "x", path)
        answer = await browser.http.request(method.upper(), url, data={"csrf": "wrong"})
        refused[path] = answer.status_code

    assert len(refused) > 10
    assert set(refused.values()) == {403}


async def test_pages_carry_strict_headers_and_no_script_of_their_own(browser: Browser) -> None:
    answer = await browser.http.get("/")

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for tag, attributes in read(answer.text).tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src", "").startswith("/assets/")  # type: ignore[union-attr]
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


async def test_the_cookie_is_for_this_site_alone(tmp_path: Path) -> None:
    async with pages(tmp_path) as site:
        world = site.world
        at_home = await _cookie(site)
        config = world.co.config.model_copy(update={"public_url": "https://studio.example.org"})
        public = replace(site, studio=replace(site.studio, co=replace(world.co, config=config)))
        abroad = await _cookie(public)

    assert "HttpOnly; SameSite=Lax" in at_home
    assert "Secure" not in at_home
    assert re.fullmatch(r"__Host-studio=\S+; Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure", abroad)


async def _cookie(site: Pages) -> str:
    browser = site.browser()
    answer = await browser.http.get("/")
    await browser.http.aclose()
    return str(answer.headers["set-cookie"])


async def test_a_forged_cookie_is_nobody(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    [cookie] = [one for one in browser.http.cookies.jar if one.name == "studio"]
    browser.http.cookies.clear()
    browser.http.cookies.set("studio", f"{cookie.value}0")

    await browser.open("/models")

    assert browser.url.startswith("/sign-in")


async def test_what_is_somebody_elses_is_not_there(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    draft = browser.url
    other = site.browser()
    await other.open("/")
    await other.press("Try with messages to a shop")

    await other.open(draft)

    assert other.status == 404
    await other.http.aclose()


async def test_real_money_wants_a_sign_in_before_anything_is_brought(tmp_path: Path) -> None:
    async with pages(tmp_path, settings=PUBLIC) as site:
        browser = site.browser()
        await browser.open("/")
        await browser.press("Try with messages to a shop")

        assert browser.url.startswith("/sign-in")
        await browser.http.aclose()


def test_a_studio_without_mail_needs_test_money() -> None:
    with pytest.raises(ValueError, match="set smtp_host and mail_from"):
        StudioSettings()


async def test_the_apis_own_addresses_stay_its_own(browser: Browser) -> None:
    answer: httpx.Response = await browser.http.get("/v1/market")

    assert answer.headers["content-type"] == "application/json"
    assert (await browser.http.get("/v1/nothing")).headers["content-type"] == "application/problem+json"


async def test_a_form_sent_twice_makes_one_thing(browser: Browser) -> None:
    await browser.open("/")
    form: Form = browser.form("Use my own messages")

    first, second = await browser.send(form), await browser.send(form)

    assert first.url == second.url
    assert str(first.url).startswith(f"{URL}/drafts/draft_")
