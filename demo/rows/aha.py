"""Aha."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row
from keyturn_lab import people

PART = "aha"
USER = "integration@acme.example"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    key = people.aha_generate_key(url, USER, "first key")
    return [
        Row(
            "product ideas",
            "aha",
            "api_key",
            {"subdomain": "acme", "base_url": url, "key_name": "first key"},
            {"api_key": key},
            {"settle_create_s": "1.5", "settle_revoke_s": "1.5"},
            every_s=0.5,
        )
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    name = f"keyturn {os.urandom(3).hex()}"
    return {"api_key": people.aha_generate_key(part["url"], USER, name), "key_name": name}


def _delete(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Finds the row to delete by the name the instructions give, as a person would."""
    text = json.dumps(task["instructions"])
    known = people.aha_key_names(part["url"], USER)
    named = [name for name in known if name in text]
    if len(named) != 1:
        raise LookupError(f"the instructions name {len(named)} of the keys {known}")
    people.aha_delete_key(part["url"], USER, named[0])
    return {}


ACTS = {("aha", "supply"): _supply, ("aha", "delete"): _delete}
