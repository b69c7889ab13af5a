"""PostgreSQL, three ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row

PART = "postgres"


def rows(pg: Mapping[str, Any], _callback: str) -> list[Row]:
    place = {"host": pg["host"], "port": str(pg["port"]), "database": pg["database"], "sslmode": "disable"}
    admin = {"admin_user": pg["rotator"]["name"]}
    pair = pg["pair"]
    return [
        Row(
            "warehouse by the DBA",
            "postgresql",
            "password",
            {**place, "user": pg["single"]["name"], **admin},
            {"password": pg["single"]["password"], "admin_password": pg["rotator"]["password"]},
            every_s=0.05,
        ),
        Row(
            "warehouse by itself",
            "postgresql",
            "password",
            {**place, "user": pg["self"]["name"]},
            {"password": pg["self"]["password"]},
            every_s=0.05,
        ),
        Row(
            "warehouse two roles",
            "postgresql",
            "password",
            {
                **place,
                "roles": "two",
                "user": pair["active"]["name"],
                "role_a": pair["active"]["name"],
                "role_b": pair["idle"],
                "group_role": pair["owner"],
                **admin,
            },
            {"password": pair["active"]["password"], "admin_password": pg["rotator"]["password"]},
            every_s=0.05,
        ),
    ]
