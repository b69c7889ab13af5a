"""Databricks' OAuth, SCIM, secrets and token endpoints as far as a rotation meets them.

Source: databricks-sdk 0.156.0 and 0.67.0, run against this; databricks-sdk-go issue 873 (checked 2026-11-23).
"""

import base64
import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from flask import Blueprint, Flask, Response, abort, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.databricks.state import Account, Pat, Principal, Refusal, Secret

NOT_ADMIN = "This API is disabled for users without account admin status. Contact your administrator for more information."
ACCOUNT_NAME = "localhost"  # the account console, where the workspace is reached by its address
NOT_SENT = "Credential was not sent or was of an unsupported type for this API."
_FILTER = re.compile(r'^(\w+) (eq|co|sw|ne) "?([^"]*)"?$')
_FIELDS = {"applicationId": "application_id", "displayName": "name", "userName": "user_name"}


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh account with its seed principals and no secret. No delay is documented, so none is the default."""
    clock = clock or Clock()
    quirks = Quirks(seed)
    account = Account(clock, quirks)
    app = build_app(Stage("databricks", account, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: account.settings)
    _add_doors(app, account)
    app.register_blueprint(_oidc(account))
    app.register_blueprint(_scim(account))
    app.register_blueprint(_secrets(account))
    app.register_blueprint(_tokens(account))
    app.register_blueprint(_data(account))
    app.register_error_handler(Refusal, _said)
    return app


def _add_doors(app: Flask, account: Account) -> None:
    """What a person does in the browser, and what only the vendor can know."""

    @app.get("/_lab/world")
    def world() -> Response:
        people = {p.name: {"id": p.id, "application_id": p.application_id} for p in account.principals}
        return jsonify(account_id=account.account_id, workspace_id=account.workspace_id, principals=people)

    @app.post("/_lab/make")
    def make() -> Response:
        body = request.get_json()
        owner = account.find(body["principal"])
        if owner is None:
            abort(404)
        if body["kind"] == "secret":
            secret = account.add_secret(owner, body.get("lifetime"), body.get("scopes"))
            return jsonify(_secret(account, secret) | {"secret": secret.value})
        pat = account.add_pat(
            owner, owner, body.get("comment", ""), body.get("lifetime_seconds"), body.get("scopes")
        )
        return jsonify(token_value=pat.value, token_info=_own(pat))

    @app.post("/_lab/principals")
    def change() -> Response:
        body = request.get_json()
        name = body.pop("name")
        found = account.find(name) or account.add(name, is_service="@" not in name)
        if "manages" in body:
            managed = [account.find(each) for each in body.pop("manages")]
            found.manages = {each.id for each in managed if each is not None}
        for key, value in body.items():
            if not hasattr(found, key):
                abort(422)
            setattr(found, key, value)
        return jsonify(id=found.id, application_id=found.application_id)


def _throttled() -> Response:
    answer = _said(Refusal(429, "REQUEST_LIMIT_EXCEEDED", "Too many requests. Please wait a moment."))
    answer.headers["Retry-After"] = "1"
    return answer


def _said(refusal: Refusal) -> Response:
    answer = jsonify(error_code=refusal.code, message=refusal.message)
    answer.status_code = refusal.status
    return answer


def _scim_refusal(status: int, detail: str) -> Response:
    answer = jsonify(
        schemas=["urn:ietf:params:scim:api:messages:2.0:Error"], detail=detail, status=str(status)
    )
    answer.status_code = status
    return answer


def _oidc(account: Account) -> Blueprint:
    routes = Blueprint("oidc", __name__)

    def discovery(prefix: str) -> Response:
        base = request.host_url.rstrip("/") + prefix
        return jsonify(
            issuer=base, authorization_endpoint=f"{base}/v1/authorize", token_endpoint=f"{base}/v1/token"
        )

    @routes.get("/.well-known/databricks-config")
    def metadata() -> Response:
        if not account.settings.metadata:
            abort(404)
        base = request.host_url.rstrip("/") + "/oidc"
        if request.host.startswith(ACCOUNT_NAME):
            return jsonify(oidc_endpoint=base + "/accounts/{account_id}", cloud="aws")
        return jsonify(
            oidc_endpoint=base, account_id=account.account_id, workspace_id=account.workspace_id, cloud="aws"
        )

    @routes.get("/oidc/.well-known/oauth-authorization-server")
    def workspace_discovery() -> Response:
        return discovery("/oidc")

    @routes.get("/oidc/accounts/<account_id>/.well-known/oauth-authorization-server")
    def account_discovery(account_id: str) -> Response:
        return discovery(f"/oidc/accounts/{account_id}")

    @routes.post("/oidc/v1/token", endpoint="token")
    @routes.post("/oidc/accounts/<account_id>/v1/token", endpoint="token")
    def token(account_id: str = "") -> Response:
        if account_id not in {"", account.account_id}:
            abort(404)
        if request.form.get("grant_type") != "client_credentials":
            return _oauth_refusal(400, "unsupported_grant_type", "Only client_credentials is served here")
        made = account.log_in(*_client(), "account" if account_id else "workspace")
        if made is None:
            return _oauth_refusal(401, "invalid_client", "Client authentication failed")
        scope = request.form.get("scope", "all-apis")
        return jsonify(access_token=made, scope=scope, token_type="Bearer", expires_in=3600)

    return routes


def _oauth_refusal(status: int, error: str, description: str) -> Response:
    answer = jsonify(error=error, error_description=description)
    answer.status_code = status
    return answer


def _client() -> tuple[str, str]:
    """Client id and secret from the Basic header, as RFC 6749 encodes them."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    try:
        pair = base64.b64decode(value, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        return "", ""
    name, _, secret = pair.partition(":")
    return unquote_plus(name), unquote_plus(secret)


def _admit(account: Account, place: str) -> Principal:
    """Who asks. A password is refused like any other unknown scheme; a personal token opens no account API."""
    if account.settings.ip_blocked and place == "workspace":
        raise Refusal(
            403,
            "PERMISSION_DENIED",
            f"Source IP address: 127.0.0.1 is blocked by Databricks IP ACL for workspace: {account.workspace_id}",
        )
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal(401, 401, NOT_SENT)
    found = account.bearer(value, place)
    if found is None and value.startswith("dapi"):
        if place == "account":
            raise Refusal(401, 401, NOT_SENT)
        found = account.pat(value)
        if found is None:
            status = account.settings.dead_token_status
            raise Refusal(status, status, "Invalid access token.")
    if found is None:
        raise Refusal(401, 401, NOT_SENT)
    return found


def _scim(account: Account) -> Blueprint:
    routes = Blueprint("scim", __name__)

    @routes.after_request
    def name_workspace(response: Response) -> Response:
        response.headers["X-Databricks-Org-Id"] = account.workspace_id
        return response

    @routes.get("/api/2.0/preview/scim/v2/Me", endpoint="me")
    def me() -> Response:
        asking = _admit(account, "workspace")
        if meets(Kind.WRONG_IDENTITY):
            asking = next(p for p in account.principals if p is not asking)
        return jsonify(
            id=asking.id, userName=asking.user_name, displayName=asking.name, active=asking.is_active
        )

    @routes.get("/api/2.0/preview/scim/v2/ServicePrincipals", endpoint="list_principals")
    @routes.get("/api/2.0/accounts/<account_id>/scim/v2/ServicePrincipals", endpoint="list_principals")
    @routes.get("/api/2.0/preview/scim/v2/Users", endpoint="list_principals")
    def principals(account_id: str = "") -> Response:
        asking = _admit(account, "account" if account_id else "workspace")
        if account_id and not asking.is_account_admin:
            return _scim_refusal(403, NOT_ADMIN)
        service = not request.path.endswith("/Users")
        everybody = [p for p in account.principals if bool(p.application_id) is service]
        rows = [p for p in everybody if (account_id or p.in_workspace) and _fits(p)]
        start = request.args.get("startIndex", 1, type=int)
        page = rows[start - 1 :][: request.args.get("count", 100, type=int)]
        found = [
            {"id": p.id, "displayName": p.name, "active": p.is_active}
            | ({"applicationId": p.application_id} if service else {"userName": p.name})
            for p in page
        ]
        answer: dict[str, Any] = {
            "totalResults": len(rows),
            "startIndex": start,
            "itemsPerPage": len(page),
        }
        return jsonify(answer | ({"Resources": found} if found else {}))

    @routes.patch("/api/2.0/preview/scim/v2/ServicePrincipals/<number>", endpoint="change_principal")
    def change(number: str) -> Response:
        """Only `active` can be changed here; deactivated, a principal gets no new access token."""
        found = administered(number)
        for each in (request.get_json(silent=True) or {}).get("Operations", []):
            if each.get("op") != "replace" or each.get("path") != "active":
                return _scim_refusal(400, "Only replace of active is supported here")
            found.is_active = str(each.get("value")).lower() == "true"
        return Response(status=204)

    @routes.delete("/api/2.0/preview/scim/v2/ServicePrincipals/<number>", endpoint="delete_principal")
    def delete(number: str) -> Response:
        account.remove(administered(number))
        return Response(status=204)

    def administered(number: str) -> Principal:
        if not _admit(account, "workspace").is_workspace_admin:
            raise Refusal(403, "PERMISSION_DENIED", "Only workspace admins can change principals.")
        found = next((p for p in account.principals if p.id == number and p.application_id), None)
        if found is None:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Service principal {number} does not exist.")
        return found

    @routes.get("/api/2.0/workspace-conf", endpoint="workspace_conf")
    def policy() -> Response:
        """The longest life of a token, as an administrator reads it."""
        if not _admit(account, "workspace").is_workspace_admin:
            raise Refusal(403, "PERMISSION_DENIED", "Only workspace admins can read the configuration.")
        known = {"maxTokenLifetimeDays": str(account.settings.most_token_days), "enableTokensConfig": "true"}
        wanted = request.args.get("keys", "").split(",")
        return jsonify({name: known.get(name) for name in wanted})

    return routes


def _fits(principal: Principal) -> bool:
    said = _FILTER.match(request.args.get("filter", ""))
    if said is None:
        return "filter" not in request.args
    value = str(getattr(principal, _FIELDS.get(said[1], ""), "")).lower()
    wanted = said[3].lower()
    return {
        "eq": value == wanted,
        "ne": value != wanted,
        "co": wanted in value,
        "sw": value.startswith(wanted),
    }[said[2]]


def _secrets(account: Account) -> Blueprint:
    routes = Blueprint("secrets", __name__)
    of_account = "/api/2.0/accounts/<account_id>/servicePrincipals/<number>/credentials/secrets"
    of_workspace = "/api/2.0/accounts/servicePrincipals/<number>/credentials/secrets"

    def owner(account_id: str, number: str) -> Principal:
        """The principal by its number; the UUID is the wrong kind of name here."""
        asking = _admit(account, "account" if account_id else "workspace")
        if account_id not in {"", account.account_id}:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Account {account_id} does not exist.")
        if account_id and not asking.is_account_admin:
            raise Refusal(403, "PERMISSION_DENIED", NOT_ADMIN)
        found = next((p for p in account.principals if p.id == number and p.application_id), None)
        if found is None or (not account_id and not found.in_workspace):
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Service principal {number} does not exist.")
        may = asking.is_workspace_admin or found.id in asking.manages
        if not account_id and not may:
            raise Refusal(
                403, "PERMISSION_DENIED", "User is not authorized to manage this service principal."
            )
        return found

    @routes.post(of_account, endpoint="create_secret")
    @routes.post(of_workspace, endpoint="create_secret")
    def create(number: str, account_id: str = "") -> Response:
        found = owner(account_id, number)
        body = request.get_json(silent=True) or {}
        if meets(Kind.REFUSE_VALUE):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "Invalid value for lifetime.")
        secret = account.add_secret(found, body.get("lifetime"), body.get("scopes"))
        return jsonify(_secret(account, secret) | {"secret": secret.value})

    @routes.get(of_account, endpoint="list_secrets")
    @routes.get(of_workspace, endpoint="list_secrets")
    def listed(number: str, account_id: str = "") -> Response:
        rows = account.secrets_of(owner(account_id, number))
        start = int(request.args.get("page_token", "0"))
        size = min(request.args.get("page_size", account.settings.page_size, type=int), 100)
        answer: dict[str, Any] = {"secrets": [_secret(account, s) for s in rows[start : start + size]]}
        if start + size < len(rows):
            answer["next_page_token"] = str(start + size)
        return jsonify({k: v for k, v in answer.items() if v})

    @routes.delete(f"{of_account}/<secret_id>", endpoint="delete_secret")
    @routes.delete(f"{of_workspace}/<secret_id>", endpoint="delete_secret")
    def delete(number: str, secret_id: str, account_id: str = "") -> Response:
        if not account.delete_secret(owner(account_id, number), secret_id):
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Secret {secret_id} does not exist.")
        return jsonify({})

    return routes


