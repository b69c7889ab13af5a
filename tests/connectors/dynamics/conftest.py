"""A running tenant, and one connection's access to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from keyturn.contract.values import Access, NetworkPolicy
from keyturn.keymaking import certificates, rsa
from keyturn.keymaking.certificates import Certified
from keyturn.model.secret import Material
from keyturn_lab.standin import running
from keyturn_lab.vendors.dynamics import STANDIN, people

OWNED = "Application.ReadWrite.OwnedBy"
NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))


@dataclass
class There:
    """The tenant, the integration's application in it, and the rotator that owns it."""

    url: str
    app: dict[str, Any]
    rotator: dict[str, Any]
    tenant: str

    def lab(self, door: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/_lab/{door}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def change(self, **fields: Any) -> Any:
        return self.lab("apps", {"app_id": self.app["app_id"], **fields})

    def arm(self, op: str, kind: str, **more: Any) -> None:
        self.lab("faults", [{"op": op, "kind": kind, **more}])

    def now(self) -> dict[str, Any]:
        return next(a for a in self.lab("apps") if a["app_id"] == self.app["app_id"])

    def ops(self) -> list[str]:
        return [each["op"] for each in self.lab("log")]

    def add_secret(self) -> Material:
        return Material({"client_secret": people.add_secret(self.url, self.app["app_id"])})

    def add_certificate(self, pair: Certified) -> Material:
        people.upload_certificate(self.url, self.app["app_id"], pair.der)
        return Material({"certificate": pair.pem.reveal()})

    def access(self, acting: Material | None, *, admin: bool = True, **more: Any) -> Access:
        settings = {
            "tenant_id": self.tenant,
            "client_id": self.app["app_id"],
            "org_url": self.url,
            "login_url": self.url,
            "graph_url": f"{self.url}/graph",
            "table": "accounts",
            **more,
        }
        parts = {
            "admin_client_id": self.rotator["app_id"],
            "admin_client_secret": self.rotator["secrets"][0]["value"],
        }
        return Access(settings, acting, Material(parts) if admin else None, 10.0, NETWORK)


@pytest.fixture
def there() -> Iterator[There]:
    with running(STANDIN.create_app()) as url:
        made = There(url, {}, {}, "")
        made.lab("dials", {"latency_s": 0})
        named = {each["name"]: each for each in made.lab("apps")}
        made.app, made.rotator = named["Gainsight connector"], named["Keyturn rotator"]
        made.tenant = made.lab("tenant")["id"]
        yield made


@pytest.fixture(scope="session")
def pairs() -> list[Certified]:
    return [certificates.self_signed(rsa.generate(), f"pair {n}", 90) for n in range(3)]
