"""Atlassian's token endpoint and the Jira calls that prove a token; pages for people live in `pages`.

Source: https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/ (checked 2026-11-23).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.jira.pages import pages
from keyturn_lab.vendors.jira.state import Account, App, Cloud, Family, Pair, Site

GRANT_OPS = {"authorization_code": "exchange", "refresh_token": "refresh"}


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh Atlassian cloud with two accounts, two sites and one app.

    Calls to the token endpoint have the op `exchange` or `refresh`, so that a fault can tell them apart.
    """
    clock = clock or Clock()
    quirks = Quirks(seed)
    cloud = Cloud(clock, quirks)
    app = build_app(
        Stage("jira", cloud, throttled=lambda: _throttled(clock), quirks=quirks, clock=clock, op_of=_token_op)
    )
    add_settings(app, lambda: cloud.settings)
    app.register_blueprint(pages(cloud))
    app.register_blueprint(_oauth(cloud))
    app.register_blueprint(_api(cloud))
    app.register_blueprint(_steering(cloud))
    return app


def _token_op() -> str | None:
    return GRANT_OPS.get(str(_body().get("grant_type"))) if request.path == "/oauth/token" else None


def _body() -> Mapping[str, Any]:
    """The request's fields, sent as JSON or as a form: Atlassian takes both."""
    if request.is_json:
        body = request.get_json(silent=True)
        return body if isinstance(body, dict) else {}
    return request.form


def _throttled(clock: Clock) -> Response:
    answer = _refuse(429, code=429, message="Rate limit exceeded")
    reset_at = clock.moment().replace(second=0, microsecond=0) + timedelta(minutes=1)
    answer.headers.update(
        {
            "Retry-After": "1",
            "X-RateLimit-Limit": "350",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": reset_at.strftime("%Y-%m-%dT%H:%MZ"),
            "X-RateLimit-NearLimit": "true",
            "RateLimit-Reason": "jira-burst-based",
        }
    )
    return answer


def _refuse(status: int, **body: Any) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    return answer


def _oauth(cloud: Cloud) -> Blueprint:
    oauth = Blueprint("oauth", __name__, url_prefix="/oauth")

    def client() -> App | None:
        app = cloud.apps.get(str(_body().get("client_id")))
        return app if app is not None and app.client_secret == _body().get("client_secret") else None

    def dead_refresh_token() -> Response:
        if cloud.settings.refusal == "unauthorized_client":
            return _refuse(403, error="unauthorized_client", error_description="refresh_token is invalid")
        return _refuse(403, error="invalid_grant", error_description="Unknown or invalid refresh token.")

    @oauth.post("/token")
    def token() -> Response:
        app, body = client(), _body()
        if app is None:
            return _refuse(401, error="access_denied", error_description="Unauthorized")
        if meets(Kind.REFUSE_VALUE):
            return dead_refresh_token()
        op = _token_op()
        if op == "exchange":
            pair = cloud.exchange(app, str(body.get("code")), str(body.get("redirect_uri")))
            if pair is None:
                return _refuse(403, error="invalid_grant", error_description="Invalid authorization code")
        elif op == "refresh":
            if cloud.is_refresh_unavailable():
                return Response(status=503, headers={"Retry-After": "1"})
            pair = cloud.refresh(app, str(body.get("refresh_token")))
            if pair is None:
                return dead_refresh_token()
        else:
            return _refuse(400, error="unsupported_grant_type")
        return jsonify(_pair_shape(pair, cloud.settings.access_life_s))

    @oauth.post("/revoke")
    def revoke() -> Response:
        """Answer 200 whatever happens: nothing may be concluded from it."""
        app = client()
        if app is not None:
            cloud.revoke(app, str(_body().get("token")))
        return Response(status=200)

    @oauth.get("/token/accessible-resources")
    def accessible_resources() -> Response:
        family = _bearer(cloud)
        if family is None:
            return _unauthorized()
        granted = family.grant.sites & set(family.grant.account.sites)
        if meets(Kind.WRONG_IDENTITY):
            granted = set(cloud.sites) - granted
        return jsonify([row for cloud_id in sorted(granted) for row in _rows(cloud.sites[cloud_id], family)])

    return oauth


def _pair_shape(pair: Pair, seconds: float) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "access_token": pair.access,
        "expires_in": int(seconds),
        "token_type": "Bearer",
        "scope": " ".join(sorted(pair.scopes)),
    }
    if pair.refresh is not None:
        shape["refresh_token"] = pair.refresh
    return shape


