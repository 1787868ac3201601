"""Pictures of every page of Studio; started by scripts/screenshots.   python -m e2e.studio_pictures FOLDER"""

import sys
import tempfile
from pathlib import Path
from shutil import make_archive

from e2e import studio_walk as walk
from PIL import Image
from playwright.sync_api import Page

from gristmill_localnet.digits import write_digits
from gristmill_localnet.net import NodeSpec, localnet

NODES = (NodeSpec("willow", "0.20"), NodeSpec("oak", "0.24"), NodeSpec("birch", "0.30"))
COLOURS = 128  # of a picture's palette: a third of the size, and nobody sees it


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, localnet(Path(scratch) / "net", nodes=NODES) as net:
        digits = write_digits(Path(scratch) / "digits")
        photos = Path(make_archive(str(Path(scratch) / "photos"), "zip", digits))
        with walk.chromium() as browser:
            for width, name in ((1280, ""), (390, "-telephone")):
                with walk.visitor(browser, net.url, width=width) as page:
                    _walk(page, photos, digits, folder, name)


def _walk(page: Page, photos: Path, digits: Path, folder: Path, suffix: str) -> None:
    def keep(page: Page, name: str) -> None:
        for scheme, mark in (("light", ""),) if suffix else (("light", ""), ("dark", "-dark")):
            page.emulate_media(color_scheme=scheme)
            path = folder / f"{name}{suffix}{mark}.png"
            page.screenshot(path=path, full_page=True)
            Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)

    walk.with_own_photos(page, photos, keep)
    page.locator("svg.curve").wait_for(timeout=walk.PATIENCE_MS)
    page.get_by_text("It has fallen by").wait_for(timeout=walk.PATIENCE_MS)
    keep(page, "learning")
    walk.until_ready(page)
    page.set_input_files("input[type=file]", sorted((digits / "7").iterdir())[0])
    page.get_by_role("button", name="Ask it").click()
    page.locator(".asked").wait_for(timeout=walk.PATIENCE_MS)
    keep(page, "result")
    for name, path in (("models", "/models"), ("balance", "/account"), ("sign-in", "/sign-in"), ("market", "/market")):
        page.goto(path)
        keep(page, name)
    page.locator("main a[href^='/market/']").first.click()
    keep(page, "provider")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
