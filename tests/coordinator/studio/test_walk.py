"""From the first page to the model at home, without a script: what every form and link does."""

import io
import zipfile

import pytest

from fakes.studio_side import CARD, Browser, Pages, started, text_table, to_the_price
from gristmill_protocol.certificate import FILE
from gristmill_protocol.model_card import CARD as MODEL_CARD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_example_data_take_five_clicks_and_no_typing(site: Pages, browser: Browser) -> None:
    await started(browser)  # try, go on, show, add, start

    assert browser.url.startswith("/models/job_")
    assert "Looking for a computer" in browser.text()
    assert site.purse.made_usd_micros == 5_000_000


async def test_the_model_comes_home_with_its_certificate_and_the_bill_adds_up(site: Pages, browser: Browser) -> None:
    for machine in site.world.machines.values():
        machine.scorecard = CARD
        machine.makes = {MODEL_CARD: b"# A model\n"}
    await started(browser)
    job = browser.url

    await browser.until("Your model is ready")
    shown = browser.text()
    assert "It gets 97 of 100 right" in shown
    assert "Always giving the most common answer, without looking, would get 50 of 100 right." in shown
    assert "It is billing . It said support." in shown
    assert "What you paid" in shown

    for _ in range(60):
        answer = await browser.http.get(f"{job}/download")
        if answer.status_code == 200:
            break
        await site.turn()
    parcel = zipfile.ZipFile(io.BytesIO(answer.content))
    assert {f"model/{FILE}", "model/model.bin"} <= set(parcel.namelist())
    card = parcel.read(f"model/{MODEL_CARD}").decode()
    assert card.startswith("# A model\n")
    assert "## How it came to be" in card
    await browser.open("/account")
    assert "Paid for Teach an AI to sort my messages" in browser.text()


async def test_own_messages_are_looked_at_and_columns_confirmed(browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", text_table())})
    await browser.until("This can be learnt.")
    assert "40 messages with 2 answers" in browser.text()

    await browser.press("Take these columns", **{"role-text": "message", "role-answer": "kind"})
    await browser.until("This can be learnt.")

    assert "We guessed this" not in browser.text()


async def test_columns_that_were_confirmed_can_still_count_as_an_example(browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", text_table().partition(b"\n")[2])})
    await browser.until("39 messages with 2 answers")
    await browser.press("Take these columns")
    await browser.until("39 messages with 2 answers")

    await browser.press("Count it as an example")

    await browser.until("40 messages with 2 answers")


async def test_what_is_wrong_is_said_and_mended_with_a_click_and_the_click_taken_back(browser: Browser) -> None:
    table = text_table() + b"\nhello,\nfar away,rare"
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", table)})
    await browser.until("What you brought")
    assert "'rare' has only 1 example; each answer needs 5 or more." in browser.text()
    assert "Go on" not in browser.text()

    await browser.press("Leave 'rare' out")
    await browser.until("This can be learnt.")
    await browser.press("Go back to the files as they were")
    await browser.until("each answer needs 5 or more")


async def test_a_file_that_cannot_be_read_says_so_and_can_be_replaced(browser: Browser) -> None:
    await browser.open("/")
    await browser.press("Use my own messages")
    await browser.press("Use these", files={"files": ("mails.csv", b"")})
    await browser.until(lambda text: "We are looking" not in text)
    assert "This can be learnt" not in browser.text()

    await browser.press("Bring other files")

    assert browser.url.endswith("/files")
    assert "so far" not in browser.text()


async def test_stopping_says_what_is_paid(browser: Browser) -> None:
    await started(browser)
    await browser.press("Stop it")

    await browser.until("You stopped it")

    assert "You pay only for what was done and checked." in browser.text()
    assert "bring your examples once more" in browser.text()  # they went with the draft


async def test_a_training_that_moves_says_that_nothing_was_lost(site: Pages, browser: Browser) -> None:
    for machine in site.world.machines.values():
        machine.leaves_after = 2
    await started(browser)

    await browser.until("Nothing was lost: it went on from the last save point.")


async def test_begun_things_are_found_again_and_can_be_forgotten(browser: Browser) -> None:
    await to_the_price(browser)
    price = browser.url

    await browser.open("/models")
    assert "Teach an AI to sort my messages with example data" in browser.text()
    await browser.open(price.removesuffix("/price"))
    assert browser.url == price

    await browser.open("/models")
    await browser.press("Forget it")
    assert "You have not taught anything yet." in browser.text()
