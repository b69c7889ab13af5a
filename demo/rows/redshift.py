"""Redshift, three ways, on a real PostgreSQL behind a proxy that speaks Redshift's peculiarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row

PART = "redshift"


def rows(db: Mapping[str, Any], _callback: str) -> list[Row]:
    place = {"host": db["host"], "port": str(db["port"]), "database": db["database"], "sslmode": "disable"}
    admin = {"admin_user": db["rotator"]["name"]}
    secret = {"admin_password": db["rotator"]["password"]}
    pair = db["pair"]
    taking_turns = {
        "users": "two",
        "user": pair["active"]["name"],
        "user_a": pair["active"]["name"],
        "user_b": pair["idle"],
        "group": pair["group"],
    }
    return [
        Row(
            "reports by the DBA",
            "redshift",
            "password",
            {**place, "user": db["single"]["name"], **admin},
            {"password": db["single"]["password"], **secret},
            every_s=0.05,
        ),
        Row(
            "reports by itself",
            "redshift",
            "password",
            {**place, "user": db["self"]["name"]},
            {"password": db["self"]["password"]},
            every_s=0.05,
        ),
        Row(
            "reports two users",
            "redshift",
            "password",
            {**place, **taking_turns, **admin},
            {"password": pair["active"]["password"], **secret},
            every_s=0.05,
        ),
    ]
