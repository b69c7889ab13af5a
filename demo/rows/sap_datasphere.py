"""SAP Datasphere, three ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post
from keyturn_lab.vendors.sap_datasphere import people

PART = "sap_datasphere"
NAMES = {"warehouse loads by hand": "SALES#BY_HAND", "warehouse loads": "SALES#BY_HUB"}
FAST = {"settle_create_s": "0.6", "settle_revoke_s": "0.6"}


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    where = get(f"{url}/_lab/sql")
    place = {"host": where["host"], "port": str(where["port"]), "tls": "false", "read_table": "SALES.REVENUE"}
    client = next(each for each in get(f"{url}/_lab/clients") if each["spaces"])
    by_hub = {
        "tenant": url,
        "token_url": f"{url}/oauth/token",
        "admin_client_id": client["client_id"],
    }
    secret = {"admin_client_secret": client["client_secret"]}

    def first(user: str) -> dict[str, str]:
        return {"password": post(f"{url}/_lab/users", {"name": user, "password": True})["password"]}

    hand, hub = NAMES["warehouse loads by hand"], NAMES["warehouse loads"]
    pair = {"user_a": "SALES#GAINSIGHT", "user_b": "SALES#GAINSIGHT_B"}
    found = [
        Row(
            "warehouse loads by hand",
            "sap-datasphere",
            "password",
            {**place, "user": hand, "users": "one by a person"},
            first(hand),
            FAST,
            every_s=0.5,
        ),
        Row(
            "warehouse loads",
            "sap-datasphere",
            "password",
            {**place, **by_hub, "user": hub, "users": "one by the hub"},
            {**first(hub), **secret},
            FAST,
            every_s=0.5,
        ),
        Row(
            "warehouse reads two users",
            "sap-datasphere",
            "password",
            {**place, **by_hub, **pair, "user": pair["user_a"], "users": "two"},
            {**first(pair["user_a"]), **secret},
            FAST,
            every_s=0.2,
        ),
    ]
    post(f"{url}/_lab/dials", {"settle_s": 0.1, "linger_s": 0.1})
    return found


def _supply(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    user = NAMES[task["connection"]]
    return {"user": user, "password": people.request_password(part["url"], user)}


ACTS = {("sap-datasphere", "supply"): _supply}