def _rows(site: Site, family: Family) -> list[dict[str, Any]]:
    """A row per product the scopes reach, all under the site's one id."""
    rows = []
    for product in site.products:
        scopes = sorted(scope for scope in family.scopes if product in scope)
        if scopes:
            address = f"https://{site.name}.atlassian.net"
            row = {"id": site.cloud_id, "name": site.name, "url": address, "scopes": scopes}
            rows.append(row | {"avatarUrl": f"{address}/avatar.png"})
    return rows


def _bearer(cloud: Cloud) -> Family | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return cloud.authenticate(value.strip()) if scheme.lower() == "bearer" else None


def _unauthorized() -> Response:
    return _refuse(401, code=401, message="Unauthorized")


def _api(cloud: Cloud) -> Blueprint:
    api = Blueprint("api", __name__)

    def refusal(scope: str, cloud_id: str | None = None) -> Response | None:
        """Why the call is not served, in the gateway's order: token, scope, site, permission."""
        family = _bearer(cloud)
        if family is None:
            return _unauthorized()
        if scope not in family.scopes:
            return _refuse(401, code=401, message="Unauthorized; scope does not match")
        if cloud_id is not None and cloud_id not in family.grant.sites & set(family.grant.account.sites):
            return _refuse(404, code=404, message="Not Found")
        if cloud.settings.app_access_blocked:
            answer = _refuse(403, code=403, message="Forbidden")
            answer.headers["Atlassian-DataSecurityPolicy"] = "app_access_blocked"
            return answer
        if cloud.settings.permission_denied or meets(Kind.REFUSE_VALUE):
            return _refuse(403, errorMessages=["You do not have permission."], errors={})
        g.account = family.grant.account
        if meets(Kind.WRONG_IDENTITY):
            g.account = next(each for each in cloud.accounts.values() if each is not family.grant.account)
        return None

    @api.get("/me")
    def me() -> Response:
        if (no := refusal("read:me")) is not None:
            return no
        account: Account = g.account
        return jsonify(
            account_id=account.account_id,
            account_type="atlassian",
            account_status="active",
            name=account.name,
            email=account.email,
        )

    @api.get("/ex/jira/<cloud_id>/rest/api/3/myself")
    def myself(cloud_id: str) -> Response:
        if (no := refusal("read:jira-user", cloud_id)) is not None:
            return no
        account: Account = g.account
        shape = {
            "accountId": account.account_id,
            "accountType": "atlassian",
            "displayName": account.name,
            "active": True,
            "timeZone": "Etc/UTC",
            "locale": "en_US",
        }
        return jsonify(shape if cloud.settings.hide_email else shape | {"emailAddress": account.email})

    @api.get("/ex/jira/<cloud_id>/rest/api/3/project/search")
    def projects(cloud_id: str) -> Response:
        if (no := refusal("read:jira-work", cloud_id)) is not None:
            return no
        size = min(request.args.get("maxResults", 50, type=int), 50)
        values = [
            {"id": "10000", "key": "KT", "name": "Keyturn"},
            {"id": "10001", "key": "LAB", "name": "Lab"},
        ]
        return jsonify(
            startAt=0, maxResults=size, total=len(values), isLast=size >= len(values), values=values[:size]
        )

    return api


def _steering(cloud: Cloud) -> Blueprint:
    """The admin endpoints that only this vendor needs."""
    steering = Blueprint("steering", __name__, url_prefix="/_lab")

    @steering.get("/families")
    def families() -> Response:
        return jsonify(cloud.live_families())

    @steering.get("/apps")
    def apps() -> Response:
        return jsonify([vars(app) for app in cloud.apps.values()])

    @steering.post("/apps")
    def set_app() -> Response:
        """Change the app of this `client_id`, or add one when there is none; a new secret replaces in place."""
        body = dict(request.get_json())
        app = cloud.apps.get(body.get("client_id", ""))
        if app is None:
            app = cloud.add_app(body.get("name", "Another app"), body["callback"], body.get("client_id"))
        if secret := body.pop("client_secret", None):
            cloud.replace_secret(app, secret)
        if body.pop("replace_secret", False):
            cloud.replace_secret(app)
        if not all(hasattr(app, name) for name in body):
            abort(422)
        for name, value in body.items():
            setattr(app, name, value)
        return jsonify(vars(app))

    @steering.post("/access")
    def set_access() -> Response:
        """Give an account exactly these sites, by name; an empty list takes all of them away."""
        body = request.get_json()
        account = cloud.accounts.get(body["account"]) or abort(404)
        account.sites = [site.cloud_id for site in cloud.sites.values() if site.name in body["sites"]]
        return jsonify(account.sites)

    return steering
