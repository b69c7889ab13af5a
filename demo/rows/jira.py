"""Jira."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post, url_of
from keyturn_lab import people

PART = "jira"


def rows(part: Mapping[str, Any], callback: str) -> list[Row]:
    url = part["url"]
    app = get(f"{url}/_lab/apps")[0]
    post(f"{url}/_lab/apps", {"client_id": app["client_id"], "callback": callback})
    post(f"{url}/_lab/settings", {"leeway_s": 2.0})  # ten minutes at the vendor
    return [
        Row(
            "jira tickets",
            "jira",
            "oauth",
            {"auth_url": url, "api_url": url, "client_id": app["client_id"]},
            {"client_secret": app["client_secret"]},
            {"settle_revoke_s": "3"},
            every_s=0.4,
        )
    ]


def _consent(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del part
    return {"callback_url": people.jira_consent(url_of(task), "integration@acme.example", site="acme")}


ACTS = {("jira", "consent"): _consent}
