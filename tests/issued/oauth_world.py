"""A hub with people and OAuth clients, asked in-process or over a real port; and a browser that consents."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
import threading
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlencode, urlsplit

import argon2
import pytest
import requests
import uvicorn
from fastapi.testclient import TestClient
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.api.app import create_app
from keyturn.operations import issued, passwords, people, rights
from keyturn.operations.rights import Role

PASSWORD = "plum-orbit-kettle-42"
CALLBACK = "https://portal.example.com/callback"
LOCAL = rights.local("ada")
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
_HIDDEN = re.compile(r'name="asked" value="([^"]*)"')


@pytest.fixture(autouse=True, scope="session")
def _quick_hashes():
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    patch = pytest.MonkeyPatch()
    patch.setattr(passwords, "_hasher", lambda: hasher)
    yield
    patch.undo()


@dataclass(frozen=True)
class Registered:
    """An OAuth client as whoever registered it knows it."""

    id: str
    secret: str
    name: str

    @property
    def basic(self):
        return {"Authorization": "Basic " + base64.b64encode(f"{self.id}:{self.secret}".encode()).decode()}

    @property
    def posted(self):
        return {"client_id": self.id, **({"client_secret": self.secret} if self.secret else {})}


def register(hub, kind="m2m", name="etl", **values):
    if kind == "oauth-app":
        values = {"callback_urls": CALLBACK, **values}
    handed = issued.issue(hub, kind, name, values)
    return Registered(handed.client_id, handed.value.reveal(), name)


def person(hub, login="eve", role=Role.OPERATOR):
    made = people.invite(hub, LOCAL, login, login.title(), [(role.value, "")])
    return people.accept(hub, made.code.reveal(), PASSWORD)


class Browser:
    """Cookies, forms with their token; `http` is a TestClient or a requests session."""

    def __init__(self, http, base):
        self.http, self.base = http, base

    def get(self, url):
        return self._ask("GET", url)

    def post(self, url, data):
        return self._ask("POST", url, data=data)

    def _ask(self, method, url, **more):
        whole = url if url.startswith("http") else self.base + url
        stay = (
            {"follow_redirects": False} if isinstance(self.http, TestClient) else {"allow_redirects": False}
        )
        return self.http.request(method, whole, **more, **stay)

    def sign_in(self, login, to="/sign-in"):
        page = self.get(to)
        while page.status_code == 303:
            to = page.headers["location"]
            page = self.get(to)
        back = parse_qs(urlsplit(to).query).get("next", ["/"])[0]
        data = {"csrf": _CSRF.search(page.text)[1], "login": login, "password": PASSWORD, "next": back}
        answer = self.post("/sign-in", data)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def consent(self, url, login="", answer="allow"):
        """Follows an authorization URL to its end: where the browser is sent, with the answer in it."""
        page = self.get(url)
        if page.status_code == 303 and "/sign-in" in page.headers["location"]:
            page = self.get(self.sign_in(login, page.headers["location"]))
        if page.status_code == 303:
            return page.headers["location"]
        assert page.status_code == 200, page.text
        data = {"csrf": _CSRF.search(page.text)[1], "asked": _HIDDEN.search(page.text)[1], "answer": answer}
        done = self.post("/oauth/authorize", data)
        assert done.status_code == 303, done.text
        return done.headers["location"]


class World:
    """One hub. `http` asks it; `base` is its public address."""

    def __init__(self, hub, http, base):
        self.hub, self.http, self.base = hub, http, base

    def browser(self):
        fresh = (
            TestClient(self.http.app, base_url=self.base)
            if isinstance(self.http, TestClient)
            else requests.Session()
        )
        return Browser(fresh, self.base)

    def post(self, path, data=None, headers=None, **more):
        return self.http.post(self.base + path, data=data, headers=headers, **more)

    def token(self, client, scope="", **more):
        data = {"grant_type": "client_credentials", **({"scope": scope} if scope else {}), **more}
        return self.post("/oauth/token", data, client.basic)

    def whoami(self, token):
        return self.http.get(self.base + "/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})

    def introspect(self, client, token):
        return self.post("/oauth/introspect", {"token": token}, client.basic)

    def revoke(self, client, token):
        return (
            self.post("/oauth/revoke", {"token": token}, client.basic if client.secret else None)
            if client.secret
            else self.post("/oauth/revoke", {"token": token, "client_id": client.id})
        )

    def ask(self, client, scope="read", state="st-1", redirect_uri=CALLBACK, **more):
        """An authorization URL, and the verifier that belongs to it."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **more,
        }
        kept = {name: value for name, value in asked.items() if value is not None}
        return f"{self.base}/oauth/authorize?{urlencode(kept)}", verifier

    def code(self, client, login="eve", browser=None, **more):
        url, verifier = self.ask(client, **more)
        sent = parse_qs(urlsplit((browser or self.browser()).consent(url, login)).query)
        return sent["code"][0], verifier

    def redeem(self, client, code, verifier, redirect_uri=CALLBACK):
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        return self.post("/oauth/token", {**data, **client.posted})

    def signed_up(self, client, login="eve", **more):
        """Tokens for what somebody allowed just now."""
        answer = self.redeem(client, *self.code(client, login, **more))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refresh(self, client, token, **more):
        return self.post(
            "/oauth/token", {"grant_type": "refresh_token", "refresh_token": token, **client.posted, **more}
        )


@pytest.fixture
def world(tmp_path):
    """In-process, with the engine running."""
    hub = open_test_hub(tmp_path)
    hub.engine.start()
    with TestClient(
        create_app(hub), base_url=hub.settings.public_url, raise_server_exceptions=False
    ) as client:
        yield World(hub, client, hub.settings.public_url)
    hub.close()


@pytest.fixture
def served(tmp_path):
    """Over a real port, as `keyturn serve` does it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        base = f"http://127.0.0.1:{port}"
        hub = open_test_hub(tmp_path)
        hub = replace(hub, settings=replace(hub.settings, public_url=base))
        hub.engine.start()
        config = uvicorn.Config(create_app(hub), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [held]})
        thread.start()
        wait_for(lambda: server.started)
        yield World(hub, requests.Session(), base)
        server.should_exit = True
        thread.join(timeout=10)
    hub.close()


__all__ = [
    "CALLBACK",
    "LOCAL",
    "Browser",
    "Registered",
    "World",
    "_quick_hashes",
    "person",
    "register",
    "served",
    "world",
]
