"""Custom REST: consent and client credentials at a certified OAuth server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import DEFINITIONS, Row, url_of
from keyturn_lab.parts import oidc

PART = "oidc"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    web, machine = part["clients"]["web"], part["clients"]["machine"]
    return [
        Row(
            "crm by consent",
            "custom-rest",
            "oauth2",
            {"issuer": part["url"], "client_id": web["client_id"]},
            {"client_secret": web["client_secret"]},
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            definition=DEFINITIONS / "oidc-grant.yaml",
            every_s=0.3,
        ),
        Row(
            "crm machine client",
            "custom-rest",
            "oauth2",
            {"issuer": part["url"], "client_id": machine["client_id"]},
            {
                "client_secret": machine["client_secret"],
                "registration_access_token": machine["registration_access_token"],
                "initial_access_token": part["initial_access_token"],
            },
            {"settle_create_s": "1", "settle_revoke_s": "1"},
            definition=DEFINITIONS / "oidc-client.yaml",
            every_s=0.3,
        ),
    ]


def _consent(part: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    del part
    return {"callback_url": oidc.consent(url_of(task), "ana@acme")}


ACTS = {("custom-rest", "consent"): _consent}
