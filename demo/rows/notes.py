"""Custom REST: a system that only its definition describes, by a password that a person sets, by keys of its API, and its public status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import DEFINITIONS, Row
from keyturn_lab.vendors.notes import people

PART = "notes"
ACCOUNT = "acme"
QUICK = {"settle_create_s": "1", "settle_revoke_s": "1"}


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    made = people.make_key(url, ACCOUNT)
    return [
        Row(
            "notes status",
            "custom-rest",
            "none",
            {"address": url},
            definition=DEFINITIONS / "notes-status.yaml",
            every_s=0.4,
        ),
        Row(
            "notes by password",
            "custom-rest",
            "basic",
            {"address": url, "user": f"robot@{ACCOUNT}"},
            {"password": people.set_password(url, ACCOUNT)},
            QUICK,
            definition=DEFINITIONS / "notes-password.yaml",
            every_s=0.4,
        ),
        Row(
            "notes by key",
            "custom-rest",
            "token",
            {"address": url, "key_id": made["id"]},
            {"api_key": made["secret"]},
            QUICK,
            definition=DEFINITIONS / "notes-keys.yaml",
            every_s=0.3,
        ),
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    return {"user": f"robot@{ACCOUNT}", "password": people.set_password(part["url"], ACCOUNT)}


ACTS = {("custom-rest", "supply"): _supply}
