"""Zuora."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from demo.row import Row, post
from keyturn_lab.vendors.zuora import people

PART = "zuora"
USER = "integration@acme.example"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    # The consumer loop logs in afresh each time, which is more often than Zuora lets one address.
    post(f"{url}/_lab/settings", {"token_per_minute": 100_000})
    made = people.create_client(url, USER, "first client")
    return [
        Row(
            "billing",
            "zuora",
            "oauth_client",
            {
                "data_centre": "rest.zuora.com",
                "user_name": USER,
                "base_url": url,
                "client_id": made["client_id"],
            },
            {"client_secret": made["client_secret"]},
            {"settle_create_s": "1.5", "settle_revoke_s": "1.5"},
            every_s=0.5,
        )
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del task
    return people.create_client(part["url"], USER, f"keyturn {os.urandom(3).hex()}")


def _delete(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Finds the row to delete by the id that a step's text gives, as a person would."""
    texts = json.dumps([each["text"] for each in task["instructions"]])
    named = [client_id for client_id in people.client_ids(part["url"], USER) if client_id in texts]
    if len(named) != 1:
        raise LookupError(f"the instructions name {len(named)} of the clients")
    people.delete_client(part["url"], USER, named[0])
    return {}


ACTS = {("zuora", "supply"): _supply, ("zuora", "delete"): _delete}