def _tokens(account: Account) -> Blueprint:
    routes = Blueprint("tokens", __name__, url_prefix="/api/2.0")

    def admin() -> Principal:
        asking = _admit(account, "workspace")
        if not asking.is_workspace_admin:
            raise Refusal(403, "PERMISSION_DENIED", "Only workspace admins can manage tokens of other users.")
        return asking

    @routes.post("/token/create", endpoint="create_token")
    def create() -> Response:
        asking = _admit(account, "workspace")
        body = request.get_json(silent=True) or {}
        pat = account.add_pat(
            asking, asking, body.get("comment", ""), body.get("lifetime_seconds"), body.get("scopes")
        )
        return jsonify(token_value=pat.value, token_info=_own(pat))

    @routes.get("/token/list", endpoint="list_tokens")
    def own() -> Response:
        rows = account.pats_of(_admit(account, "workspace"))
        return jsonify({"token_infos": [_own(pat) for pat in rows]} if rows else {})

    @routes.post("/token/delete", endpoint="delete_token")
    def delete() -> Response:
        asking = _admit(account, "workspace")
        token_id = str((request.get_json(silent=True) or {}).get("token_id", ""))
        if not account.delete_pat(token_id, asking):
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Token with id {token_id} does not exist.")
        return jsonify({})

    @routes.post("/token-management/on-behalf-of/tokens", endpoint="create_token_for")
    def on_behalf() -> Response:
        asking = admin()
        body = request.get_json(silent=True) or {}
        owner = next(
            (p for p in account.principals if p.application_id == body.get("application_id", "-")), None
        )
        if owner is None or not owner.in_workspace:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "The service principal does not exist.")
        pat = account.add_pat(
            owner, asking, body.get("comment", ""), body.get("lifetime_seconds"), body.get("scopes")
        )
        return jsonify(token_value=pat.value, token_info=_managed(account, pat))

    @routes.get("/token-management/tokens", endpoint="list_every_token")
    def every() -> Response:
        admin()
        wanted = request.args.get("created_by_username"), request.args.get("created_by_id")
        rows = [
            pat
            for pat in account.every_pat()
            if wanted[0] in {None, pat.maker.user_name} and wanted[1] in {None, pat.maker.id}
        ]
        return jsonify({"token_infos": [_managed(account, pat) for pat in rows]} if rows else {})

    @routes.get("/token-management/tokens/<token_id>", endpoint="get_token")
    def one(token_id: str) -> Response:
        admin()
        pat = next((each for each in account.every_pat() if each.id == token_id), None)
        if pat is None:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Token with id {token_id} does not exist.")
        return jsonify(token_info=_managed(account, pat))

    @routes.delete("/token-management/tokens/<token_id>", endpoint="delete_any_token")
    def remove(token_id: str) -> Response:
        admin()
        if not account.delete_pat(token_id):
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Token with id {token_id} does not exist.")
        return jsonify({})

    return routes


