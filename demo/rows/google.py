"""Google: a service account's key, a consent with a client of its own, and a consent that shares its grant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post, url_of
from keyturn_lab.vendors.google import people
from keyturn_lab.vendors.google.state import APP, ME, OTHER, PROJECT, ROTATOR, address

PART = "google"
FAST = {"settle_revoke_s": "1.5", "settle_create_s": "1.5"}
ACCOUNTS = {"bigquery by consent": OTHER, "web analytics": ME}


def rows(part: Mapping[str, Any], callback: str) -> list[Row]:
    url = part["url"]
    post(f"{url}/_lab/dials", {"settle_s": 0.3, "linger_s": 0.3})
    files = {each["email"]: each["key_file"] for each in get(f"{url}/_lab/accounts")}
    client = post(f"{url}/_lab/clients", {"name": "Keyturn analytics", "callback": callback})
    grants = {"accounts_url": url, "token_url": url}
    return [
        Row(
            "bigquery jobs",
            "bigquery",
            "service_account",
            {
                "project_id": PROJECT,
                "dataset": "usage_data",
                "service_account": address(APP),
                "token_url": f"{url}/token",
                "iam_url": url,
                "bigquery_url": url,
            },
            {"key_file": files[address(APP)], "admin_key_file": files[address(ROTATOR)]},
            FAST,
            every_s=0.4,
        ),
        Row(
            "bigquery by consent",
            "bigquery",
            "oauth",
            {**grants, "project_id": PROJECT, "account": OTHER, "callback": callback, "bigquery_url": url},
            {},
            FAST,
            every_s=0.4,
        ),
        Row(
            "web analytics",
            "google-analytics",
            "oauth",
            {
                **grants,
                "property": "310001",
                "account": ME,
                "api_url": url,
                "data_url": url,
                "client_id": client["client_id"],
            },
            {"client_secret": client["client_secret"]},
            FAST,
            every_s=0.4,
            owes="unrevocable_grant",  # its old grant is the new one too: ending it would end both
        ),
    ]


def _consent(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del part
    return {"callback_url": people.consent(url_of(task), ACCOUNTS[task["connection"]])}


def _client(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Makes a client in the console, with the redirect URI that the instructions name."""
    words = " ".join(str(each["text"]) for each in task["instructions"]).split()
    callback = next(word for word in words if word.endswith("/oauth/callback"))
    made: dict[str, str] = post(
        f"{part['url']}/_lab/clients", {"name": f"keyturn {os.urandom(3).hex()}", "callback": callback}
    )
    return made


ACTS = {
    ("bigquery", "consent"): _consent,
    ("bigquery", "supply"): _client,
    ("google-analytics", "consent"): _consent,
}
