"""Freshdesk: one agent whose key is reset during a pause, and two agents that take turns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from demo.row import Row
from keyturn_lab import people

PART = "freshdesk"
USER = "integration@acme.example"
PAIR_HOST, PAIR = "globex.freshdesk.com", ("integration@globex.example", "standby@globex.example")


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    first, second = PAIR
    return [
        Row(
            "support desk",
            "freshdesk",
            "api_key",
            {"domain": "acme", "base_url": url},
            {"api_key": people.freshdesk_view_key(url, USER)},
            {"settle_create_s": "1", "settle_revoke_s": "0"},
            every_s=0.4,
        ),
        Row(
            "support desk two agents",
            "freshdesk",
            "api_key",
            {
                "domain": "globex",
                "base_url": f"{url}/tenants/globex",
                "agents": "two",
                "first_agent": first,
                "second_agent": second,
                "agent": first,
            },
            {"api_key": people.freshdesk_view_key(url, first, host=PAIR_HOST)},
            {"settle_create_s": "1", "settle_revoke_s": "0"},
            every_s=0.4,
        ),
    ]


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Resets the one agent's key, or that of the agent who is not in use, as the first step says."""
    in_use = re.findall(r"In use now: (\S+)\.", " ".join(each["text"] for each in task["instructions"]))
    if not in_use:
        return {"api_key": people.freshdesk_reset_key(part["url"], USER)}
    idle = next(agent for agent in PAIR if agent != in_use[0])
    return {"api_key": people.freshdesk_reset_key(part["url"], idle, host=PAIR_HOST), "agent": idle}


def _reset(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """Resets the key of the agent that the steps name, and copies nothing."""
    texts = " ".join(each["text"] for each in task["instructions"])
    (named,) = [agent for agent in PAIR if f"Reset the key of {agent} " in texts]
    people.freshdesk_reset_key(part["url"], named, host=PAIR_HOST)
    return {}


ACTS = {("freshdesk", "supply"): _supply, ("freshdesk", "delete"): _reset}
