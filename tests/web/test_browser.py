"""The pages in a real browser: nothing on the console, nothing beside the screen, everything by keyboard, live."""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from tests.waiting import wait_for
from tests.web.conftest import CHROMIUM, LOCAL, PASSWORD

from keyturn.api.app import create_app
from keyturn.errors import NotPermitted
from keyturn.model.plan import Goal
from keyturn.operations import events, leases, passkeys, people, runs, tasks
from keyturn.operations.rights import Role

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM,
        reason="NO CHROMIUM: the pages were not tried in a browser (apt-get install chromium)",
    ),
]


@pytest.fixture
def url(idle):
    """The hub behind a real server, under a name: passkeys are bound to one."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    public = f"http://localhost:{port}"
    app = create_app(replace(idle, settings=replace(idle.settings, public_url=public)))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    app.state.pages.live.stopping = lambda: server.should_exit
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield public
    server.should_exit = True
    thread.join(timeout=5)


class Seen:
    """A page, and what its console said."""

    def __init__(self, context) -> None:
        self.page = context.new_page()
        self.said = []
        self.page.on(
            "console", lambda m: self.said.append(m.text) if m.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda e: self.said.append(str(e)))


@pytest.fixture
def look(chromium, url):
    """`look(account, width, scheme)` is a signed-in page."""
    made = []

    def open_(account=None, width=1440, scheme="light", **more):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            base_url=url,
            timezone_id="Asia/Tokyo",
            **more,
        )
        made.append(context)
        seen = Seen(context)
        if account:
            seen.page.goto("/sign-in")
            seen.page.fill("#f-login", account.login)
            seen.page.fill("#f-password", PASSWORD)
            seen.page.keyboard.press("Enter")
            seen.page.wait_for_url("**/")
        return seen

    yield open_
    for context in made:
        context.close()


CHECKS = """() => {
  const wrong = [];
  const shown = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const name = (e) => (e.getAttribute('aria-label') || e.innerText || e.textContent || e.title || '').trim();
  for (const e of document.querySelectorAll('a, button, summary')) if (shown(e) && !name(e)) wrong.push('no name: ' + e.outerHTML.slice(0, 90));
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
    if (shown(e) && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')) wrong.push('no label: ' + e.outerHTML.slice(0, 90));
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push('twice: ' + id);
  if (document.querySelectorAll('h1').length !== 1) wrong.push('h1: ' + document.querySelectorAll('h1').length);
  if (!document.documentElement.lang || !document.title) wrong.push('no language or title');
  for (const e of document.querySelectorAll('img')) if (!e.hasAttribute('alt')) wrong.push('no alt');
  for (const e of document.querySelectorAll('a, button, summary, select, input:not([type=hidden]):not([type=checkbox])')) {
    const r = e.getBoundingClientRect();
    const inText = e.tagName === 'A' && getComputedStyle(e).display === 'inline';
    if (shown(e) && r.width && !inText && !e.closest('.unseen, .skip') && !e.classList.contains('skip') && (r.height < 24 || r.width < 24)) wrong.push('small: ' + e.outerHTML.slice(0, 90));
  }
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true}), known = new Map();
  const read = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const parse = (c) => { if (!known.has(c)) known.set(c, read(c)); return known.get(c); };
  const lum = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return [255, 255, 255]; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !shown(e) || e.closest('.unseen, .skip, script, option')) continue;
    const a = lum(parse(getComputedStyle(e).color)), b = lum(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(getComputedStyle(e).fontSize), bold = +getComputedStyle(e).fontWeight >= 600;
    if (ratio < (size >= 24 || (bold && size >= 18.7) ? 3 : 4.5)) wrong.push(ratio.toFixed(2) + ': ' + walk.currentNode.data.trim().slice(0, 40));
  }
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 0) wrong.push('beside the screen: ' + over + ' px');
  return wrong;
}"""


def test_a_very_small_screen(look, person, connect, idle):
    """Names and labels, contrast, size of targets, one heading, no console message, nothing beside the screen: narrower than
    test_accessibility.py looks at every page (WCAG 2.2, 1.4.10: 320 px)."""
    plain, asks = (
        connect(name="orders with a rather long name that goes on"),
        connect("supplied", name="desk"),
    )
    idle.engine.start()
    done, waits = runs.start(idle, plain.name, Goal.ROTATE), runs.start(idle, asks.name, Goal.ROTATE)
    task = wait_for(lambda: next(iter(tasks.waiting(idle)), None))
    wait_for(lambda: runs.get(idle, done.id).ended_at)
    account = person()
    service = people.add_service(idle, LOCAL, "nightly", "", [("viewer", "")])
    seen = look(account, 320)
    paths = [
        "/",
        "/connections",
        "/connections?q=none",
        f"/connections/{plain.id}",
        f"/connections/{plain.id}/plan/rotate",
        f"/connections/{plain.id}/plan/disconnect",
        f"/connections/{plain.id}/history",
        f"/runs/{done.id}",
        f"/runs/{waits.id}",
        "/tasks",
        f"/tasks/{task.id}",
        "/people",
        f"/people/{account.id}",
        f"/people/{service.id}",
        "/account",
        "/account/second-factor",
    ]
    wrong = {}
    for path in paths:
        seen.page.goto(path)
        for closed in seen.page.query_selector_all("details.more:not([open]) > summary"):
            closed.click()
        if found := seen.page.evaluate(CHECKS):
            wrong[path] = found
    assert wrong == {}
    assert seen.said == []
    out = look(None, 320)
    for path in ("/sign-in", "/join"):
        out.page.goto(path)
        assert out.page.evaluate(CHECKS) == [], path


def test_a_run_is_followed_live(look, person, connect, idle):
    """Without a reload: steps become done, buttons go, a screen reader is told. A reload shows the same."""
    connection = connect()
    run = runs.start(idle, connection.name, Goal.ROTATE)
    seen = look(person())
    seen.page.goto(f"/runs/{run.id}")
    seen.page.evaluate("window.kept = true")
    assert seen.page.locator("#do-cancel").is_visible()
    idle.engine.start()
    seen.page.get_by_text("7 of 7 done").wait_for(timeout=10_000)
    assert seen.page.evaluate("window.kept")
    assert seen.page.locator("#do-cancel").count() == 0
    assert "7 of 7 steps done" in seen.page.locator("#said").inner_text()
    seen.page.reload()
    assert "7 of 7 done" in seen.page.content()
    assert seen.said == []


def test_live_pages_leave_a_persons_hands_alone(look, person, connect, idle):
    """An open menu and a field being typed into stay; the change comes when they are left."""
    connection = connect(name="orders")
    seen = look(person())
    seen.page.goto("/connections")
    seen.page.locator("details.menu summary").first.click()
    runs.start(idle, connection.name, Goal.ROTATE)
    time.sleep(1.5)
    assert seen.page.locator("details.menu[open]").count() == 1
    seen.page.keyboard.press("Escape")
    seen.page.locator(".pill", has_text="Run under way").first.wait_for(timeout=5_000)


def test_everything_by_keyboard(look, person, connect, idle):
    """Sign in, skip to the content, open a menu, go through it, start a rotation: without a mouse."""
    connect(name="orders")
    seen = look()
    page = seen.page
    account = person()
    page.goto("/sign-in")
    page.keyboard.type(account.login)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    page.goto("/connections")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator("details.menu[open]").count() == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.innerText") == "Plan"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/plan/rotate")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Rotate now":
            break
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/runs/run_"))


def test_the_list_is_searched_while_typing(look, person, connect):
    """And the address follows, so that it can be shared and gone back to."""
    connect(name="orders")
    connect(name="billing")
    page = look(person()).page
    page.goto("/connections")
    page.fill("#q", "bill")
    page.wait_for_url("**/connections?q=bill**")
    page.locator("td .name").filter(has_text="orders").wait_for(state="detached")
    assert page.locator("td .name").all_inner_texts() == ["billing"]


def test_the_setup_link(look, idle):
    """The code behind the # goes into its field, out of the address, and nowhere else."""
    code = people.setup_code(idle).reveal()
    seen = look()
    asked = []
    seen.page.on("request", lambda r: asked.append(r.url + str(r.headers)))
    seen.page.goto(f"/setup#{code}")
    assert code not in seen.page.url
    assert not seen.page.locator("#f-code").is_visible()
    seen.page.fill("#f-name", "Ada")
    seen.page.fill("#f-login", "ada@example.com")
    seen.page.fill("#f-password", PASSWORD)
    seen.page.fill("#f-again", PASSWORD)
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/account/second-factor")
    assert not [each for each in asked if code in each]
    assert seen.page.locator(".qr svg").bounding_box()["width"] > 150
    assert seen.said == []


