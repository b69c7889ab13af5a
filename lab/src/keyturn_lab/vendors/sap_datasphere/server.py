"""The tenant's token endpoint, its discovery document and the database users' calls.

The real paths are only in a tenant's own discovery document; those here are invented and can be changed by setting.
Wire as run with SAP's command line client 2026.19.0 (2026-11-23).
"""

import base64
import binascii
import secrets
from urllib.parse import unquote

from flask import Blueprint, Flask, Response, g, jsonify, request

from keyturn_lab import guard
from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Stage, add_settings, build_app
from keyturn_lab.vendors.sap_datasphere.hana import SqlServer
from keyturn_lab.vendors.sap_datasphere.pages import pages
from keyturn_lab.vendors.sap_datasphere.state import USER, USERS, Client, DbUser, Tenant


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh tenant with two spaces and three database users, and its database on a port of its own.

    Ops: `token`, `discovery`, `list`, `create`, `delete`, `csrf`, `reset`, and `sql_login` at the database.
    """
    clock = clock or Clock()
    quirks = Quirks(seed)
    tenant = Tenant(clock, quirks)
    sql = SqlServer(tenant)
    app = build_app(
        Stage(
            "sap_datasphere",
            tenant,
            throttled=_throttled,
            quirks=quirks,
            clock=clock,
            op_of=lambda: _op(tenant),
        )
    )
    add_settings(app, lambda: tenant.settings)
    app.register_blueprint(pages(tenant))
    app.register_blueprint(_steering(tenant, sql))
    app.register_blueprint(_api(tenant))
    return app


def _throttled() -> Response:
    answer = _refuse(429, "TOO_MANY_REQUESTS")
    answer.headers["Retry-After"] = "1"
    return answer


def _refuse(status: int, code: str) -> Response:
    answer = jsonify(code=code, message="The request failed.")
    answer.status_code = status
    return answer


def _op(tenant: Tenant) -> str | None:
    if request.path == "/oauth/token":
        return "token"
    if request.path.endswith("/discovery"):
        return "discovery"
    user = _matched(tenant.settings.reset_path)
    if user is not None:
        return "reset" if request.method == "POST" else "csrf"
    if _matched(USER) is not None:
        return "delete"
    if _matched(USERS) is not None:
        return "list" if request.method == "GET" else "create"
    return None


def _matched(template: str) -> dict[str, str] | None:
    """The values of a path template in the raw path: `#` arrives as %23."""
    raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path
    parts, wanted = raw.partition("?")[0].split("/"), template.split("/")
    if len(parts) != len(wanted):
        return None
    found = {}
    for part, name in zip(parts, wanted, strict=True):
        if name.startswith("{"):
            found[name.strip("{}")] = unquote(part)
        elif name != part:
            return None
    return found


def _discovery(tenant: Tenant) -> dict[str, object]:
    """An OpenAPI document in which an operation's id is the command of the command line client."""

    def inside(name: str, place: str = "path") -> dict[str, object]:
        return {"name": name, "in": place, "required": True, "schema": {"type": "string"}}

    space, user = inside("space"), inside("databaseuser")
    token = [inside("x-csrf-token", "header")] if tenant.settings.csrf else []
    form = {"content": {"application/x-www-form-urlencoded": {}}}
    return {
        "openapi": "3.0.3",
        "info": {"title": "Datasphere CLI", "version": "1.0.0"},
        "paths": {
            USERS: {
                "get": {"operationId": "dbusers list", "parameters": [space]},
                "post": {"operationId": "dbusers create", "parameters": [space, *token]},
            },
            USER: {"delete": {"operationId": "dbusers delete", "parameters": [space, user, *token]}},
            tenant.settings.reset_path: {
                "post": {
                    "operationId": "dbusers password reset",
                    "parameters": [space, user, *token],
                    "requestBody": form,
                }
            },
        },
    }


