"""How each row of the demo is connected: the words a person would type, with the lab's addresses filled in."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keyturn.keymaking import rsa
from keyturn_lab import guard, people

DEFINITIONS = Path(__file__).parent / "definitions"
AHA_USER = "integration@acme.example"


@dataclass(frozen=True)
class Row:
    """One connection of the demo. `secret` values go to the CLI through environment variables, never arguments."""

    name: str
    system: str
    method: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, str] = field(default_factory=dict)
    definition: Path | None = None
    every_s: float = 0.2  # how often its consumer logs in afresh


def rows(world: Mapping[str, Any], callback: str) -> list[Row]:
    """Every row that the lab's parts allow, in the order of the table of strategies. `callback` is the hub's own."""
    parts = world["parts"]
    found: list[Row] = []
    if "postgres" in parts:
        found += _postgres(parts["postgres"])
    if "aws" in parts:
        found.append(_s3(parts["aws"]))
    if "snowflake" in parts:
        found.append(_snowflake(parts["snowflake"]["url"]))
    if "freshdesk" in parts:
        found.append(_freshdesk(parts["freshdesk"]["url"]))
    if "aha" in parts:
        found.append(_aha(parts["aha"]["url"]))
    if "jira" in parts:
        found.append(_jira(parts["jira"]["url"], callback))
    if "oidc" in parts:
        found += _oidc(parts["oidc"])
    return found


def _postgres(pg: Mapping[str, Any]) -> list[Row]:
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


def _s3(aws: Mapping[str, Any]) -> Row:
    app, rotator = aws["app"], aws["rotator"]
    return Row(
        "customer bucket",
        "s3-customer",
        "access_key",
        {
            "bucket": aws["bucket"],
            "region": aws["region"],
            "user_name": app["user"],
            "access_key_id": app["access_key_id"],
            "admin_access_key_id": rotator["access_key_id"],
            "iam_endpoint": aws["url"],
            "sts_endpoint": aws["url"],
            "s3_endpoint": aws["url"],
        },
        {
            "secret_access_key": app["secret_access_key"],
            "admin_secret_access_key": rotator["secret_access_key"],
        },
        {"settle_create_s": "6", "settle_revoke_s": "4"},
        every_s=0.3,
    )


def _snowflake(url: str) -> Row:
    pair = rsa.generate()
    _post(f"{url}/_lab/users", {"name": "GS_GAINSIGHT_USER", "RSA_PUBLIC_KEY": pair.public_key})
    where = urlsplit(url)
    return Row(
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


def _freshdesk(url: str) -> Row:
    key = people.freshdesk_view_key(url, "integration@acme.example")
    return Row(
        "support desk",
        "freshdesk",
        "api_key",
        {"domain": "acme", "base_url": url},
        {"api_key": key},
        {"settle_create_s": "1", "settle_revoke_s": "0"},
        every_s=0.4,
    )


def _aha(url: str) -> Row:
    key = people.aha_generate_key(url, AHA_USER, "first key")
    return Row(
        "product ideas",
        "aha",
        "api_key",
        {"subdomain": "acme", "base_url": url, "key_name": "first key"},
        {"api_key": key},
        {"settle_create_s": "1.5", "settle_revoke_s": "1.5"},
        every_s=0.5,
    )


def _jira(url: str, callback: str) -> Row:
    app = _get(f"{url}/_lab/apps")[0]
    _post(f"{url}/_lab/apps", {"client_id": app["client_id"], "callback": callback})
    _post(f"{url}/_lab/settings", {"leeway_s": 2.0})  # ten minutes at the vendor
    return Row(
        "jira tickets",
        "jira",
        "oauth",
        {"auth_url": url, "api_url": url, "client_id": app["client_id"]},
        {"client_secret": app["client_secret"]},
        {"settle_revoke_s": "3"},
        every_s=0.4,
    )


def _oidc(oidc: Mapping[str, Any]) -> list[Row]:
    web, machine = oidc["clients"]["web"], oidc["clients"]["machine"]
    return [
        Row(
            "crm by consent",
            "custom-rest",
            "oauth2",
            {"issuer": oidc["url"], "client_id": web["client_id"]},
            {"client_secret": web["client_secret"]},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            definition=DEFINITIONS / "oidc-grant.yaml",
            every_s=0.3,
        ),
        Row(
            "crm machine client",
            "custom-rest",
            "oauth2",
            {"issuer": oidc["url"], "client_id": machine["client_id"]},
            {
                "client_secret": machine["client_secret"],
                "registration_access_token": machine["registration_access_token"],
                "initial_access_token": oidc["initial_access_token"],
            },
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            definition=DEFINITIONS / "oidc-client.yaml",
            every_s=0.3,
        ),
    ]


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())