def test_dates_are_in_the_browsers_zone(look, person):
    """From the first page on which there is one."""
    page = look(person()).page
    page.goto("/account")
    assert "JST" in page.locator("time").first.get_attribute("title")


def test_without_script_it_works(look, person, connect, idle):
    """Slower, but whole: sign in, look, start."""
    connection = connect(name="orders")
    seen = look(person(Role.OPERATOR), java_script_enabled=False)
    seen.page.goto(f"/connections/{connection.id}/plan/rotate")
    seen.page.get_by_role("button", name="Rotate now").click()
    seen.page.wait_for_url(re.compile(r"/runs/run_"))
    assert leases.resolve(idle, "orders").version.number == 1


def test_a_passkey(look, person, idle, url):
    """Added on the account page, used at the door instead of password and code; a copied answer is refused."""
    account = person()
    seen = look(account)
    page = seen.page
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = device.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto("/account/passkey")
    page.fill("#f-name", "work laptop")
    page.get_by_role("button", name="Add it").click()
    page.wait_for_url("**/account")
    assert page.locator("b", has_text="work laptop").is_visible()
    assert page.evaluate(CHECKS) == []
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    assert page.evaluate(CHECKS) == []
    sent = []
    page.on("request", lambda r: sent.append(r.post_data) if r.url.endswith("/sign-in/passkey") else None)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(re.compile(r"localhost:\d+/$"))
    assert events.latest(idle, 1)[0].facts["how"] == "passkey"
    assert page.get_by_text("password only").count() == 0
    hub = replace(idle, settings=replace(idle.settings, public_url=url))
    answer = parse_qs(sent[0])["answer"][0]
    for visit in ("", "somebody-else"):
        with pytest.raises(NotPermitted):
            passkeys.sign_in(hub, visit, answer, address="192.0.2.1")
    # not verified by a finger or a PIN: refused here, whatever the browser says
    device.send(
        "WebAuthn.setUserVerified", {"authenticatorId": made["authenticatorId"], "isUserVerified": False}
    )
    page.goto("/account")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_text("Nothing was used").wait_for()
    assert seen.said == []