def _api(tenant: Tenant) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.post("/oauth/token")
    def token() -> Response:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        try:
            name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name, secret = "", ""
        client = tenant.clients.get(name)
        if scheme.lower() != "basic" or client is None or client.client_secret != secret:
            answer = jsonify(error="unauthorized", error_description="Bad credentials")
            answer.status_code = 401
            return answer
        if request.form.get("grant_type") != "client_credentials":
            return _refuse(400, "unsupported_grant_type")
        made = guard.mint("datasphere_token", 60)
        tenant.tokens[made] = client
        return jsonify(
            access_token=made, token_type="bearer", expires_in=3600, scope="dwc", jti=secrets.token_hex(8)
        )

    @api.before_request
    def enter() -> Response | None:
        if request.path == "/oauth/token":
            return None
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        client = tenant.tokens.get(value) if scheme.lower() == "bearer" else None
        if client is not None and tenant.settings.refuse_next_tokens > 0 and request.method == "POST":
            tenant.settings.refuse_next_tokens -= 1
            del tenant.tokens[value]
            client = None
        if client is None:
            return _refuse(401, "UNAUTHORIZED")
        g.client = client
        return None

    @api.get("/dwaas-core/api/v1/discovery")
    def discovery() -> Response:
        answer = jsonify(_discovery(tenant))
        answer.headers["x-sap-cli-core-discovery-etag"] = "1"
        return answer

    @api.route("/<path:_path>", methods=["GET", "POST", "DELETE"])
    def call(_path: str) -> Response:
        for template in (tenant.settings.reset_path, USER, USERS):
            named = _matched(template)
            if named is not None:
                break
        else:
            return _refuse(404, "NOT_FOUND")
        client: Client = g.client
        if named["space"] not in tenant.spaces:
            return _refuse(404, "SPACE_NOT_FOUND")
        if named["space"] not in client.spaces:
            return _refuse(403, "FORBIDDEN")
        if request.method == "GET":
            answer = jsonify(_listed(tenant, named["space"]))
            if request.headers.get("x-csrf-token", "").lower() == "fetch":
                fresh = secrets.token_hex(16)
                tenant.csrf.add(fresh)
                answer.headers["x-csrf-token"] = fresh
            return answer
        if tenant.settings.csrf and request.headers.get("x-csrf-token") not in tenant.csrf:
            refused = _refuse(403, "CSRF")
            refused.headers["x-csrf-token"] = "Required"
            return refused
        user = tenant.known(named.get("databaseuser", ""))
        if template == USERS:
            for name in request.get_json(silent=True) or {}:
                tenant.create(str(name))
            return jsonify(_listed(tenant, named["space"]))
        if user is None or user.space != named["space"]:
            return _refuse(404, "DATABASE_USER_NOT_FOUND")
        if request.method == "DELETE":
            tenant.delete(user.name)
            return Response(status=204)
        shown = {tenant.settings.password_field: tenant.request_password(user)}
        return jsonify({"databaseuser": user.name, "port": 443, **shown, "schema": user.name})

    return api


def _listed(tenant: Tenant, space: str) -> dict[str, object]:
    now = tenant.clock.now()

    def shape(user: DbUser) -> dict[str, object]:
        return {
            "status": "Active" if user.active_at <= now else "Pending",
            "consumption": {"enablePasswordPolicy": user.has_lifetime, "localSchemaAccess": user.can_write},
        }

    return {each.name: shape(each) for each in tenant.users.values() if each.space == space}


def _steering(tenant: Tenant, sql: SqlServer) -> Blueprint:
    """The admin endpoints that only this vendor needs."""
    steering = Blueprint("steering", __name__, url_prefix="/_lab")

    @steering.get("/sql")
    def where() -> Response:
        return jsonify(host=guard.LOOPBACK, port=sql.port, tls_port=sql.tls_port, authority=sql.authority)

    @steering.get("/clients")
    def clients() -> Response:
        return jsonify([vars(each) for each in tenant.clients.values()])

    @steering.post("/users")
    def user() -> Response:
        """Change a database user, or add one; `password: true` gives it a new one, which is returned."""
        body = dict(request.get_json())
        name, wants = body.pop("name"), body.pop("password", False)
        found = tenant.known(name) or tenant.create(name)
        if body.pop("locked", None) is not None:
            found.locked_until = tenant.clock.now() + 86_400
        if body.pop("unlocked", None) is not None:
            found.locked_until, found.failures = 0.0, 0
        for key, value in body.items():
            setattr(found, key, value)
        return jsonify(password=tenant.request_password(found) if wants else None)

    return steering
