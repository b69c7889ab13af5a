"""Every page of the site map, on a hub with a bit of everything: judged by axe-core, and nothing on the console."""

import os
from pathlib import Path

import pytest
from tests.faults import world
from tests.issued.conftest import open_test_hub
from tests.web import screens
from tests.web.conftest import CHROMIUM
from tests.web.test_browser import CHECKS

AXE = Path(__file__).parent / "node/node_modules/axe-core/axe.min.js"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"), reason="NO CHROMIUM: the pages were not tried in a browser"
    ),
    pytest.mark.skipif(
        not AXE.exists() and not os.environ.get("CI"),
        reason="NO AXE: run tools/setup.sh with node and npm there",
    ),
]
RULES = """() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
  .then((found) => found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 120)}`)))"""


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """(address, paths) of a hub behind a real server."""
    with screens.Shapes.in_thread() as vendor:
        hub = open_test_hub(tmp_path_factory.mktemp("hub"), shapes=world.external())
        there = screens.furnish(hub, vendor)
        app, url, stop = screens.serve(hub)
        yield url, screens.addresses(app.state.pages.map, there)
        stop()
        hub.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_page(chromium, furnished, width, scheme):
    """No rule is broken on any page, with everything that folds unfolded."""
    url, paths = furnished
    assert len(paths) > 40
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url
    )
    page, said, wrong = context.new_page(), [], {}
    page.on("console", lambda m: said.append(m.text) if m.type in {"error", "warning"} else None)
    page.goto("/sign-in")
    page.fill("#f-login", "ada")
    page.fill("#f-password", screens.PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    source = AXE.read_text()
    for path in paths:
        assert page.goto(path).status == 200, path
        page.evaluate("document.querySelectorAll('details.more').forEach((each) => { each.open = true; })")
        page.evaluate(source)
        if found := [*page.evaluate(RULES), *page.evaluate(CHECKS)]:
            wrong[path] = found
    context.close()
    assert wrong == {}
    assert said == []


def test_the_judge_judges(chromium):
    """A page that breaks rules is found to."""
    page = chromium.new_page()
    page.set_content("<html><body><img src='x'><input><p style='color:#ddd'>faint</p></body></html>")
    page.evaluate(AXE.read_text())
    found = {each.partition(":")[0] for each in page.evaluate(RULES)}
    assert {"image-alt", "label", "color-contrast", "html-has-lang"} <= found
    assert page.evaluate(CHECKS)
    page.close()
