"""Mixpanel: a service account in two projects, replaced by a manager account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row, post
from keyturn_lab.vendors.mixpanel.state import ACME, EVENTS, MOBILE

PART = "mixpanel"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    first = post(
        f"{url}/_lab/make",
        {"organization": ACME, "name": "gainsight", "projects": {EVENTS: "analyst", MOBILE: "consumer"}},
    )
    manager = post(f"{url}/_lab/make", {"organization": ACME, "name": "keyturn", "role": "owner"})
    return [
        Row(
            "product usage",
            "mixpanel",
            "service_account",
            {
                "base_url": url,
                "organization_id": str(ACME),
                "project_id": str(EVENTS),
                "name": "gainsight",
                "username": first["username"],
                "admin_username": manager["username"],
            },
            {"secret": first["secret"], "admin_secret": manager["secret"]},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            every_s=0.3,
        )
    ]
