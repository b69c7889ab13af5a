"""The part of Microsoft Graph that keeps applications. It answers below `/graph`, which is its resource name here.

Source: https://learn.microsoft.com/en-us/graph/api/resources/application (checked 2026-11-23).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any
from uuid import uuid4

from flask import Blueprint, Response, jsonify, request

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.dynamics import assertions
from keyturn_lab.vendors.dynamics.entra import decoded
from keyturn_lab.vendors.dynamics.state import (
    ALL,
    AUDIT,
    OWNED,
    READ,
    App,
    Certificate,
    Refusal,
    Secret,
    Tenant,
)

Answer = Response | tuple[Response | str, int]
_FILTER = re.compile(r"^(?:appId eq '([^']*)'|startswith\(displayName,\s*'([^']*)'\))$")
_MISSING = "Resource '{}' does not exist or one of its queried reference-property objects are not present."


def refuse(tenant: Tenant, refusal: Refusal) -> Response:
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.target:
        error["details"] = [{"code": refusal.code, "message": refusal.message, "target": refusal.target}]
    seen = str(uuid4())
    at = tenant.clock.moment().strftime("%Y-%m-%dT%H:%M:%S")
    error["innerError"] = {"date": at, "request-id": seen, "client-request-id": seen}
    answer = jsonify(error=error)
    answer.status_code = refusal.status
    if refusal.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="", error="invalid_token"'
    if refusal.status == 429:
        answer.headers["Retry-After"] = "1"
    return answer


def throttled(tenant: Tenant) -> Response:
    return refuse(tenant, Refusal(429, "TooManyRequests", "Too many requests."))


def graph(tenant: Tenant) -> Blueprint:
    pages = Blueprint("graph", __name__, url_prefix="/graph")

    def guarded(view: Callable[..., Answer]) -> Callable[..., Answer]:
        @wraps(view)
        def inner(*args: Any, **kwargs: Any) -> Answer:
            try:
                with tenant.lock:
                    return view(*args, **kwargs)
            except Refusal as refusal:
                return refuse(tenant, refusal)

        return inner

    def caller() -> App:
        """Whose token it is. A token for Dataverse opens nothing here."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        token = tenant.token(value, request.url_root.rstrip("/") + "/graph") if scheme == "Bearer" else None
        if token is None:
            raise Refusal(401, "InvalidAuthenticationToken", "Access token validation failure.")
        return token.app

    def may(who: App, app: App | None, *, read: bool = False, itself: bool = False) -> None:
        if ALL in who.roles or (read and READ in who.roles) or (itself and app is who):
            return
        if OWNED in who.roles and (app is None or app is who or who.app_id in app.owners):
            if app is None:
                raise _denied()
            return
        raise _denied()

    def one(where: str) -> App:
        """By object id, or `appId='…'` in parentheses; a client id in the place of an object id is nobody."""
        named = re.fullmatch(r"\(appId='([^']*)'\)", where)
        app = tenant.by_client_id(named.group(1)) if named else tenant.by_object_id(where.removeprefix("/"))
        if tenant.settings.hidden_reads > 0:
            tenant.settings.hidden_reads -= 1
            app = None
        if app is None:
            raise Refusal(404, "Request_ResourceNotFound", _MISSING.format(where.strip("()/")))
        return app

    @pages.get("/v1.0/applications")
    @guarded
    def list_applications() -> Answer:
        who = caller()
        may(who, None, read=True)
        return _page(tenant, [_application(tenant, app) for app in _wanted(tenant)], "applications")

    def routed(path: str, verb: str, name: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
        """Both ways to name one application: `/applications/{id}` and `/applications(appId='…')`."""

        def add(view: Callable[..., Answer]) -> Callable[..., Answer]:
            made = _addressed(guarded(view))
            for form in ("/v1.0/applications/<where>", "/v1.0/applications(<inside>)"):
                pages.add_url_rule(f"{form}{path}", name, made, methods=[verb])
            return view

        return add

    def _addressed(view: Callable[..., Answer]) -> Callable[..., Answer]:
        return lambda where="", inside="": view(where or f"({inside})")

    def get_application(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app, read=True)
        body = _application(tenant, app, keys=tenant.settings.show_keys)
        root = f"{request.url_root}graph/v1.0/$metadata#applications/$entity"
        return jsonify({"@odata.context": root} | _selected(body))

    def patch_application(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app)
        body = _body()
        if "passwordCredentials" in body:
            raise Refusal(400, "Request_BadRequest", "Updates to passwordCredentials are not allowed.")
        if "keyCredentials" in body:
            _replace(tenant, app, body["keyCredentials"])
        return "", 204

    def delete_application(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app)
        app.deleted = True
        return "", 204

    def add_password(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app)
        asked = _body().get("passwordCredential") or {}
        if meets(Kind.REFUSE_VALUE):
            raise Refusal(
                400,
                "Request_BadRequest",
                "Credential lifetime exceeds the max value allowed as per assigned policy 'lab'.",
            )
        made = tenant.add_secret(app, asked.get("displayName"), _instant(asked.get("endDateTime")))
        context = {
            "@odata.context": f"{request.url_root}graph/v1.0/$metadata#microsoft.graph.passwordCredential"
        }
        return jsonify(context | _secret(made) | {"secretText": made.value})

    def remove_password(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app)
        tenant.remove_secret(app, str(_body().get("keyId", "")))
        return "", 204

    def add_key(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app, itself=True)
        body = _body()
        _need_proof(tenant, app, body)
        made = _new_key(tenant, app, body.get("keyCredential"))
        return jsonify(_certificate(made, keys=False))

    def remove_key(where: str) -> Answer:
        who, app = caller(), one(where)
        may(who, app, itself=True)
        body = _body()
        _need_proof(tenant, app, body)
        if not tenant.remove_certificate(app, str(body.get("keyId", ""))):
            raise Refusal(400, "Request_BadRequest", "No credentials found to be removed.")
        return "", 204

    for view, path, verb in (
        (get_application, "", "GET"),
        (patch_application, "", "PATCH"),
        (delete_application, "", "DELETE"),
        (add_password, "/addPassword", "POST"),
        (remove_password, "/removePassword", "POST"),
        (add_key, "/addKey", "POST"),
        (remove_key, "/removeKey", "POST"),
    ):
        routed(path, verb, view.__name__)(view)

    @pages.get("/v1.0/servicePrincipals")
    @guarded
    def list_principals() -> Answer:
        who = caller()
        wanted = _wanted(tenant)
        for app in wanted or [None]:
            may(who, app, read=True)
        return _page(tenant, [_principal(app) for app in wanted], "servicePrincipals")

    @pages.patch("/v1.0/servicePrincipals/<principal_id>")
    @guarded
    def patch_principal(principal_id: str) -> Answer:
        who = caller()
        app = next((a for a in tenant.apps if a.principal_id == principal_id.lower()), None)
        if app is None:
            raise Refusal(404, "Request_ResourceNotFound", _MISSING.format(principal_id))
        may(who, app)
        app.enabled = bool(_body().get("accountEnabled", app.enabled))
        return "", 204

    @pages.post("/v1.0/directory/deletedItems/<object_id>/restore")
    @guarded
    def restore(object_id: str) -> Answer:
        who, app = caller(), tenant.by_object_id(object_id, deleted=True)
        if app is None:
            raise Refusal(404, "Request_ResourceNotFound", _MISSING.format(object_id))
        may(who, app)
        app.deleted = False
        return jsonify(_application(tenant, app))

    @pages.get("/beta/reports/appCredentialSignInActivities")
    @guarded
    def activities() -> Answer:
        who = caller()
        if AUDIT not in who.roles:
            raise _denied()
        if not tenant.settings.report_licensed:
            text = "Neither tenant is B2C or tenant doesn't have premium license"
            raise Refusal(403, "Authentication_RequestFromNonPremiumTenantOrB2CTenant", text)
        rows = [_activity(app, each) for app in _wanted(tenant) for each in (*app.secrets, *app.certificates)]
        return _page(tenant, [row for row in rows if row], "appCredentialSignInActivities")

    return pages


def _denied() -> Refusal:
    return Refusal(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise Refusal(400, "BadRequest", "Unable to read JSON request payload.")
    return body


def _wanted(tenant: Tenant) -> list[App]:
    apps = [app for app in tenant.apps if not app.deleted]
    text = request.args.get("$filter")
    if text is None:
        return apps
    found = _FILTER.match(text)
    if found is None:
        raise Refusal(
            400, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause specified."
        )
    app_id, start = found.groups()
    if app_id is not None:
        return [app for app in apps if app.app_id == app_id.lower()]
    return [app for app in apps if app.name.lower().startswith(start.lower())]


def _page(tenant: Tenant, rows: list[dict[str, Any]], what: str) -> Response:
    top = request.args.get("$top", str(tenant.settings.page_size))
    if not top.isdigit() or not 1 <= int(top) <= 999:
        raise Refusal(
            400, "Request_BadRequest", "Invalid page size specified. Must be between 1 and 999 inclusive."
        )
    size = min(int(top), tenant.settings.page_size)
    start = int(request.args.get("$skiptoken", "0"))
    body: dict[str, Any] = {"@odata.context": f"{request.url_root}graph/v1.0/$metadata#{what}"}
    if start + size < len(rows):
        kept = "&".join(f"{k}={v}" for k, v in request.args.items() if k not in {"$skiptoken", "$filter"})
        body["@odata.nextLink"] = f"{request.base_url}?{kept}&$skiptoken={start + size}"
    body["value"] = [_selected(row) for row in rows[start : start + size]]
    return jsonify(body)


def _selected(row: dict[str, Any]) -> dict[str, Any]:
    names = request.args.get("$select")
    return row if names is None else {k: v for k, v in row.items() if k in names.split(",")}


def _application(tenant: Tenant, app: App, *, keys: bool = False) -> dict[str, Any]:
    return {
        "id": app.object_id,
        "appId": app.app_id,
        "displayName": app.name,
        "signInAudience": app.audience,
        "passwordCredentials": [_secret(each) for each in tenant.listed_secrets(app)],
        "keyCredentials": [_certificate(each, keys=keys) for each in tenant.listed_certificates(app)],
    }


def _principal(app: App) -> dict[str, Any]:
    return {
        "id": app.principal_id,
        "appId": app.app_id,
        "displayName": app.name,
        "accountEnabled": app.enabled,
        "servicePrincipalType": "Application",
        "passwordCredentials": [_secret(each) for each in app.hidden_secrets],
        "keyCredentials": [],
    }


def _secret(secret: Secret) -> dict[str, Any]:
    return {
        "customKeyIdentifier": None,
        "displayName": secret.name,
        "endDateTime": _written(secret.ends_at),
        "hint": secret.hint,
        "keyId": secret.key_id,
        "secretText": None,
        "startDateTime": _written(secret.starts_at),
    }


def _certificate(certificate: Certificate, *, keys: bool) -> dict[str, Any]:
    import base64

    return {
        "customKeyIdentifier": base64.b64encode(certificate.thumbprint).decode(),
        "displayName": certificate.name,
        "endDateTime": _written(certificate.ends_at),
        "key": base64.b64encode(certificate.der).decode() if keys else None,
        "keyId": certificate.key_id,
        "startDateTime": _written(certificate.starts_at),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def _activity(app: App, credential: Secret | Certificate) -> dict[str, Any]:
    if credential.used_at is None:
        return {}
    return {
        "appId": app.app_id,
        "appObjectId": app.object_id,
        "servicePrincipalObjectId": app.principal_id,
        "keyId": credential.key_id,
        "keyType": "clientSecret" if isinstance(credential, Secret) else "certificate",
        "keyUsage": "sign",
        "credentialOrigin": "application",
        "createdDateTime": _written(credential.starts_at),
        "expirationDateTime": _written(credential.ends_at),
        "signInActivity": {
            "lastSignInDateTime": _written(credential.used_at),
            "lastSignInRequestId": str(uuid4()),
        },
    }


def _need_proof(tenant: Tenant, app: App, body: dict[str, Any]) -> None:
    if not assertions.is_proof(tenant, app, body.get("proof"), str(body.get("keyId", ""))):
        raise Refusal(401, "Authentication_MissingOrMalformed", "Access Token missing or malformed.")


def _new_key(tenant: Tenant, app: App, asked: Any) -> Certificate:
    if not isinstance(asked, dict) or asked.get("type") not in {"AsymmetricX509Cert", "X509CertAndPassword"}:
        raise Refusal(400, "Request_BadRequest", "Key credential type is invalid.")
    if asked.get("usage") not in {"Sign", "Verify"}:
        text = 'The value for the property "usage" in one of your credentials is invalid. Acceptable values are Sign, Verify.'
        raise Refusal(400, "Request_BadRequest", text)
    der = decoded(asked.get("key"))
    ends_at = _instant(asked.get("endDateTime"))
    return tenant.add_certificate(app, der, asked.get("displayName"), ends_at)


def _replace(tenant: Tenant, app: App, wanted: Any) -> None:
    """The list sent is the list kept: an entry that is not in it is deleted. All of it, or nothing."""
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise Refusal(400, "Request_BadRequest", "keyCredentials is not a list.")
    there = {each.key_id: each for each in tenant.listed_certificates(app)}
    kept = {str(each["keyId"]).lower() for each in wanted if each.get("keyId")}
    if kept - set(there):
        raise Refusal(400, "KeyCredentialsInvalidKeyId", "A keyId names no credential of the application.")
    for each in wanted:
        if not each.get("keyId"):
            _new_key(tenant, app, each)
    for key_id in set(there) - kept:
        tenant.remove_certificate(app, key_id)


def _instant(text: Any) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        raise Refusal(400, "Request_BadRequest", "A date is not valid.") from None


def _written(at: float) -> str:
    """Seven digits after the second now and then, as the service does."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