WAREHOUSE = "a1b234c567d8e9fa"
CATALOGS = {"main": {"sales": {"orders": 3, "empty": 0, "secret": -1}, "nothing": {}}, "samples": {}}
_COUNT = re.compile(
    r"SELECT count\(\*\) FROM \(SELECT 1 FROM `([^`]+)`\.`([^`]+)`\.`((?:[^`]|``)+)` LIMIT ([0-9]+)\)"
)


def _data(account: Account) -> Blueprint:
    """One warehouse and two catalogs. Pages of a list hold two; the first page of catalogs is empty, as it may be."""
    routes = Blueprint("data", __name__)

    def page(kind: str, rows: list[dict[str, str]], first_is_empty: bool = False) -> Response:
        start = int(request.args.get("page_token") or (-1 if first_is_empty else 0))
        size = min(request.args.get("max_results", 0, type=int) or 2, 2)
        found = rows[start : start + size] if start >= 0 else []
        following = start + len(found) if start >= 0 else 0
        answer: dict[str, Any] = {kind: found} if found else {}
        return jsonify(answer | ({"next_page_token": str(following)} if following < len(rows) else {}))

    @routes.get("/api/2.1/unity-catalog/catalogs", endpoint="list_catalogs")
    def catalogs() -> Response:
        _admit(account, "workspace")
        return page("catalogs", [{"name": name} for name in CATALOGS], first_is_empty=True)

    @routes.get("/api/2.1/unity-catalog/tables", endpoint="list_tables")
    def tables() -> Response:
        _admit(account, "workspace")
        catalog, schema = request.args.get("catalog_name", ""), request.args.get("schema_name", "")
        found = CATALOGS.get(catalog, {}).get(schema)
        if found is None:
            raise Refusal(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{catalog}.{schema}' does not exist.")
        return page("tables", [{"name": name, "schema_name": schema} for name in found])

    @routes.post("/api/2.0/sql/statements", endpoint="execute_statement")
    def execute() -> Response:
        _admit(account, "workspace")
        body = request.get_json(silent=True) or {}
        if body.get("warehouse_id") != WAREHOUSE:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "The warehouse does not exist.")
        if account.settings.warehouse_sleeps:
            return jsonify(statement_id=str(uuid.uuid4()), status={"state": "CANCELED"})
        said = _COUNT.fullmatch(str(body.get("statement", "")))
        if said is None:
            return failed("42601", "[PARSE_SYNTAX_ERROR] Syntax error at or near 'x'.")
        rows = CATALOGS.get(said[1], {}).get(said[2], {}).get(said[3])
        if rows is None:
            return failed("42P01", "[TABLE_OR_VIEW_NOT_FOUND] The table or view cannot be found.")
        if rows < 0:
            return failed("42501", "[INSUFFICIENT_PERMISSIONS] Insufficient privileges.")
        return jsonify(
            statement_id=str(uuid.uuid4()),
            status={"state": "SUCCEEDED"},
            manifest={"format": "JSON_ARRAY", "total_row_count": 1},
            result={"chunk_index": 0, "row_count": 1, "data_array": [[str(min(rows, int(said[4])))]]},
        )

    def failed(state: str, message: str) -> Response:
        error = {"error_code": "BAD_REQUEST", "message": f"{message} SQLSTATE: {state}"}
        status = {"state": "FAILED", "sql_state": state, "error": error}
        return jsonify(statement_id=str(uuid.uuid4()), status=status)

    return routes


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _secret(account: Account, secret: Secret) -> dict[str, Any]:
    """The hash's algorithm is not known: salted here, unless a test says otherwise."""
    salt = "" if account.settings.hash_is_sha256 else "salt"
    shape: dict[str, Any] = {
        "id": secret.id,
        "status": "ACTIVE",
        "secret_hash": hashlib.sha256((salt + secret.value).encode()).hexdigest(),
        "create_time": _time(secret.created_at),
        "update_time": _time(secret.created_at),
        "expire_time": _time(secret.expires_at),
    }
    return shape | ({"scopes": secret.scopes} if secret.scopes else {})


def _own(pat: Pat) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "token_id": pat.id,
        "creation_time": int(pat.created_at * 1000),
        "expiry_time": -1 if pat.expires_at is None else int(pat.expires_at * 1000),
        "comment": pat.comment,
    }
    return shape | ({"scopes": pat.scopes} if pat.scopes else {})


def _managed(account: Account, pat: Pat) -> dict[str, Any]:
    return _own(pat) | {
        "created_by_id": int(pat.maker.id),
        "created_by_username": pat.maker.user_name,
        "owner_id": int(pat.owner.id),
        "workspace_id": int(account.workspace_id),
    }
