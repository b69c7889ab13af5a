"""Snowflake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from demo.row import Row, post
from keyturn.keymaking import rsa
from keyturn_lab import guard

PART = "snowflake"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    pair = rsa.generate()
    post(f"{url}/_lab/users", {"name": "GS_GAINSIGHT_USER", "RSA_PUBLIC_KEY": pair.public_key})
    where = urlsplit(url)
    return [
        Row(
            "snowflake jobs",
            "snowflake",
            "key_pair",
            {
                "account": "testacct",
                "host": where.hostname or "",
                "port": str(where.port),
                "protocol": "http",
                "user": "GS_GAINSIGHT_USER",
                "admin_user": "KEYTURN_ADMIN",
            },
            {"private_key": pair.private_pem.reveal(), "admin_password": guard.DEMO_PASSWORD},
            every_s=0.7,
        )
    ]
