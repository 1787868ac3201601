"""Nobody else can press a button for somebody, read a cookie, or run a script on a page."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fakes.studio_side import URL, Browser, Form, Pages, pages, read
from gristmill_coordinator import public
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
    draft = browser.url.split("/")[2]
    paths = make_studio(site.studio).openapi()["paths"]
    changing = [(method, path) for path, methods in paths.items() for method in methods if method != "get"]

    refused = {}
    for method, path in changing:
        url = re.sub(r"{\w+}", "x", path.replace("{draft_id}", draft))
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


async def test_of_a_strangers_files_nothing_is_read(browser: Browser) -> None:
    read_blocks = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal read_blocks
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        for _ in range(100):
            read_blocks += 1
            yield bytes(1024 * 1024)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await browser.http.post("/drafts/draft_1/files", content=large(), headers=headers)

    assert str(answer.url).endswith("/sign-in")
    assert read_blocks <= 1


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_form_without_files_is_small(browser: Browser, kind: str) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    field = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n' if "multipart" in kind else b"name="
    content = field + bytes(20 * 1024 * 1024)

    answer = await browser.http.post(
        f"{browser.url.rsplit('/', 1)[0]}/look", content=content, headers={"content-type": kind}
    )

    assert answer.status_code in (400, 413)


@pytest.mark.parametrize("others", ['prefs={"a":1}; ', "foo; ", "a=b c; "])
async def test_another_pages_cookie_hides_nobody(browser: Browser, others: str) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    mine = f"studio={browser.http.cookies['studio']}"
    browser.http.cookies.clear()

    await browser.http.get("/models")
    answer = await browser.http.get("/models", headers={"cookie": others + mine})

    assert "Teach an AI to sort my messages" in answer.text


async def test_a_page_that_fails_carries_the_headers_too(
    site: Pages, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(co: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(public, "market", broken)

    answer = await browser.http.get("/market")

    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


async def test_a_providers_number_has_an_end(browser: Browser) -> None:
    await browser.open(f"/market/{'9' * 30}")

    assert browser.status == 400


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
