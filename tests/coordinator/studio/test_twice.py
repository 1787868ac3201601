"""Two tabs, the back button, a process that dies: nothing is lost and nothing is bought twice."""

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fakes.studio_side import CARD, Browser, Pages, pages, started, to_the_price
from gristmill_coordinator import views
from gristmill_coordinator.stages import intake
from gristmill_coordinator.store.studio_tables import makers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def jobs_of(site: Pages) -> int:
    renters = await _renters(site)
    return sum([len(await views.jobs(site.world.co, renter)) for renter in renters])


async def _renters(site: Pages) -> list[str]:
    async with site.world.co.store.read() as tx:
        return [row.renter for row in await tx.rows(makers.select())]


async def test_start_pressed_in_two_tabs_at_once_orders_once(site: Pages, browser: Browser) -> None:
    await to_the_price(browser)
    await browser.press("Add $5.00 of test money")
    await browser.until("Start the training")
    form = browser.form("Start the training")

    answers = await asyncio.gather(*(browser.send(form) for _ in range(3)))

    assert len({str(answer.url) for answer in answers}) == 1
    assert "/models/job_" in str(answers[0].url)
    assert await jobs_of(site) == 1


async def test_an_old_tab_with_another_price_orders_nothing_more(site: Pages, browser: Browser) -> None:
    await to_the_price(browser)
    await browser.press("Add $5.00 of test money")
    price = (await browser.until("Start the training")) and browser.url
    old = browser.form("Start the training")
    await browser.open(price.replace("price", "choices"))
    await browser.press("Show me the price", quality="quick")

    refused = await browser.send(old)
    assert refused.status_code == 409
    assert "The price has changed since you saw it." in refused.text
    await browser.open(price)
    await browser.press("Start the training")
    late = await browser.send(old)

    assert str(late.url).endswith(browser.url)
    assert await jobs_of(site) == 1


async def test_a_click_in_another_tab_while_it_starts_leaves_the_model_within_reach(
    site: Pages, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in site.world.machines.values():
        machine.scorecard = CARD
    await to_the_price(browser)
    await browser.press("Add $5.00 of test money")
    await browser.until("Start the training")
    proof = browser.form("Start the training").values["csrf"]
    columns = browser.url.replace("price", "columns")
    submit = intake.submit

    async def meanwhile(*args: Any) -> Any:
        await browser.http.post(columns, data={"csrf": proof, "role-text": "message", "role-answer": "kind"})
        return await submit(*args)

    monkeypatch.setattr(intake, "submit", meanwhile)
    await browser.press("Start the training")

    await browser.until("Your model is ready")
    assert browser.status == 200


async def test_a_price_that_is_too_old_is_made_anew(site: Pages, browser: Browser) -> None:
    await to_the_price(browser)
    await browser.press("Add $5.00 of test money")
    await browser.until("Start the training")
    site.world.clock.now_s += 3_600
    await site.turn()

    await browser.press("Start the training")
    assert "The price that you saw was too old." in browser.text()
    await browser.press("Start the training")

    assert browser.url.startswith("/models/job_")


async def test_a_model_taken_home_twice_at_once_is_whole(site: Pages, browser: Browser) -> None:
    await started(browser)
    await browser.until("Your model is ready")
    home = f"{browser.url}/download"
    while (await browser.http.get(home)).status_code == 409:
        await site.turn()
    for path in tmp_parcels(site):
        path.unlink()

    answers = await asyncio.gather(*(browser.http.get(home) for _ in range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) for answer in answers}) == 1


def tmp_parcels(site: Pages) -> list[Path]:
    return list(site.studio.folder.glob("parcels/*.zip"))


async def test_money_asked_for_twice_with_one_form_is_made_once(site: Pages, browser: Browser) -> None:
    await to_the_price(browser)
    form = browser.form("Add $5.00 of test money")

    await browser.send(form)
    await browser.send(form)
    await browser.open(browser.url)
    await browser.until("Start the training")

    assert site.purse.made_usd_micros == 5_000_000


async def test_going_back_after_the_start_leads_to_the_training(browser: Browser) -> None:
    await to_the_price(browser)
    price = browser.url
    await browser.press("Add $5.00 of test money")
    await browser.until("Start the training")
    await browser.press("Start the training")
    job = browser.url

    for back in (price, price.replace("/price", "/choices"), price.replace("/price", "/data")):
        await browser.open(back)
        assert browser.url == job
    proof = {"x-csrf": browser.form("Stop it").values["csrf"]}
    query = {"name": "more.csv", "size": 4, "at": 0}
    path = price.replace("price", f"pieces/{'0' * 64}")
    late = await browser.http.put(path, params=query, content=b"late", headers=proof)
    assert (late.status_code, late.json()["details"]) == (409, {})
    assert late.json()["what"] == "The training was started or forgotten in the meantime."

    await browser.open("/models")
    assert "Begun" not in browser.text()


async def test_another_process_on_the_same_database_shows_the_same(tmp_path: Path, database_url: str) -> None:
    async with pages(tmp_path, database_url=database_url) as first:
        for name in ("node_1", "node_2", "node_3"):
            await first.world.add_machine(name)
        browser = first.browser()
        await started(browser)
        job = browser.url
        await browser.until("save point")
        shown = browser.text()

        await first.restart()
        second = first.browser()
        second.http.cookies = browser.http.cookies
        await second.open(job)

        assert second.text() == shown
        await browser.http.aclose()
        await second.http.aclose()
