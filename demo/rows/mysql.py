"""MySQL and MariaDB, four ways, on a real MariaDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row

PART = "mariadb"


def rows(db: Mapping[str, Any], _callback: str) -> list[Row]:
    place = {"host": db["host"], "port": str(db["port"]), "database": db["database"], "sslmode": "disable"}
    admin = {"admin_user": db["rotator"]["name"]}
    secret = {"admin_password": db["rotator"]["password"]}
    pair = db["pair"]

    def row(name: str, user: Mapping[str, str], settings: Mapping[str, str], *, by_admin: bool = True) -> Row:
        return Row(
            name,
            "mysql",
            "password",
            {**place, "user": user["name"], **settings, **(admin if by_admin else {})},
            {"password": user["password"], **(secret if by_admin else {})},
            every_s=0.05,
        )

    taking_turns = {"user_a": pair["active"]["name"], "user_b": pair["idle"], "role": pair["role"]}
    return [
        row("shop by the DBA", db["single"], {}),
        row("shop by itself", db["self"], {}, by_admin=False),
        row("shop two passwords", db["overlap"], {"pattern": "overlap"}),
        row("shop two users", pair["active"], {"pattern": "two", **taking_turns}),
    ]