def test_several_are_ticked(look, person, connect, idle):
    """The bar comes with the first tick, a live page does not take ticks away, and one button leads to the plan of all."""
    connect(name="orders")
    connect(name="billing")
    seen = look(person())
    page = seen.page
    page.goto("/connections")
    bar = page.locator("#several")
    assert not bar.is_visible()
    page.get_by_label("Tick orders").check()
    page.get_by_label("Tick billing").check()
    assert bar.is_visible()
    page.locator("h1").click()
    runs.start(idle, "billing", Goal.ROTATE)
    time.sleep(1.5)
    assert page.locator(".tick input:checked").count() == 2
    bar.get_by_role("button", name="Rotate").click()
    page.wait_for_url(re.compile(r"/bulk/rotate\?"))
    assert page.get_by_text("1 of 2").is_visible()
    page.get_by_role("button", name="Rotate: start 1").click()
    page.wait_for_url(re.compile(r"/runs\?run="))
    idle.engine.start()
    page.get_by_text("1 of 1 have ended").wait_for(timeout=10_000)
    assert seen.said == []


def test_a_value_is_copied_and_gone(look, person, idle):
    """Issued, copied with one button, and not there when one comes back to the page."""
    seen = look(person(), permissions=["clipboard-read", "clipboard-write"])
    page = seen.page
    page.goto("/issued/new/api-key")
    page.fill("#f-name", "partner")
    page.get_by_role("button", name="Issue it").click()
    value = page.locator("#value").input_value()
    page.get_by_role("button", name="Copy the value").click()
    page.get_by_text("Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == value
    page.get_by_role("link", name="I have put it in place").click()
    page.wait_for_url(re.compile(r"/issued/con_"))
    assert value not in page.content()
    assert seen.said == []


def test_a_system_is_found_and_its_form_keeps_what_was_typed(look, person):
    """Searched while typing; after a refusal plain fields stand as typed, secrets are empty, and the focus is at the error."""
    seen = look(person())
    page = seen.page
    page.goto("/connect")
    page.fill("#q", "jira")
    page.locator(".choices a").filter(has_text="PostgreSQL").wait_for(state="detached")
    page.locator(".choices a").filter(has_text="Jira").click()
    page.wait_for_url("**/connect/jira/oauth")
    page.goto("/connect/postgresql/password")
    for name, value in (
        ("host", "db.example.com"),
        ("database", "app"),
        ("user", "ada"),
        ("password", "s3cret-77"),
    ):
        page.fill(f"#f-field-{name}", value)
    page.fill("#f-name", "?")
    page.get_by_role("button", name="Test and connect").click()
    page.locator("#e-name").wait_for()
    assert page.locator("#f-field-host").input_value() == "db.example.com"
    assert page.locator("#f-field-password").input_value() == ""
    assert page.evaluate("document.activeElement.id") == "f-name"
    assert "s3cret-77" not in page.content()
