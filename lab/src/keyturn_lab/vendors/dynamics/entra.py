"""Entra's pages for programs: the openid configuration and the token endpoint, with its many ways to say no.

Source: https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes (checked 2026-11-23).
"""

import base64
from uuid import uuid4

from flask import Blueprint, Response, jsonify, request

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.dynamics import assertions
from keyturn_lab.vendors.dynamics.state import App, Secret, Tenant

_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Refused(Exception):
    """One of Entra's errors on its way to the answer."""

    def __init__(self, status: int, error: str, code: int, text: str) -> None:
        super().__init__(error)
        self.status, self.error, self.code, self.text = status, error, code, text


def entra(tenant: Tenant) -> Blueprint:
    pages = Blueprint("entra", __name__)

    @pages.get("/<where>/v2.0/.well-known/openid-configuration")
    def configuration(where: str) -> Response | tuple[Response, int]:
        if where.lower() not in {tenant.id, tenant.domain}:
            return refuse(tenant, _no_tenant(where))
        root = request.url_root.rstrip("/")
        return jsonify(
            issuer=f"{root}/{tenant.id}/v2.0",
            authorization_endpoint=f"{root}/{where}/oauth2/v2.0/authorize",
            token_endpoint=f"{root}/{where}/oauth2/v2.0/token",
            token_endpoint_auth_methods_supported=[
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
        )

    @pages.post("/<where>/oauth2/v2.0/token")
    def token(where: str) -> Response | tuple[Response, int]:
        try:
            app, audience = _client(tenant, where)
        except Refused as refused:
            return refuse(tenant, refused)
        seconds = int(tenant.settings.token_life_s) - 1
        return jsonify(
            token_type="Bearer",
            expires_in=seconds,
            ext_expires_in=seconds,
            access_token=tenant.give_token(app, audience),
        )

    return pages


def refuse(tenant: Tenant, refused: Refused) -> tuple[Response, int]:
    trace, correlation = str(uuid4()), str(uuid4())
    at = tenant.clock.moment().strftime("%Y-%m-%d %H:%M:%SZ")
    said = f"AADSTS{refused.code}: {refused.text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
    body = {
        "error": refused.error,
        "error_description": said,
        "error_codes": [refused.code],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={refused.code}",
    }
    return jsonify(body), refused.status


def throttled(tenant: Tenant) -> Response:
    text = "The request is throttled due to too many requests."
    answer, _ = refuse(tenant, Refused(429, "temporarily_unavailable", 90055, text))
    answer.status_code = 429
    answer.headers["Retry-After"] = "1"
    return answer


def _no_tenant(where: str) -> Refused:
    return Refused(400, "invalid_request", 90002, f"Tenant '{where}' not found.")


def _client(tenant: Tenant, where: str) -> tuple[App, str]:
    form = request.form
    if where.lower() not in {tenant.id, tenant.domain}:
        raise _no_tenant(where)
    if form.get("grant_type") != "client_credentials":
        raise Refused(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
    client_id, secret = _who(form.get("client_id", ""), form.get("client_secret"))
    app = tenant.by_client_id(client_id)
    if app is None:
        text = f"Application with identifier '{client_id}' was not found in the directory '{tenant.domain}'."
        raise Refused(400, "unauthorized_client", 700016, text)
    scope = form.get("scope", "")
    if not scope.endswith("/.default"):
        raise Refused(
            400, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid."
        )
    audience = scope.removesuffix("/.default").rstrip("/")
    if audience not in _resources():
        text = f"The resource principal named {audience} was not found in the tenant."
        raise Refused(400, "invalid_resource", 500011, text)
    if meets(Kind.REFUSE_VALUE):
        raise _wrong_secret(app)
    if secret is not None:
        _check_secret(tenant, app, secret)
    elif form.get("client_assertion_type") == _BEARER and form.get("client_assertion"):
        _check_assertion(tenant, app, form["client_assertion"])
    else:
        text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
        raise Refused(401, "invalid_client", 7000218, text)
    if not app.enabled:
        raise Refused(
            401, "unauthorized_client", 7000112, f"Application '{app.app_id}'({app.name}) is disabled."
        )
    return app, audience


def _resources() -> set[str]:
    """Graph and the one environment live on this same server, so their names differ by a path."""
    root = request.url_root.rstrip("/")
    return {root, f"{root}/graph"}


def _who(client_id: str, secret: str | None) -> tuple[str, str | None]:
    """From the body, or from HTTP Basic."""
    basic = request.authorization
    if secret is None and basic is not None and basic.type == "basic":
        return str(basic.username), str(basic.password)
    return client_id, secret


def _check_secret(tenant: Tenant, app: App, value: str) -> None:
    found: Secret | None = next(
        (each for each in app.secrets + app.hidden_secrets if each.value == value), None
    )
    now = tenant.clock.now()
    if found is not None and not tenant.knows(found):
        found = None
    if found is None or now < found.starts_at:
        raise _wrong_secret(app)
    if now >= found.ends_at:
        text = f"The provided client secret keys for app '{app.app_id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret."
        raise Refused(401, "invalid_client", 7000222, text)
    found.used_at = now


def _wrong_secret(app: App) -> Refused:
    text = (
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
        f"not the client secret ID, for a secret added to app '{app.app_id}'."
    )
    return Refused(401, "invalid_client", 7000215, text)


def _check_assertion(tenant: Tenant, app: App, text: str) -> None:
    root = request.url_root.rstrip("/")
    audiences = {request.base_url} | {f"{root}/{name}/v2.0" for name in (tenant.id, tenant.domain)}
    audiences |= {f"{root}/{name}/oauth2/v2.0/token" for name in (tenant.id, tenant.domain)}
    try:
        assertions.read(tenant, app, text, audiences)
    except assertions.Malformed:
        raise Refused(400, "invalid_request", 50027, "JWT token is invalid or malformed.") from None
    except assertions.OutOfTime:
        said = "Client assertion is not within its valid time range."
        raise Refused(401, "invalid_client", 700024, said) from None
    except assertions.NotRegistered as why:
        said = (
            "The certificate with identifier used to sign the client assertion is not registered on application. "
            f"[Reason - {why}]"
        )
        raise Refused(401, "invalid_client", 700027, said) from None


def decoded(text: object) -> bytes:
    """Base64 as Graph takes a key."""
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        return b""
