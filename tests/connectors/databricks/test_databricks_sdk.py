"""Every call that is sent exists, with its fields, in the source of the official SDK that is installed."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from databricks.sdk import core, environments, oauth
from databricks.sdk.service import catalog, iam, oauth2, settings, sql

from keyturn.connectors.databricks import client
from keyturn.connectors.databricks.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.transport.http import Answer, Request
from keyturn.transport.ssrf import matches

NAME = "6f1b6dc2-6c6a-4a7c-9d0e-0a4f5b1f3a11"
ACCOUNT = "1f8b6dc2-6c6a-4a7c-9d0e-0a4f5b1f3a99"
SETTINGS = {
    "host": "https://dbc-1.cloud.databricks.com",
    "http_path": "/sql/1.0/warehouses/a1b234c567d8e9fa",
    "client_id": NAME,
}
ADMIN = Material({"client_id": NAME, "client_secret": "dose" + "0" * 32, "token": "dapi" + "1" * 32})
ACTING = Material(
    {"client_id": NAME, "client_secret": "dose" + "2" * 32, "secret_id": "s1", "token": "dapi" + "3" * 32}
)


@dataclass
class Known:
    """One call of the SDK: what it sends."""

    method: str
    path: re.Pattern[str]
    fields: set[str] = field(default_factory=set)
    query: set[str] = field(default_factory=set)


def known_calls(module: Any) -> Iterator[Known]:
    """Every `self._api.do("METHOD", path, ...)` of a module, with the keys its function puts into body and query."""
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(function, ast.FunctionDef):
            continue
        keys: dict[str, set[str]] = {"body": set(), "query": set()}
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.value, ast.Name)
                and node.value.id in keys
                and isinstance(node.slice, ast.Constant)
            ):
                keys[node.value.id].add(str(node.slice.value))
        # Filters and pages of SCIM are arguments that the query takes by name.
        for call in ast.walk(function):
            is_call = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
            if is_call and call.func.attr == "do" and len(call.args) >= 2:
                method, path = call.args[:2]
                if isinstance(method, ast.Constant):
                    yield Known(str(method.value), re.compile(_pattern(path)), keys["body"], keys["query"])


def _pattern(path: ast.expr) -> str:
    if isinstance(path, ast.Constant):
        return "^" + re.escape(str(path.value)) + "$"
    assert isinstance(path, ast.JoinedStr)
    pieces = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[^/]+" for p in path.values]
    return "^" + "".join(pieces) + "$"


KNOWN = [call for module in (oauth2, iam, settings, sql, catalog) for call in known_calls(module)]


class Wire:
    """Answers as the SDK's own classes are shaped, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Request] = []

    def send(self, request: Request, network: NetworkPolicy) -> Answer:
        del network
        self.sent.append(request)
        path = urlsplit(request.url).path
        headers = {"x-databricks-org-id": "1", "content-type": "application/json"}
        return Answer(200, headers, json.dumps(self._body(request, path)).encode())

    def _body(self, request: Request, path: str) -> Any:
        if path.endswith("/token"):
            return {"access_token": "a-token"}
        if path.endswith("/Me"):
            return iam.User(id="7", user_name=NAME, display_name="jobs").as_dict()
        if path.endswith("/ServicePrincipals"):
            row = iam.ServicePrincipal(id="7", application_id=NAME).as_dict()
            return {"Resources": [row]}
        if path.endswith("/Users"):
            return {"Resources": [iam.User(id="7", user_name="ana@acme.example").as_dict()]}
        if request.method == "POST" and path.endswith("/secrets"):
            made = oauth2.CreateServicePrincipalSecretResponse(
                id="s2", secret="dose" + "4" * 32, expire_time="2027-01-01T00:00:00Z"
            )
            return made.as_dict()
        if path.endswith("/secrets"):
            row = oauth2.SecretInfo(id="s1", scopes=["sql"], create_time="2026-11-01T00:00:00Z")
            return {"secrets": [row.as_dict()]}
        if path.endswith(("/token/create", "/on-behalf-of/tokens")):
            info = settings.PublicTokenInfo(token_id="t2", comment="c", creation_time=1, expiry_time=2)
            return settings.CreateTokenResponse(token_info=info, token_value="dapi" + "5" * 32).as_dict()
        if path.endswith(("/token/list", "/token-management/tokens")) and request.method == "GET":
            row = settings.TokenInfo(token_id="t1", owner_id=7, comment="c", scopes=["sql"], creation_time=1)
            return {"token_infos": [row.as_dict()]}
        if path.endswith("/sql/statements"):
            status = sql.StatementStatus(state=sql.StatementState.SUCCEEDED)
            rows = sql.ResultData(data_array=[["3"]], row_count=1)
            return sql.StatementResponse(statement_id="s", status=status, result=rows).as_dict()
        if path.endswith("/unity-catalog/tables"):
            return catalog.ListTablesResponse(tables=[catalog.TableInfo(name="orders")]).as_dict()
        if path.endswith("/unity-catalog/catalogs"):
            return catalog.ListCatalogsResponse(catalogs=[catalog.CatalogInfo(name="main")]).as_dict()
        return {}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(client, "send", made.send)
    return made


