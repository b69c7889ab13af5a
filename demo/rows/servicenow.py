"""ServiceNow: the hub keeps the registry, a person consents; and a person does both."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post, url_of
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.servicenow import people

PART = "servicenow"
USER, OTHER = "integration@acme.example", "admin@acme.example"
FAST = {"settle_revoke_s": "1.5", "settle_create_s": "1.5"}


def rows(part: Mapping[str, Any], callback: str) -> list[Row]:
    url = part["url"]
    post(f"{url}/_lab/dials", {"settle_s": 0.2, "linger_s": 0.3})
    common = {"url": url, "callback": callback}
    return [
        Row(
            "service desk",
            "servicenow",
            "oauth",
            {**common, "user": USER, "registry": "hub", "admin_user": people.REGISTRAR},
            {"admin_password": DEMO_PASSWORD},
            FAST,
            every_s=0.4,
        ),
        Row("service desk by hand", "servicenow", "oauth", {**common, "user": OTHER}, {}, FAST, every_s=0.4),
    ]


def _user(task: Mapping[str, Any]) -> str:
    return OTHER if task["connection"] == "service desk by hand" else USER


def _consent(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del part
    return {"callback_url": people.consent(url_of(task), _user(task))}


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Registers an entry with the redirect URL that the instructions name."""
    text = json.dumps(task["instructions"])
    callback = next(word for word in text.replace('"', " ").split() if word.endswith("/oauth/callback"))
    return people.register(part["url"], f"keyturn {os.urandom(3).hex()}", callback)


def _delete(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Finds the entry by the client id in the sentence that says what to open."""
    text = str(task["instructions"][0]["text"])
    known = {each["client_id"] for each in get(f"{part['url']}/_lab/entries")}
    (named,) = [each for each in known if each in text]
    people.delete(part["url"], named, _user(task))
    return {}


ACTS = {
    ("servicenow", "consent"): _consent,
    ("servicenow", "supply"): _supply,
    ("servicenow", "delete"): _delete,
}
