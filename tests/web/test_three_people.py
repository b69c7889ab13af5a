"""Three people in three browsers, from the first start of `keyturn serve` to a rotation that one of them helps with, a
consent at a certified OAuth server, and an end that a second person lets through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_for
from tests.web.conftest import CHROMIUM, PASSWORD

from keyturn_lab.parts.child import PartMissing, free_port
from keyturn_lab.parts.oidc import OidcServer

DEFINITION = Path(__file__).parents[2] / "demo/definitions/oidc-grant.yaml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.node,
    pytest.mark.skipif(not CHROMIUM, reason="NO CHROMIUM: the pages were not tried in a browser"),
]


@pytest.fixture
def provider():
    """The certified server."""
    made = OidcServer()
    try:
        made.start()
    except PartMissing as error:
        pytest.skip(str(error))
    yield made
    made.stop()


@pytest.fixture
def served(tmp_path):
    """A hub that was never started before: its address, and the link it printed."""
    port = free_port()
    url = f"http://localhost:{port}"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("KEYTURN_")},
        "KEYTURN_HOME": str(tmp_path / "home"),
        "KEYTURN_KEK": f"file:{tmp_path / 'key' / 'kek'}",
        "KEYTURN_ALLOWED_HOSTS": "127.0.0.1",
        "KEYTURN_PUBLIC_URL": url,
        "KEYTURN_PATIENCE": "0.05",
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        keyturn = Path(sys.executable).parent / "keyturn"
        subprocess.run([keyturn, "init"], env=environment, stdout=out, stderr=out, check=True, timeout=60)
        command = [keyturn, "serve", "--port", str(port)]
        child = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        link = wait_for(lambda: re.search(rf"{url}/setup#\S+", log.read_text()), 30)
        yield url, link[0]
    finally:
        child.terminate()
        child.wait(30)


class Somebody:
    """One person's browser: its page, and what its console said."""

    def __init__(self, context) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.said: list[str] = []
        self.page.on(
            "console", lambda m: self.said.append(m.text) if m.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda e: self.said.append(str(e)))

    def press(self, name: str) -> None:
        """A button or link by what it says."""
        self.page.get_by_role("button", name=name, exact=True).or_(
            self.page.get_by_role("link", name=name, exact=True)
        ).first.click()

    def sees(self, text: str) -> None:
        """Waits for it; a live page brings it by itself."""
        self.page.get_by_text(text).first.wait_for()

    def menu(self, name: str, entry: str) -> None:
        """An entry of a connection's three-dot menu."""
        self.page.goto("/connections")
        self.page.get_by_label(f"Actions for {name}").click()
        self.page.get_by_role("link", name=entry, exact=True).click()


@pytest.fixture
def somebody(chromium, served):
    made = []

    def make():
        context = chromium.new_context(base_url=served[0], viewport={"width": 1280, "height": 900})
        made.append(context)
        return Somebody(context)

    yield make
    for context in made:
        context.close()


def invite(admin, other, login, role):
    """The administrator makes a link; the other chooses a password with it."""
    page = admin.page
    page.goto("/people")
    page.get_by_text("Invite somebody").click()
    page.fill("#person-login", login)
    page.fill("#person-name", login.title())
    page.select_option("#person-role", role)
    admin.press("Invite")
    link = page.locator("#link").input_value()
    other.page.goto(link)
    other.page.fill("#f-password", PASSWORD)
    other.page.fill("#f-again", PASSWORD)
    other.press("Sign in")
    other.page.goto("/")
    other.page.get_by_role("heading", name="Today").wait_for()


def consent(helper, login, without=""):
    """Takes the task from home, opens the provider in a new tab, signs in there and allows, all but one scope maybe."""
    page = helper.page
    page.goto("/")
    page.locator("a.name[href^='/tasks/']").first.click()
    helper.press("I do it")
    helper.sees("You work on it")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=re.compile("Open the consent page")).click()
    there = opened.value
    there.fill("input[name=login]", login)
    there.get_by_role("button", name="Continue").click()
    there.get_by_text("asks for").wait_for()
    if without:
        there.get_by_label(f"not {without}").check()
    there.get_by_role("button", name="Continue").click()
    there.get_by_text("Keyturn received your consent").wait_for()
    there.close()
    page.context.clear_cookies(domain="127.0.0.1")  # signs out at the provider


def alive(provider):
    """The refresh tokens that Ana's consent gave and that still work there."""
    return {
        each["id"] for each in provider.alive() if each["kind"] == "RefreshToken" and each["owner"] == "ana"
    }


