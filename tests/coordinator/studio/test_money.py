"""A balance through the real contracts' rules, and what jobs still want signed."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from fakes.studio_side import Browser, Pages, pages, started
from gristmill_coordinator import views
from gristmill_coordinator.store.studio_tables import makers
from gristmill_coordinator.store.tables import jobs
from gristmill_coordinator.studio import paying_in
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_protocol.jobs import Quote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PUBLIC = StudioSettings(smtp_host="mail.example.org", mail_from="studio@example.org")


async def signed_in(site: Pages) -> Browser:
    browser = site.browser()
    await browser.open("/sign-in")
    await browser.press("Send me a link", email="ada@example.org")
    link = site.letters.sent[-1][1].split("/sign-in/")[1].split()[0]
    await browser.open(f"/sign-in/{link}")
    await browser.press("Sign me in")
    return browser


async def test_real_money_that_has_arrived_is_put_in_with_a_click(tmp_path: Path) -> None:
    async with pages(tmp_path, settings=PUBLIC) as site:
        browser = await signed_in(site)
        await browser.open("/account")
        assert "Nothing new has arrived. The least you can put in is $1.00." in browser.text()

        async with site.world.co.store.read() as tx:
            renter = await tx.value(sa.select(makers.c.renter))
        site.world.chain.give(renter, 7_000_000)
        await browser.open("/account")
        await browser.press("Put in what has arrived")
        await browser.until("$7.00 you can use now.")

        assert "You put in $7.00" in browser.text()
        await browser.http.aclose()


async def test_money_cannot_be_made_where_it_is_real(tmp_path: Path) -> None:
    async with pages(tmp_path, settings=PUBLIC) as site:
        browser = await signed_in(site)
        await browser.open("/account")

        assert "test money" not in browser.text()
        await browser.http.aclose()


async def test_a_chain_that_is_away_delays_money_and_loses_none(site: Pages, browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    await browser.open("/account")
    await browser.press("Add $5.00 of test money")
    await site.turn()
    site.world.chain.reachable = False
    for _ in range(3):
        site.world.clock.now_s += 2
        await paying_in.step(site.studio)
    site.world.chain.reachable = True

    await browser.open("/account")
    await browser.until("$5.00 you can use now.")

    assert site.purse.made_usd_micros == 5_000_000


async def test_a_machine_that_was_not_quoted_is_paid_by_a_signature_of_its_own(site: Pages, browser: Browser) -> None:
    for machine in site.world.machines.values():
        machine.dies_after = 2
    await started(browser)
    await browser.until("Saved up to")
    for name in ("node_4", "node_5"):
        await site.world.add_machine(name)

    await browser.until("Your model is ready")

    async with site.world.co.store.read() as tx:
        renter = await tx.value(sa.select(makers.c.renter))
        quote = Quote.model_validate(await tx.value(sa.select(jobs.c.quote)))
    [view] = await views.jobs(site.world.co, renter)
    assert {attempt.provider for attempt in view.attempts} - {one.provider for one in quote.candidates}
    assert view.bill is not None
    assert "What you paid" in browser.text()
