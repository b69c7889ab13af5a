"""A hub with the vendor of every shape, its pages in a client without a browser, and people of every role."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from tests import stores
from tests.faults import world
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for
from tests.web import reading

from keyturn.api.app import create_app
from keyturn.errors import VendorUnavailable
from keyturn.operations import connections, passwords, people, projects, rights
from keyturn.operations.rights import Role
from keyturn_lab.vendors.shapes.running import Shapes

PASSWORD = "plum-orbit-kettle-42"
LOCAL = rights.local("ada")
URL = "http://127.0.0.1:8425"
CHROMIUM = next(
    (
        p
        for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
        if Path(p).exists()
    ),
    "",
)
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@pytest.fixture(autouse=True, scope="session")
def quick_hashes() -> Iterator[None]:
    """Argon2id at its cheapest: the tests make many accounts."""
    import argon2

    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    patch = pytest.MonkeyPatch()
    patch.setattr(passwords, "_hasher", lambda: hasher)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def vendor():
    """The vendor of every shape."""
    with Shapes.in_thread() as running:
        yield running


@pytest.fixture
def idle(tmp_path):
    """A fresh hub whose engine does not run, with the vendor in its catalogue."""
    hub = open_test_hub(tmp_path, stores.url(tmp_path / "home"), shapes=reading.external())
    yield hub
    hub.close()


@pytest.fixture
def connect(idle, vendor, request):
    """`connect(method, name, project)` makes a connection; names at the shared vendor are this test's own."""

    def make(method="two_slots", name="orders", project="", **options):
        login = f"{name}-{abs(hash(request.node.name)) % 10**8}"
        for attempt in range(
            3
        ):  # the vendor has a tenth of a second for an answer, and the machine may be busy
            try:
                world.connect(idle, vendor.client, method, f"{login}-{attempt}", **options)
                break
            except VendorUnavailable:
                if attempt == 2:
                    raise
        login = f"{login}-{attempt}"
        made = connections.find(idle, login)
        idle.store.write(lambda tx: tx.run("UPDATE connection SET name = ? WHERE id = ?", name, made.id))
        if project:
            projects.move(idle, made.id, project)
        return connections.find(idle, made.id)

    return make


@pytest.fixture
def person(idle):
    """`person(role)` makes an account that can sign in."""

    def make(role=Role.ADMIN, login="", project=""):
        login = login or f"{role.value}-{project}".strip("-")
        made = people.invite(idle, LOCAL, login, login.title(), [(role.value, project)])
        return people.accept(idle, made.code.reveal(), PASSWORD)

    return make


class Browser:
    """A browser as far as the pages need one: cookies, forms with their token, text."""

    def __init__(self, app) -> None:
        self.client = TestClient(app, base_url=URL, raise_server_exceptions=False, follow_redirects=False)

    def get(self, path, **more):
        return self.client.get(path, **more)

    def post(self, path, data=None, on=None, **more):
        """Sends a form of the page `on`, with its token."""
        page = self.client.get(on or path)
        while page.status_code == 303:
            page = self.client.get(page.headers["location"])
        found = _CSRF.search(page.text)
        token = found[1] if found else ""
        return self.client.post(path, data={"csrf": token, **(data or {})}, **more)

    def sign_in(self, login, password=PASSWORD):
        answer = self.post("/sign-in", {"login": login, "password": password})
        assert answer.status_code == 303, answer.text
        return self


@pytest.fixture
def app(idle):
    return create_app(idle)


@pytest.fixture
def browser(app):
    """`browser()` is nobody's; `browser(account)` is signed in."""

    def make(account=None):
        made = Browser(app)
        return made.sign_in(account.login) if account else made

    return make


def text(answer):
    """What a page says, without its markup."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def hidden(answer, name):
    """The value of a hidden field."""
    return re.search(rf'name="{name}" value="([^"]*)"', answer.text)[1]


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as made:
        browser = made.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer"]
        )
        yield browser
        browser.close()


__all__ = ["LOCAL", "PASSWORD", "URL", "SimpleNamespace", "wait_for"]
