"""What the hub issues in the demo, who gets it, and the people outside: one follows a one-time link, one allows an
application what it asks for."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from demo import callers
from demo.callers import Caller

PORTAL = "customer portal"  # an application: it lives on what somebody allowed it
CALLBACK = "https://portal.example.com/callback"
_VALUE = re.compile(r"<p>([a-z_]+)<br><code>([^<]+)</code></p>")
_HIDDEN = re.compile(r'name="(csrf|asked)" value="([^"]*)"')
Values = Mapping[str, str]


@dataclass(frozen=True)
class Given:
    """One credential of the hub. `caller` makes the program that uses it, from the hub's address and what was handed over.
    `holder`: another party gets every new value through a link and says when it is in place; else it is handed over here.
    """

    name: str
    kind: str
    caller: Callable[[str, Values], Caller]
    settings: Values = field(default_factory=dict)
    secrets: Values = field(default_factory=dict)
    policy: Values = field(default_factory=dict)
    holder: str = ""

    def values(self, said: Mapping[str, Any]) -> dict[str, str]:
        """What the CLI's answer hands over, by name: a bucket's key has two parts, what a client needs besides has names."""
        if self.kind == "hub-bucket":
            return dict(json.loads(said["value"]))
        return {name: said[name] for name in ("id", "client_id", "value") if said.get(name)}


def every(world: Mapping[str, Any]) -> list[Given]:
    """All kinds; the bucket's key only where the lab has a store."""
    found = [
        Given("loader key", "api-key", callers.KeyHolder),
        Given("nightly loads key", "bulk-key", callers.KeyHolder),
        Given("partner system", "m2m", callers.Machine),
        Given("nightly loads", "bulk", callers.Machine),
        Given("shop events", "events", callers.Machine),
        Given("shop webhooks", "webhook", callers.Publisher),
        Given(PORTAL, "oauth-app", callers.Application, {"callback_urls": CALLBACK}),
        Given(
            "site tracking",
            "hub-segment",
            callers.Segment,
            {"contact": "segment-owner@example.com", "workspace": "acme-prod"},
            holder="Segment team",
        ),
    ]
    aws = world["parts"].get("aws")
    return [*found, _bucket(aws)] if aws else found


def _bucket(aws: Mapping[str, Any]) -> Given:
    prefix, steward = "partners/acme/", aws["steward"]
    return Given(
        "partner drop",
        "hub-bucket",
        lambda _, values: callers.Partner(aws["url"], aws["hub_bucket"], prefix, aws["region"], values),
        {
            "bucket": aws["hub_bucket"],
            "prefix": prefix,
            "region": aws["region"],
            "contact": "data@acme.example",
            "admin_access_key_id": steward["access_key_id"],
            **{f"{service}_endpoint": aws["url"] for service in ("iam", "sts", "s3")},
        },
        {"admin_secret_access_key": steward["secret_access_key"]},
        {"settle_create_s": "6", "settle_revoke_s": "4"},
        holder="Acme",
    )


def follow(link: str, caller: Caller) -> None:
    """Somebody outside opens their link in a browser, puts what it shows in place, and says so on the page."""
    place, _, code = link.partition("#")
    browser = requests.Session()
    browser.get(place, timeout=10).raise_for_status()
    page = browser.post(place, data={"code": code}, timeout=10)
    page.raise_for_status()
    caller.take({html.unescape(name): html.unescape(value) for name, value in _VALUE.findall(page.text)})
    browser.post(f"{place}/done", data={"code": code}, timeout=10).raise_for_status()


def allow(hub: str, setup_code: str, portal: Caller) -> None:
    """The first administrator signs up by the setup link, is asked by an application for its rights, and allows them; the
    application gets a refresh token for it."""
    values = portal.values
    browser, password = requests.Session(), secrets.token_urlsafe(24)
    asks = {"code": setup_code, "name": "Eve", "login": "eve", "password": password, "again": password}
    _submit(browser, f"{hub}/setup", asks)
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    wanted = {
        "response_type": "code",
        "client_id": values["client_id"],
        "redirect_uri": CALLBACK,
        "scope": "read",
        "state": secrets.token_urlsafe(8),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    sent_to = _submit(browser, f"{hub}/oauth/authorize?{urlencode(wanted)}", {"answer": "allow"})
    code = parse_qs(urlsplit(sent_to).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": CALLBACK,
    }
    auth = (values["client_id"], values["value"])
    answer = requests.post(f"{hub}/oauth/token", form, auth=auth, timeout=10)
    answer.raise_for_status()
    portal.take({"refresh_token": answer.json()["refresh_token"]})


def _submit(browser: requests.Session, url: str, answers: Values) -> str:
    """Opens a page with a form and sends it back filled in. Gives where the browser is sent to."""
    page = browser.get(url, timeout=10)
    page.raise_for_status()
    hidden = {name: html.unescape(value) for name, value in _HIDDEN.findall(page.text)}
    done = browser.post(url.partition("?")[0], {**hidden, **answers}, timeout=10, allow_redirects=False)
    if done.status_code != 303:
        raise RuntimeError(f"{urlsplit(url).path} answered {done.status_code} to its form")
    return str(done.headers["location"])
