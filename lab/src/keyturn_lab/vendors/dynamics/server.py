"""One server for all three services: Entra at the root, Graph below `/graph`, the Dataverse environment at `/api/data`."""

from flask import Blueprint, Flask, Response, abort, jsonify, request
from werkzeug.middleware.proxy_fix import ProxyFix

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.dynamics import entra, graph
from keyturn_lab.vendors.dynamics.state import App, Tenant

OTHER_USER = "00000000-1111-2222-3333-444444444444"


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh tenant with the integration's application, a rotator that owns it, and a stranger's application."""
    clock = clock or Clock()
    quirks = Quirks(seed)
    tenant = Tenant(clock, quirks)
    app = build_app(
        Stage("dynamics", tenant, throttled=lambda: _throttled(tenant), quirks=quirks, clock=clock)
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    add_settings(app, lambda: tenant.settings)
    app.register_blueprint(entra.entra(tenant))
    app.register_blueprint(graph.graph(tenant))
    app.register_blueprint(_dataverse(tenant))
    app.register_blueprint(_steering(tenant))
    # MSAL insists on https: it comes as if through a proxy that ends TLS.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1, x_host=1)  # type: ignore[method-assign]
    return app


def _throttled(tenant: Tenant) -> Response:
    """Each service says it in its own words."""
    if request.path.startswith("/graph/"):
        return graph.throttled(tenant)
    if request.path.startswith("/api/data/"):
        text = "Number of requests exceeded the limit of 6000 over time window of 300 seconds."
        answer = _odata(429, "0x80072322", text)
        answer.headers["Retry-After"] = "1"
        return answer
    return entra.throttled(tenant)


def _odata(status: int, code: str, message: str) -> Response:
    answer = jsonify(error={"code": code, "message": message})
    answer.status_code = status
    return answer


def _dataverse(tenant: Tenant) -> Blueprint:
    pages = Blueprint("dataverse", __name__, url_prefix="/api/data/v9.2")

    def refusal() -> Response | App:
        """Who calls, or why nobody may. Dataverse never asks whether the credential behind a token still exists."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        token = tenant.token(value, request.url_root.rstrip("/")) if scheme == "Bearer" else None
        if token is None:
            answer = Response(status=401)
            where = f"authorization_uri={request.url_root}{tenant.id}/oauth2/authorize"
            answer.headers["WWW-Authenticate"] = f"Bearer {where}, resource_id={request.url_root}"
            return answer
        app = token.app
        if app.blocked:
            text = f"Access to Dataverse API is restricted for this application Id : '{app.app_id}'."
            return _odata(403, "0x80095ffc", text)
        if not app.user_id or app.user_disabled:
            return _odata(403, "0x80072560", "The user is not a member of the organization.")
        return app

    @pages.get("/WhoAmI")
    def who_am_i() -> Response:
        app = refusal()
        if isinstance(app, Response):
            return app
        user = OTHER_USER if meets(Kind.WRONG_IDENTITY) else app.user_id
        context = f"{request.url_root}api/data/v9.2/$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"
        return jsonify(
            {
                "@odata.context": context,
                "BusinessUnitId": tenant.unit_id,
                "UserId": user,
                "OrganizationId": tenant.organization_id,
            }
        )

    @pages.get("/systemusers")
    def system_users() -> Response:
        app = refusal()
        if isinstance(app, Response):
            return app
        rows = [
            {
                "systemuserid": a.user_id,  # the key is told whether it was asked for or not
                "fullname": f"# {a.name}",
                "applicationid": a.app_id,
                "isdisabled": a.user_disabled,
            }
            for a in tenant.apps
            if a.user_id
        ]
        return jsonify(
            {"@odata.context": f"{request.url_root}api/data/v9.2/$metadata#systemusers", "value": rows}
        )

    @pages.get("/<table>")
    def rows(table: str) -> Response:
        app = refusal()
        if isinstance(app, Response):
            return app
        if table not in {"accounts", "contacts"}:
            return _odata(404, "0x80060888", f"Resource not found for the segment '{table}'.")
        if table not in app.privileges:
            text = f"Principal user (Id={app.user_id}, type=8) is missing prvReadAccount privilege."
            return _odata(403, "0x80040220", text)
        wanted = request.args.get("$select", "name,createdon").split(",")
        rows = [
            {
                "@odata.etag": 'W/"1"',
                f"{table.removesuffix('s')}id": tenant.unit_id,  # the key is told whether it was asked for or not
                **{k: v for k, v in (("name", name), ("createdon", "2026-01-05T08:00:00Z")) if k in wanted},
            }
            for name in ("Fabrikam", "Contoso", "Northwind")
        ][: request.args.get("$top", 5000, type=int)]
        return jsonify(
            {"@odata.context": f"{request.url_root}api/data/v9.2/$metadata#{table}", "value": rows}
        )

    return pages


def _steering(tenant: Tenant) -> Blueprint:
    """The admin endpoints that only this vendor needs."""
    steering = Blueprint("steering", __name__, url_prefix="/_lab")

    @steering.get("/tenant")
    def about() -> Response:
        return jsonify(id=tenant.id, domain=tenant.domain)

    @steering.get("/apps")
    def apps() -> Response:
        return jsonify([_shown(tenant, app) for app in tenant.apps])

    @steering.post("/apps")
    def set_app() -> Response:
        """Change the application of this `app_id`, or add one: its own fields, and `secret`, `hidden_secret` or
        `certificate` (base64 DER) to add a credential as a person would in the portal."""
        body = dict(request.get_json())
        with tenant.lock:
            app = tenant.by_client_id(str(body.pop("app_id", "")), deleted=True)
            if app is None:
                app = tenant.add_app(str(body.pop("name", "Another application")))
            made = {}
            if "secret" in body:
                made["secret"] = tenant.add_secret(app, body.pop("secret") or None).value
            if "hidden_secret" in body:
                made["secret"] = tenant.add_secret(app, body.pop("hidden_secret") or None, hidden=True).value
            if "certificate" in body:
                tenant.add_certificate(app, entra.decoded(body.pop("certificate")))
            if not all(hasattr(app, name) for name in body):
                abort(422)
            for name, value in body.items():
                setattr(app, name, set(value) if isinstance(value, list) else value)
            return jsonify(_shown(tenant, app) | made)

    return steering


def _shown(tenant: Tenant, app: App) -> dict[str, object]:
    return {
        "app_id": app.app_id,
        "object_id": app.object_id,
        "principal_id": app.principal_id,
        "user_id": app.user_id,
        "name": app.name,
        "enabled": app.enabled,
        "deleted": app.deleted,
        "secrets": [
            {"key_id": s.key_id, "value": s.value, "label": s.name} for s in tenant.listed_secrets(app)
        ],
        "certificates": [
            {"key_id": c.key_id, "thumbprint": c.thumbprint.hex().upper(), "label": c.name}
            for c in tenant.listed_certificates(app)
        ],
    }
