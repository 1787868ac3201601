"""The pages of a whole coordinator on an in-memory chain, and a browser without scripts that walks through them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from fakes.chain import FakeChain
from fakes.world import World
from gristmill_coordinator.api.renter_http import make_app
from gristmill_coordinator.config import Config
from gristmill_coordinator.serve import STUDIO_STAGES
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_protocol.errors import Unavailable
from gristmill_trainer.tryout import Tryouts

URL = "http://127.0.0.1:8080"
SETTINGS = StudioSettings(test_money=True)
PICTURES = "image-sorter"
_MAX_TURNS = 300

CARD = {
    "accuracy": 0.97,
    "baseline": 0.5,
    "held_out": 100,
    "correct": 97,
    "sentence": "It gets 97 of 100 right. When it is wrong, it is mostly billing taken for support.",
    "confusions": [{"answer": "billing", "taken_for": "support", "count": 3}],
    "worst": [{"place": "row 1", "answer": "billing", "taken_for": "support", "confidence": 0.9}],
}


@dataclass
class Letters:
    """Implements mail.Mail: keeps what was sent."""

    sent: list[tuple[str, str]] = field(default_factory=list)  # to, text
    broken: bool = False

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.broken:
            raise Unavailable("The e-mail could not be sent.", effect="You are not signed in.", todo="Try again.")
        self.sent.append((to, text))


@dataclass
class Purse:
    """Implements faucet.Faucet on the chain in memory."""

    chain: FakeChain
    made_usd_micros: int = 0

    async def give(self, to: str, usd_micros: int) -> None:
        self.made_usd_micros += usd_micros
        self.chain.give(to, usd_micros)


@dataclass
class Pages:
    """A market with its pages."""

    world: World
    studio: Studio
    letters: Letters
    purse: Purse
    pictures: int  # the recipe's id on the chain

    def serve(self) -> None:
        """Put the pages in front of the present coordinator process."""
        world = self.world
        world.co = replace(world.co, recipe_ids={**world.co.recipe_ids, PICTURES: self.pictures})
        self.studio = replace(self.studio, co=world.co)

    async def restart(self) -> None:
        """The process is gone; another one opens the same database."""
        await self.world.start()
        self.serve()

    def browser(self, url: str = URL) -> "Browser":
        app = make_app(self.world.co, self.studio)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return Browser(httpx.AsyncClient(transport=transport, base_url=url, follow_redirects=True), self)

    async def turn(self) -> None:
        """Time passes for the market and for the pages."""
        await self.world.tick()
        for step in STUDIO_STAGES.values():
            await step(self.studio)


@asynccontextmanager
async def pages(root: Path, *, settings: StudioSettings = SETTINGS, database_url: str = "") -> AsyncIterator[Pages]:
    """A market without machines, and the pages in front of it."""
    config = Config(data_dir=root, anchor_every_s=0, public_url=URL, studio=settings)
    world = World(root, database_url or f"sqlite+aiosqlite:///{root / 'coordinator.db'}", config)
    pictures = world.chain.add_recipe(royalty_bps=300, verifier_bps=600)
    await world.start()
    letters, purse = Letters(), Purse(world.chain)
    with Tryouts() as tryouts:
        studio = Studio(world.co, settings, letters, purse if settings.test_money else None, tryouts)
        site = Pages(world, studio, letters, purse, pictures)
        site.serve()
        try:
            yield site
        finally:
            await world.stop()


class Browser:
    """Follows links, and sends forms as the page has them."""

    def __init__(self, http: httpx.AsyncClient, pages: Pages) -> None:
        self.http = http
        self.pages = pages
        self.page = ""
        self.url = ""
        self.status = 0

    async def open(self, path: str) -> str:
        return self._see(await self.http.get(path))

    async def press(self, button: str, *, files: dict[str, tuple[str, bytes]] | None = None, **fields: str) -> str:
        """Send the form that has a button with this text, with other values in some of its fields."""
        return self._see(await self.send(self.form(button), files=files, **fields))

    async def send(
        self, form: "Form", *, files: dict[str, tuple[str, bytes]] | None = None, **fields: str
    ) -> httpx.Response:
        unknown = fields.keys() - form.known
        assert not unknown, f"the form has no fields {unknown}"
        values = form.values | fields
        if form.method == "get":
            return await self.http.get(form.action, params=values)
        return await self.http.post(form.action, data=values, files=files)

    def form(self, button: str) -> "Form":
        found = [form for form in read(self.page).forms if button in form.buttons]
        assert len(found) == 1, f"{button!r} is on {len(found)} forms of {self.url}: {self.text()}"
        return replace(found[0], values=found[0].values | found[0].buttons[button])

    def text(self) -> str:
        """What a person reads on the page, closed panels aside."""
        return read(self.page).text

    async def until(self, shows: str | Callable[[str], bool]) -> str:
        """Load the page again while time passes, until it shows this."""
        for _ in range(_MAX_TURNS):
            if shows in self.text() if isinstance(shows, str) else shows(self.text()):
                return self.page
            await self.pages.turn()
            await self.open(self.url)
        raise AssertionError(f"{self.url} never shows {shows!r} but {self.text()}")

    def _see(self, answer: httpx.Response) -> str:
        self.page, self.status = answer.text, answer.status_code
        parts = urlsplit(str(answer.url))
        self.url = parts.path + (f"?{parts.query}" if parts.query else "")
        return self.page


@dataclass(frozen=True)
class Form:
    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)  # as they are sent when nothing is touched
    buttons: dict[str, dict[str, str]] = field(default_factory=dict)  # text -> what it sends besides
    known: set[str] = field(default_factory=set)  # names of all fields


def read(page: str) -> "Reader":
    reader = Reader()
    reader.feed(page)
    return reader


class Reader(HTMLParser):
    """The forms and the text of a page."""

    _SILENT = ("script", "style", "head", "noscript", "svg")
    _INLINE = ("a", "strong", "span", "q", "em", "small", "b", "i", "code")

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._text: list[str] = []
        self._silent: list[str] = []
        self._button: dict[str, str | None] | None = None
        self._said = ""
        self._select = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    @property
    def sentences(self) -> list[str]:
        """What stands in a block of its own, or ends with a full stop."""
        blocks = (" ".join(block.split()) for block in " ".join(self._text).split("\n"))
        return [block if block.endswith((".", "?", "!", ":")) else f"{block}." for block in blocks if block]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        one = dict(attrs)
        self.tags.append((tag, one))
        if tag in self._SILENT or (tag == "details" and "advanced" in (one.get("class") or "")):
            self._silent.append(tag)
        match tag:
            case "form":
                self.forms.append(Form(one.get("action") or "", one.get("method") or "get"))
            case "input" | "textarea" if self.forms and one.get("type") != "file":
                self._field(one)
            case "select" if self.forms:
                self._select = one["name"] or ""
                self.forms[-1].known.add(self._select)
            case "option" if "selected" in one or self._select not in self.forms[-1].values:
                self.forms[-1].values[self._select] = one.get("value") or ""
            case "button":
                self._button, self._said = one, ""

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._INLINE and self._text and not self._silent and self._text[-1][-1:] not in ("\n", "."):
            self._text.append("\n")
        if self._silent and tag == self._silent[-1]:
            self._silent.pop()
        if tag == "button" and self._button is not None and self.forms:
            name = self._button.get("name")
            sends = {name: self._button.get("value") or ""} if name else {}
            self.forms[-1].buttons[" ".join(self._said.split())] = sends
            self._button = None

    def handle_data(self, data: str) -> None:
        self._said += data
        if not self._silent:
            self._text.append(data)

    def _field(self, one: dict[str, str | None]) -> None:
        name = one.get("name") or ""
        self.forms[-1].known.add(name)
        if one.get("type") not in ("radio", "checkbox") or "checked" in one:
            self.forms[-1].values[name] = one.get("value") or ""


def text_table(rows: int = 20) -> bytes:
    lines = [f"pay bill {n},billing\nthe screen {n} is broken,support" for n in range(rows)]
    return ("message,kind\n" + "\n".join(lines)).encode()


async def to_the_price(browser: Browser) -> None:
    """From the first page on, with example messages."""
    await browser.open("/")
    await browser.press("Try with messages to a shop")
    await browser.until("This can be learnt.")
    await browser.press("Go on")
    await browser.press("Show me the price")


async def started(browser: Browser) -> None:
    """The same, on to the page of the training."""
    await to_the_price(browser)
    await browser.press("Add $5.00 of test money")
    await browser.until("Start the training")
    await browser.press("Start the training")
