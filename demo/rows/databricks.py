"""Databricks: a service principal rotated by another, and a user's own token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post

PART = "databricks"
USER = "integration@acme.example"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    principals = get(f"{url}/_lab/world")["principals"]
    client, rotator = (
        post(f"{url}/_lab/make", {"kind": "secret", "principal": name}) for name in ("gainsight", "rotator")
    )
    token = post(f"{url}/_lab/make", {"kind": "token", "principal": USER, "comment": "jobs"})
    return [
        Row(
            "lakehouse jobs",
            "databricks",
            "oauth",
            {
                "host": url,
                "client_id": principals["gainsight"]["application_id"],
                "admin_client_id": principals["rotator"]["application_id"],
            },
            {"client_secret": client["secret"], "admin_client_secret": rotator["secret"]},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            every_s=0.3,
        ),
        Row(
            "lakehouse reports",
            "databricks",
            "user",
            {"host": url, "user_name": USER},
            {"token": token["token_value"]},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            every_s=0.3,
        ),
    ]