def everything(method: str, access: Access) -> None:
    """All capabilities, one after another."""
    can = capabilities(method, {})
    assert can.lister
    assert can.issuer
    assert can.revoker
    assert can.locator
    assert can.reader
    for what, there in (("main.sales.orders", 3), ("main.sales", 1), ("", 1)):
        assert can.reader.read_sample(access, ACTING, what, 10).count == there
    assert can.verifier.verify(access, ACTING).verdict.value == "accepted"
    assert can.locator.locate(access, Material({**ACTING, "secret_id": "", "token_id": ""})).id in {
        "s1",
        "t1",
    }
    assert [each.ref.id for each in can.lister.list(access)] in (["s1"], ["t1"])
    made = can.issuer.read(access, can.issuer.issue(access, Ref()))
    assert made.ref.id in {"s2", "t2"}
    assert made.expires_at
    can.revoker.revoke(access, made.ref, made.material)


CASES = {
    "oauth by itself": ("oauth", SETTINGS, None),
    "oauth by a rotator": ("oauth", SETTINGS, ADMIN),
    "oauth by the account": ("oauth", {**SETTINGS, "account_id": ACCOUNT}, ADMIN),
    "user by itself": ("user", {**SETTINGS, "user_name": NAME}, None),
    "principal by an admin": ("user", {**SETTINGS, "user_name": NAME}, ADMIN),
}


@pytest.mark.parametrize("case", CASES)
def test_every_call_is_the_sdks(case: str, wire: Wire) -> None:
    """Method, path, body fields and query parameters of each call are those of one call in the SDK's source."""
    method, values, admin = CASES[case]
    everything(method, Access(values, ACTING, admin, 10.0, NetworkPolicy(), "keyturn-1"))
    assert len(wire.sent) > 5
    for request in wire.sent:
        url = urlsplit(request.url)
        if url.path.endswith("/v1/token"):
            continue
        found = [k for k in KNOWN if k.method == request.method and k.path.match(url.path)]
        assert found, f"{request.method} {url.path} is no call of the SDK"
        body = set(json.loads(request.body)) if request.body else set()
        query = set(parse_qs(url.query))
        assert any(body <= k.fields and query <= k.query for k in found), (
            f"{request.method} {url.path} sends {sorted(body | query)}, the SDK knows"
            f" {[sorted(k.fields | k.query) for k in found]}"
        )


def test_the_login_is_the_sdks(wire: Wire) -> None:
    """Client credentials in a Basic header for all-apis, at the path that the SDK falls back to."""
    access = Access(SETTINGS, ACTING, None, 10.0)
    capabilities("oauth", {}).verifier.verify(access, ACTING)
    sent = wire.sent[0]
    assert urlsplit(sent.url).path == core.OIDC_TOKEN_PATH
    assert parse_qs(sent.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["all-apis"]}
    source = inspect.getsource(oauth)
    assert '"grant_type": "client_credentials"' in source
    assert "HTTPBasicAuth(client_id, client_secret)" in source
    assert sent.headers["Authorization"].startswith("Basic ")


def test_no_secret_is_in_an_address(wire: Wire) -> None:
    """Neither path nor query ever holds a value."""
    for method, values, admin in CASES.values():
        everything(method, Access(values, ACTING, admin, 10.0, NetworkPolicy(), "keyturn-1"))
    for request in wire.sent:
        assert "dose" not in request.url
        assert "dapi" not in request.url


def test_the_hosts_are_the_sdks() -> None:
    """A secret goes to the zones that the SDK knows, and to no look-alike."""
    zones = {env.dns_zone for env in environments.ALL_ENVS}
    mine = {pattern.removeprefix("*") for pattern in client.HOSTS}
    assert {zone for zone in zones if not any(w in zone for w in ("dev", "staging"))} <= mine | {
        z for z in zones if any(matches(p, f"x{z}") for p in client.HOSTS)
    }
    for pattern in client.HOSTS:
        assert not matches(pattern, "databricks.com.evil.example")
