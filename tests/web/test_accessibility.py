"""Every page of the site map, on a hub with a bit of everything: judged by axe-core, and nothing on the console."""

import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.issued.conftest import open_test_hub
from tests.web import furnished, reading, walk
from tests.web.conftest import CHROMIUM
from tests.web.test_browser import CHECKS

from keyturn import web
from keyturn_lab.vendors.shapes.running import Shapes

AXE = Path(__file__).parent / "node/node_modules/axe-core/axe.min.js"
STYLES = (Path(web.__file__).parent / "static/keyturn.css").read_text()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="NO CHROMIUM: the pages were not tried in a browser"),
    pytest.mark.skipif(
        not AXE.exists(),
        reason="NO AXE: run tools/setup.sh with node and npm there",
    ),
]
RULES = """(only) => axe.run(document, {runOnly: only, resultTypes: ['violations'], selectors: false, preload: false})
  .then((found) => found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 120)}`)))"""
ALL = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
WIDTHS = (1440, 390)


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """(address, paths, what there is) of a hub behind a real server, and which templates it has drawn."""
    with Shapes.in_thread() as vendor:
        hub = open_test_hub(tmp_path_factory.mktemp("hub"), shapes=reading.external())
        found = furnished.furnish(hub, vendor)
        app, url, stop = furnished.serve(hub)
        walk.prepare(hub, found)
        drawn = set()
        templates = app.state.pages.site.templates
        get = templates.get_template
        templates.get_template = lambda name, *more: (drawn.add(name), get(name, *more))[1]
        fresh = open_test_hub(tmp_path_factory.mktemp("fresh"))
        _, fresh_url, stop_fresh = furnished.serve(fresh)
        yield SimpleNamespace(
            url=url,
            fresh_url=fresh_url,
            map=app.state.pages.map,
            found=found,
            drawn=drawn,
            templates=templates,
        )
        stop_fresh()
        stop()
        fresh.close()
        hub.close()


def test_the_dark_set_changes_colours_alone():
    """So what is not about colours need not be judged again in the dark."""
    dark = re.search(r"prefers-color-scheme: dark\) \{\s*:root[^{]*\{([^}]*)\}\s*\}", STYLES)[1]
    assert STYLES.count("prefers-color-scheme") == 1
    assert {each.split(":")[0].strip().partition("--")[0] for each in dark.split(";")} == {"", "color-scheme"}


@pytest.mark.timeout(600)  # some 80 pages, four times each
def test_every_page(chromium, there):
    """No rule is broken on any page, with everything that folds unfolded; in light and in dark, wide and on a phone."""
    context = chromium.new_context(base_url=there.url)
    context.add_init_script(path=AXE)  # once for all pages: it is large
    page, said, wrong = context.new_page(), [], {}
    page.set_default_timeout(30_000)
    page.on("console", lambda m: said.append(m.text) if walk.is_trouble(m) else None)
    page.on("pageerror", lambda error: said.append(str(error)))

    def judge(name):
        page.evaluate("document.querySelectorAll('details.more').forEach((each) => { each.open = true; })")
        for width, (scheme, rules) in product(WIDTHS, (("light", ALL), ("dark", COLOURS))):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            if found := [*page.evaluate(RULES, rules), *page.evaluate(CHECKS)]:
                wrong[f"{name} at {width} in {scheme}"] = found

    page.goto(f"{there.fresh_url}/setup")
    judge("setup")
    for name, visit in walk.STRANGERS.items():
        visit(page, there.found)
        judge(name)
        context.clear_cookies()
    walk.sign_in(page)
    for path in walk.addresses(there.map, there.found):
        assert page.goto(path).status == 200, path
        judge(path)
    for name, visit in walk.DONE.items():
        visit(page, there.found)
        judge(name)
    context.close()
    assert wrong == {}
    assert said == []


def test_no_page_is_forgotten(there):
    """Every template that is a page of its own was drawn on the walk, but for a few that are named here."""
    macros = {
        "charts.html",
        "fields.html",
        "layout.html",
        "lines.html",
        "plan_steps.html",
        "told_fields.html",
        "ui.html",
    }
    seldom = {
        "codes.html",  # after a code of an authenticator
        "connect_definition.html",  # of a system that only a definition describes
        "help_done.html",  # uses the task up
        "passkey.html",  # needs a device
        "setup.html",  # of the fresh hub, looked at beside
    }
    assert set(there.templates.list_templates()) - macros - seldom - there.drawn == set()


def test_the_judge_judges(chromium):
    """A page that breaks rules is found to."""
    page = chromium.new_page()
    page.set_content("<html><body><img src='x'><input><p style='color:#ddd'>faint</p></body></html>")
    page.evaluate(AXE.read_text())
    found = {each.partition(":")[0] for each in page.evaluate(RULES, ALL)}
    assert {"image-alt", "label", "color-contrast", "html-has-lang"} <= found
    assert page.evaluate(CHECKS)
    page.close()
