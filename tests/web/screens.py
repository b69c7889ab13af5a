"""`make screens`: every page of the site map on a hub with a bit of everything, at two widths, in light and dark.

Writes PNG files to a folder and prints what a look cannot show: console messages and what `CHECKS` finds.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.issued.conftest import open_test_hub
from tests.web import furnished, reading, walk

from keyturn_lab.vendors.shapes.running import Shapes

WIDTHS, SCHEMES = (1440, 390), ("light", "dark")


def look(folder: Path, url: str, paths: list[str], there: dict[str, list[str]], only: str) -> list[str]:
    """Takes the pictures. What is wrong, page by page."""
    from playwright.sync_api import sync_playwright
    from tests.web.conftest import CHROMIUM
    from tests.web.test_browser import CHECKS

    wrong: list[str] = []
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url
                )
                page = context.new_page()
                page.on("console", partial(_note, wrong))

                def take(name: str) -> None:
                    page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)  # noqa: B023
                    wrong.extend(f"{name} {width} {scheme}: {each}" for each in page.evaluate(CHECKS))  # noqa: B023

                for name, visit in walk.STRANGERS.items():
                    if re.search(only, name):
                        visit(page, there)
                        take(name)
                        context.clear_cookies()
                walk.sign_in(page)
                for path in paths:
                    if re.search(only, path):
                        page.goto(path)
                        name = re.sub(r"[^a-z]+", "-", _kind(path)).strip("-") or "home"
                        number = sum(1 for each in paths[: paths.index(path)] if _kind(each) == _kind(path))
                        take(f"{name}-{number}")
                for name, visit in walk.DONE.items():
                    if re.search(only, name):
                        visit(page, there)
                        take(name)
                context.close()
        browser.close()
    return wrong


def _note(wrong: list[str], message: Any) -> None:
    if walk.is_trouble(message):
        wrong.append(message.text)


def _kind(path: str) -> str:
    return re.sub(r"[a-z]{3}_[0-9a-z]{20,}", "one", path)


def main() -> int:
    """0 when nothing is wrong."""
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("--to", type=Path, default=Path(".screens"))
    said.add_argument("--only", default="", help="a regular expression of addresses")
    given = said.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Shapes.in_thread() as vendor:
        hub = open_test_hub(Path(folder), shapes=reading.external())
        try:
            there = furnished.furnish(hub, vendor)
            app, url, stop = furnished.serve(hub)
            try:
                walk.prepare(hub, there)
                paths = walk.addresses(app.state.pages.map, there)
                wrong = look(given.to, url, paths, there, given.only)
            finally:
                stop()
        finally:
            hub.close()
    report = [f"{len(list(given.to.glob('*.png')))} pictures in {given.to}", *wrong]
    sys.stdout.write("\n".join(report) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
