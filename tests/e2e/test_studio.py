"""Two people who know nothing of machines get a model that works: in a real browser, on a real market."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import make_archive

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Require
from e2e import studio_walk as walk
from playwright.sync_api import Browser, Page

from gristmill_localnet.net import Localnet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

MOST_BYTES = 200_000
MOST_CLICKS = 6
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def browser(require: Require) -> Iterator[Browser]:
    require(walk.CHROMIUM.exists(), f"needs {walk.CHROMIUM}")
    with walk.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def photos(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_archive(str(tmp_path_factory.mktemp("photos") / "photos"), "zip", digits))


def require_accessible(page: Page, name: str) -> None:
    """axe finds nothing, light and dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{name}, {scheme}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"


@pytest.mark.long
def test_photos_on_a_telephone_through_reloads_and_a_dead_coordinator(
    browser: Browser, net: Localnet, photos: Path, digits: Path, tmp_path: Path
) -> None:
    with walk.visitor(browser, net.url, width=390) as page:
        walk.with_own_photos(page, photos, require_accessible)
        job = page.url
        page.get_by_text("Saved up to").wait_for(timeout=walk.PATIENCE_MS)
        require_accessible(page, "learning")
        page.reload()
        assert page.url == job

        net.coordinator.kill()
        with _other_process(net, tmp_path) as other:
            page.goto(job.replace(net.url, other))
            page.get_by_text("Saved up to").wait_for(timeout=walk.PATIENCE_MS)
        net.coordinator.restart()
        net.coordinator.wait_for("coordinator_started", 60)

        page.goto(job)
        walk.until_ready(page)
        page.set_input_files("input[type=file]", sorted((digits / "7").iterdir())[0])
        page.get_by_role("button", name="Ask it").click()
        page.locator(".asked").wait_for(timeout=walk.PATIENCE_MS)
        require_accessible(page, "result")
        home = walk.take_home(page, tmp_path / "model.zip")
        for path in ("/models", "/account", "/market", "/sign-in", "/nowhere"):
            page.goto(path)
            require_accessible(page, path)
        page.goto("/market")
        page.locator("main a[href^='/market/']").first.click()
        require_accessible(page, "provider")

    model = _unpacked(home, tmp_path)
    assert _says(model, str(sorted((digits / "7").iterdir())[0])) == "7"
    assert subprocess.run([TOOLS / "gristmill", "verify", model], capture_output=True).returncode == 0


@pytest.mark.long
def test_messages_without_script_mouse_or_typing(browser: Browser, net: Localnet, tmp_path: Path) -> None:
    pressed = set()
    with walk.visitor(browser, net.url, width=1280, scripts=False) as page:

        def press(button: str) -> None:
            walk.by_keyboard(page, button)
            pressed.add(button)

        page.goto("/")
        press("Try with messages to a shop")
        page.get_by_text("This can be learnt.").wait_for(timeout=walk.PATIENCE_MS)
        press("Go on")
        page.get_by_text("What do you wish for?").wait_for()
        walk.show_price(page, press)
        press("Add $5.00 of test money")
        page.get_by_role("button", name="Start the training").wait_for(timeout=walk.PATIENCE_MS)
        press("Start the training")
        page.wait_for_url("**/models/job_*")
        assert len(pressed) <= MOST_CLICKS

        page.get_by_role("heading", name="Your model is ready").wait_for(timeout=walk.PATIENCE_MS)
        page.fill("textarea", "My parcel has not arrived")
        walk.by_keyboard(page, "Ask it")
        page.locator(".asked").wait_for(timeout=walk.PATIENCE_MS)
        said = page.locator(".asked strong").inner_text()
        home = walk.take_home(page, tmp_path / "model.zip")

    assert _says(_unpacked(home, tmp_path), "--text", "My parcel has not arrived") == said


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Photos that are sent in three pieces."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_STORED) as archive:
        for name in ("ripe/1.bmp", "unripe/1.bmp"):
            archive.writestr(name, b"\0" * 5_000_000)
    return tmp_path / "photos.zip"


def test_a_broken_off_upload_goes_on_where_it_broke_off(browser: Browser, net: Localnet, large: Path) -> None:
    sent: list[str] = []
    with walk.visitor(browser, net.url, width=1280) as page:
        page.goto("/")
        page.get_by_role("button", name="Use my own photos").click()
        page.wait_for_selector("#bring")
        page.route("**/pieces/**at=4194304", lambda route: route.abort())
        page.set_input_files("#files", large)
        page.get_by_role("button", name="Use these").click()
        page.get_by_text("40 % is here.").or_(page.get_by_text("41 % is here.")).wait_for()

        page.unroute("**/pieces/**at=4194304")
        page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
        page.reload()
        page.set_input_files("#files", large)
        page.get_by_role("button", name="Use these").click()
        page.wait_for_url("**/data", timeout=walk.PATIENCE_MS)

    assert sent
    assert all("at=0" not in url for url in sent)


LOOKED_AT = (
    '{"code": "conflict", "what": "Your examples are being looked at.", "effect": "", "todo": "Wait.", "details": {}}'
)


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (403, '<div class="note error"><p>This form is too old.</p></div>', "This form is too old."),
        (502, "<h1>Bad Gateway</h1>", "That did not work. Try it again."),
        (409, LOOKED_AT, "Your examples are being looked at."),
    ],
)
def test_a_piece_that_is_not_taken_says_why_and_the_page_stays(
    browser: Browser, net: Localnet, large: Path, status: int, body: str, shown: str
) -> None:
    with walk.visitor(browser, net.url, width=1280) as page:
        page.goto("/")
        page.get_by_role("button", name="Use my own photos").click()
        page.wait_for_selector("#bring")
        page.route("**/pieces/**at=4194304", lambda route: route.fulfill(status=status, body=body))
        page.set_input_files("#files", large)
        page.get_by_role("button", name="Use these").click()

        page.locator("#progress").get_by_text(shown).wait_for()
        assert page.url.endswith("/files")
        assert page.get_by_role("button", name="Use these").is_enabled()


@pytest.mark.parametrize("path", ["/", "/sign-in", "/market"])
def test_pages_are_small_with_all_that_they_load(browser: Browser, net: Localnet, path: str) -> None:
    with walk.visitor(browser, net.url, width=1280) as page:
        assert walk.transferred(page, path) <= MOST_BYTES


class _other_process:
    """A second coordinator process on the same database, for its pages; the address that it listens on."""

    def __init__(self, net: Localnet, folder: Path) -> None:
        config = json.loads((net.folder / "coordinator.json").read_text())
        self._file = folder / "second.json"
        self._file.write_text(json.dumps(config | {"http_address": "127.0.0.1:0", "grpc_address": "127.0.0.1:0"}))

    def __enter__(self) -> str:
        command = [TOOLS / "gristmill-coordinator", "serve", "--config", self._file]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "coordinator_started" in line:
                return f"http://{json.loads(line)['http']}"
        raise AssertionError("the second process did not come up")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _unpacked(home: Path, folder: Path) -> Path:
    with zipfile.ZipFile(home) as archive:
        archive.extractall(folder)
    return folder / "model"


def _says(model: Path, *asked: str) -> str:
    command = [TOOLS / "gristmill", "try", model, *asked, "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return str(json.loads(out.splitlines()[0])["answer"])