def test_from_the_first_start_to_a_rotation(served, somebody, provider):
    """Ada sets the hub up and connects a system, Ben consents for it, Cleo lets its end through; nobody sees a value."""
    ada, ben, cleo = somebody(), somebody(), somebody()
    page = ada.page
    page.goto(served[1])
    for name, value in (
        ("name", "Ada"),
        ("login", "ada"),
        ("password", PASSWORD),
        ("again", PASSWORD),
    ):
        page.fill(f"#f-{name}", value)
    ada.press("Set up")
    page.wait_for_url("**/account/second-factor")
    ada.press("Not now")
    ada.sees("Nothing is connected yet")
    invite(ada, ben, "ben", "operator")
    invite(ada, cleo, "cleo", "approver")

    page.goto("/connect/custom-rest/oauth2")
    page.set_input_files("#f-file", DEFINITION)
    ada.press("Check and go on")
    page.fill("#f-name", "records")
    page.fill("#f-field-issuer", provider.url)
    page.fill("#f-field-client_id", provider.web.client_id)
    page.fill("#f-field-client_secret", provider.web.client_secret)
    ada.press("Save, then authorize")
    ada.sees("It has no credential yet")
    ada.press("Authorize now")
    page.wait_for_url(re.compile("/runs/run_"))

    consent(ben, "ana")
    ada.sees("Complete")  # without a reload
    first = alive(provider)
    assert len(first) == 1
    page.goto("/connections")
    ada.sees("records")
    page.get_by_role("link", name="records").first.click()
    ada.sees("ana")
    ada.menu("records", "Edit connection")
    page.get_by_text("Timing of this account").click()
    page.fill("#p-settle_revoke_s", "1")
    ada.press("Keep the policy")
    ada.sees("The policy is kept")

    # the next one: Ben starts it himself, errs, and is told who was seen and who is wanted
    ben.menu("records", "Authorize")
    ben.sees("You are about to replace")
    ben.press("Authorize now")
    ben.page.wait_for_url(re.compile("/runs/run_"))
    run = ben.page.url
    consent(ben, "eve@elsewhere")
    ben.page.goto(run)
    ben.page.get_by_text(re.compile("belongs to eve@elsewhere.*to ana")).first.wait_for()
    ben.page.get_by_role("link", name="Open the task").first.wait_for()

    # the right person now, who allows less than before: what is missing is named, the old one serves on, and he is asked again
    consent(ben, "ana", without="records.read")
    ben.sees("lacks rights the old one has: records.read")  # on the task's page, without a reload
    assert "openid" not in ben.page.get_by_text("lacks rights").first.inner_text()
    ben.page.goto(run)
    ben.page.get_by_role("link", name="Open the task").first.wait_for()
    assert first <= alive(provider)
    consent(ben, "ana")
    ben.page.goto(run)
    ben.page.get_by_text(re.compile("^Complete")).first.wait_for(timeout=60_000)
    assert not first & alive(provider)
    assert len(alive(provider)) == 2  # also what was turned down: it is owed, until it is proven dead
    ben.page.goto("/debts")
    ben.page.get_by_role("row", name=re.compile("lacks rights")).get_by_role(
        "link", name="Not wanted"
    ).click()
    ben.press("Try again")
    ben.sees("Closed by the hub")
    assert len(alive(provider)) == 1

    # its end needs a second person
    ada.menu("records", "Revoke authorization")
    page.get_by_label(re.compile("I know that")).check()
    ada.press("Revoke authorization")
    ada.sees("It waits for a second person's approval")
    assert page.locator("#do-approve").count() == 0
    assert alive(provider)
    cleo.page.goto("/approvals")
    cleo.page.locator("a.name[href^='/runs/']").first.click()
    cleo.page.fill("#f-reason", "project ended")
    cleo.press("Approve")
    ada.page.get_by_text(re.compile("^Complete")).first.wait_for(timeout=60_000)
    assert alive(provider) == set()

    cleo.page.goto("/audit")
    for who in ("ada", "ben", "cleo"):
        assert cleo.page.get_by_role("cell", name=who, exact=True).count(), who
    cleo.press("Check the chains")
    cleo.sees("Every chain holds")
    assert [ada.said, ben.said, cleo.said] == [[], [], []]
    secret = provider.web.client_secret
    for each in (ada, ben, cleo):
        each.page.goto("/")
        assert secret not in each.page.content()
