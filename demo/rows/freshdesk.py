"""Freshdesk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row
from keyturn_lab import people

PART = "freshdesk"
USER = "integration@acme.example"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    key = people.freshdesk_view_key(url, USER)
    return [
        Row(
            "support desk",
            "freshdesk",
            "api_key",
            {"domain": "acme", "base_url": url},
            {"api_key": key},
            {"settle_create_s": "1", "settle_revoke_s": "0"},
            every_s=0.4,
        )
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    return {"api_key": people.freshdesk_reset_key(part["url"], USER)}


ACTS = {("freshdesk", "supply"): _supply}
