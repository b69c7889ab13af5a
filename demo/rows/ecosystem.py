"""Ecosystems: a reset during a pause."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row
from keyturn_lab.vendors.ecosystem import people

PART = "ecosystem"
ACCOUNT = "acme"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    return [
        Row(
            "value drivers",
            "ecosystem",
            "access_key",
            {
                "address": f"{url}/v1/value-drivers",
                "expects": "valueDrivers",
                "account_member": "account",
            },
            {"access_key": people.make_key(url, ACCOUNT, "first key")},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            every_s=0.4,
        )
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    return {"access_key": people.make_key(part["url"], ACCOUNT, f"keyturn {os.urandom(3).hex()}")}


ACTS = {("ecosystem", "supply"): _supply}
