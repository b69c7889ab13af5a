"""Dynamics: a secret rotated by an administrator's application, a certificate that rolls itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row, get, post
from keyturn.keymaking import certificates, rsa
from keyturn_lab.vendors.dynamics import people

PART = "dynamics"
OWNED = "Application.ReadWrite.OwnedBy"


def rows(part: Mapping[str, Any], _callback: str) -> list[Row]:
    url = part["url"]
    there = get(f"{url}/_lab/apps")
    rotator = next(each for each in there if each["name"] == "Keyturn rotator")
    pair = certificates.self_signed(rsa.generate(), "integration", 90)
    by_secret = _application(url, "CRM sync", rotator["app_id"])
    by_certificate = _application(url, "CRM export", None)
    people.upload_certificate(url, by_certificate, pair.der)
    where = {
        "tenant_id": get(f"{url}/_lab/tenant")["id"],
        "org_url": url,
        "login_url": url,
        "graph_url": f"{url}/graph",
    }
    secret = people.add_secret(url, by_secret)
    post(f"{url}/_lab/dials", {"settle_s": 0.6, "linger_s": 0.6})  # seconds to minutes at the vendor
    policy = {"settle_create_s": "2", "settle_revoke_s": "2"}
    return [
        Row(
            "crm sync",
            "dynamics",
            "client_secret",
            {**where, "client_id": by_secret, "admin_client_id": rotator["app_id"]},
            {
                "client_secret": secret,
                "admin_client_secret": rotator["secrets"][0]["value"],
            },
            policy,
            every_s=0.4,
        ),
        Row(
            "crm export",
            "dynamics",
            "certificate",
            {**where, "client_id": by_certificate},
            {"certificate": pair.pem.reveal()},
            policy,
            every_s=0.6,
        ),
    ]


def _application(url: str, name: str, owner: str | None) -> str:
    """A new application, owned by `owner`, or by itself."""
    made = post(f"{url}/_lab/apps", {"name": name})["app_id"]
    post(f"{url}/_lab/apps", {"app_id": made, "owners": [owner or made], "roles": [OWNED]})
    return str(made)
