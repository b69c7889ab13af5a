"""A certified OAuth server (npm `oidc-provider`) in its own process, and a person who signs in without a browser.

The server itself is `lab/oidc/op.mjs`: code with PKCE, rotated refresh tokens, client credentials, revocation,
introspection, dynamic registration and its deletion, and `/me-api` and `/records-api`, resources behind the tokens.
"""

import fcntl
import html
import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .child import Child, PartMissing, call_json, free_port, scratch_directory

HOME = Path(__file__).parents[3] / "oidc"
INSTALL = "install Node.js 20 or newer with npm (Debian: apt-get install --no-install-recommends nodejs npm)"


@dataclass(frozen=True)
class Client:
    """One client; `registration` (its address and token) is absent for the two that cannot be deleted."""

    client_id: str
    client_secret: str = field(repr=False)
    registration_client_uri: str | None = None
    registration_access_token: str | None = field(default=None, repr=False)


class OidcServer:
    """`with OidcServer() as op: op.consent(authorize_url, "ana")`.

    `web` takes codes and refresh tokens, `service` client credentials; both are fixed. `machine` takes client
    credentials too, was registered over the wire and can be deleted there. Without `redirect_uris`, `web` accepts
    `/callback`, `/oauth/callback` and `/connect/callback` on any loopback port.
    """

    def __init__(
        self, *, port: int | None = None, redirect_uris: list[str] | None = None, access_ttl_s: int = 3600
    ):
        self.port = port or free_port()
        self._given: dict[str, Any] = {"dials": {"access_ttl_s": access_ttl_s}}
        if redirect_uris:
            self._given["redirect_uris"] = redirect_uris
        self._child: Child | None = None

    def start(self) -> Self:
        """Installs the server when absent and starts it.

        Raises: PartMissing without Node.js, or when `npm ci` fails.
        """
        node = install()
        self._base = scratch_directory("oidc")
        argv = [node, str(HOME / "op.mjs"), str(self.port), json.dumps(self._given)]
        self._child = Child(argv, log_path=self._base / "log", cwd=str(HOME), remove=self._base)
        self.ready: dict[str, Any] = self._child.wait_until(self._read_ready)
        self.url: str = self.ready["url"]
        self.initial_access_token: str = self.ready["initial_access_token"]
        self.web, self.service, self.machine = map(_client, self.ready["clients"])
        return self

    def _read_ready(self) -> dict[str, Any] | None:
        found = re.search(r"^(\{.*\})\n", self._child.read_log() if self._child else "", re.MULTILINE)
        return json.loads(found[1]) if found else None

    def stop(self) -> None:
        if self._child:
            self._child.stop()
            shutil.rmtree(self._base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def alive(self) -> list[dict[str, Any]]:
        """The oracle: every client, grant and token that would be accepted right now."""
        return call_json(f"{self.url}/_lab/alive")

    def arm(self, op: str, kind: str, times: int = 1) -> None:
        """The next `times` calls of `op` fail: `answer_lost`, `error_not_applied` or `throttle`.

        Ops: token, revocation, introspection, register, registration, unregister, me, records.
        """
        call_json(f"{self.url}/_lab/faults", [{"op": op, "kind": kind, "times": times}])

    def set_dials(self, **dials: float) -> None:
        """Lifetimes of tokens made from now on: `access_ttl_s`, `refresh_ttl_s`."""
        call_json(f"{self.url}/_lab/dials", dials)

    def register(self, name: str = "made-by-test") -> Client:
        """A new client-credentials client beside the others."""
        body = {
            "client_name": name,
            "grant_types": ["client_credentials"],
            "response_types": [],
            "redirect_uris": [],
            "scope": "records.read records.write",
        }
        request = urllib.request.Request(f"{self.url}/reg", json.dumps(body).encode(), method="POST")
        request.add_header("Authorization", f"Bearer {self.initial_access_token}")
        request.add_header("Content-Type", "application/json")
        with _opener().open(request, timeout=10) as answer:
            return _client(json.load(answer))

    def consent(self, authorize_url: str, login: str, *, decline: bool = False) -> str:
        """A fresh person signs in as `login`, agrees or declines, and is sent back; see the function below."""
        return consent(authorize_url, login, decline=decline)


def install() -> str:
    """The path of node, with the server's packages installed from the lock file.

    Raises: PartMissing.
    """
    node = shutil.which("node")
    if not node:
        raise PartMissing(f"no Node.js: {INSTALL}")
    if not (HOME / "op.mjs").exists():
        raise PartMissing("the OAuth server is only part of a source checkout: lab/oidc is absent")
    with open(HOME / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers install once
        if not (HOME / "node_modules" / ".package-lock.json").exists():
            npm = shutil.which("npm")
            if not npm:
                raise PartMissing(f"no npm: {INSTALL}")
            argv = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            ran = subprocess.run(argv, cwd=HOME, capture_output=True, text=True, check=False, env=os.environ)
            if ran.returncode:
                raise PartMissing(f"npm ci failed in lab/oidc: {ran.stderr.strip()[-1500:]}")
    return node


def consent(authorize_url: str, login: str, *, decline: bool = False) -> str:
    """Walks the sign-in and consent forms over plain HTTP as a person would.

    Returns the address the person's browser would be sent to in the end, without requesting it. Declines at the
    consent form, after signing in. Raises: RuntimeError when the server shows neither a form nor a way on.
    """
    home = urllib.parse.urlsplit(authorize_url)
    opener = _opener(_Stay(), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    url, data = authorize_url, None
    for _ in range(12):
        status, location, text = _open(opener, url, data)
        data = None
        if status in (302, 303):
            url = urllib.parse.urljoin(url, location)
            if urllib.parse.urlsplit(url).netloc != home.netloc:
                return url
        elif status == 200 and (form := re.search(r'<form method="post" action="([^"]+)">', text)):
            url = urllib.parse.urljoin(url, html.unescape(form[1]))
            asks_for_login = 'name="login"' in text
            answer = "no" if decline and not asks_for_login else "yes"
            data = urllib.parse.urlencode(
                {"login": login, "answer": answer} if asks_for_login else {"answer": answer}
            )
        else:
            raise RuntimeError(f"the authorization server answered {status} and no form: {text[:300]}")
    raise RuntimeError("the authorization server keeps asking")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Redirects are followed one by one, so that the last is not."""


def _opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


def _open(opener: urllib.request.OpenerDirector, url: str, data: str | None) -> tuple[int, str, str]:
    try:
        with opener.open(url, data.encode() if data else None, timeout=10) as answer:
            return answer.status, "", answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Location", ""), error.read().decode()


def _client(record: dict[str, Any]) -> Client:
    names = ("client_id", "client_secret", "registration_client_uri", "registration_access_token")
    return Client(**{name: record.get(name) for name in names})
