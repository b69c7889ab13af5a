"""Productboard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row
from keyturn_lab.vendors.productboard import people

PART = "productboard"
MEMBER = "integration@acme.example"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    token = people.create_token(url, MEMBER, "first token")
    return [
        Row(
            "product feedback",
            "productboard",
            "access_token",
            {"workspace": "acme", "base_url": url, "token_name": "first token"},
            {"access_token": token},
            {"settle_create_s": "1.5", "settle_revoke_s": "1.5"},
            every_s=0.5,
        )
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    name = f"keyturn {os.urandom(3).hex()}"
    return {"access_token": people.create_token(part["url"], MEMBER, name), "token_name": name}


def _delete(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Finds the row to delete by the name at the end of a step's text, as a person would."""
    known = people.token_names(part["url"], MEMBER)
    texts = [each["text"] for each in task["instructions"]]
    named = [name for name in known if any(text.endswith(f"named {name}") for text in texts)]
    if len(named) != 1:
        raise LookupError(f"the instructions name {len(named)} of the tokens {known}")
    people.delete_token(part["url"], MEMBER, named[0])
    return {}


ACTS = {("productboard", "supply"): _supply, ("productboard", "delete"): _delete}
