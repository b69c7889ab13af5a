"""Snowflake: key pair, password and OAuth; a password by the administrator, a grant begun in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from demo.row import Row, post, url_of
from keyturn.keymaking import rsa
from keyturn_lab import guard
from keyturn_lab.vendors.snowflake import people

PART = "snowflake"
ROLE, CONSENTING, INTEGRATION = "GAINSIGHT_ROLE", "GS_GRANT_USER", "GAINSIGHT"
FIRST_PASSWORD = "ktlab-Basic-until-2026"


def rows(part: Mapping[str, Any], callback: str) -> list[Row]:
    url = part["url"]
    pair = rsa.generate()
    role = {"roles": [ROLE], "default_role": ROLE}
    post(f"{url}/_lab/users", {"name": "GS_GAINSIGHT_USER", "RSA_PUBLIC_KEY": pair.public_key})
    post(f"{url}/_lab/users", {"name": "GS_BASIC_USER", "password": FIRST_PASSWORD, **role})
    post(f"{url}/_lab/users", {"name": CONSENTING, "password": guard.DEMO_PASSWORD, **role})
    made = post(
        f"{url}/_lab/integrations", {"name": INTEGRATION, "properties": {"OAUTH_REDIRECT_URI": callback}}
    )
    where = urlsplit(url)
    place = {
        "account": "testacct",
        "host": where.hostname or "",
        "port": str(where.port),
        "protocol": "http",
        "admin_user": "KEYTURN_ADMIN",
    }
    admin = {"admin_password": guard.DEMO_PASSWORD}
    return [
        Row(
            "snowflake jobs",
            "snowflake",
            "key_pair",
            {**place, "user": "GS_GAINSIGHT_USER"},
            {"private_key": pair.private_pem.reveal(), **admin},
            every_s=0.7,
        ),
        Row(
            "snowflake basic",
            "snowflake",
            "password",
            {**place, "user": "GS_BASIC_USER"},
            {"password": FIRST_PASSWORD, **admin},
            every_s=0.7,
        ),
        Row(
            "snowflake oauth",
            "snowflake",
            "oauth",
            {
                **place,
                "user": CONSENTING,
                "role": ROLE,
                "integration": INTEGRATION,
                "client_id": made["client_id"],
            },
            admin,
            every_s=0.7,
        ),
    ]


def _consent(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del part
    return {"callback_url": people.consent(url_of(task), CONSENTING)}


ACTS = {("snowflake", "consent"): _consent}
