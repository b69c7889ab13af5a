"""Aha!'s REST API v1 and OAuth endpoints as far as a rotation meets them; pages live in `pages`.

Source: https://www.aha.io/api (checked 2026-11-23).
"""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.aha.pages import pages
from keyturn_lab.vendors.aha.state import DEFAULT_ACCOUNT, OAuthApp, Roadmaps, Token, User

LOGIN_WALL = "<!doctype html><title>Aha!</title><h1>You need to sign in before continuing.</h1>"
NO_ACCOUNT = "<!doctype html><title>Aha!</title><h1>We can't find this account.</h1>"
SHARED_HOST = "secure"


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh Aha! with its seed users and no key; new keys work 0.3 s later, deleted ones 0.3 s longer."""
    clock = clock or Clock()
    quirks = Quirks(seed, settle_s=0.3)
    roadmaps = Roadmaps(clock, quirks)
    app = build_app(Stage("aha", roadmaps, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: roadmaps.settings)
    app.register_blueprint(pages(roadmaps, account_name))
    app.register_blueprint(_api(roadmaps))
    app.register_blueprint(_oauth(roadmaps))

    @app.get("/_lab/warnings")
    def warnings() -> Response:
        return jsonify(roadmaps.warnings)

    @app.post("/_lab/apps")
    def add_app() -> Response:
        body = request.get_json()
        return jsonify(vars(roadmaps.register_app(body["name"], body["redirect_uri"])))

    @app.before_request
    def admit() -> AnyResponse | tuple[str, int] | None:
        if request.path.startswith("/_lab/"):
            return None
        if roadmaps.settings.force_https and request.headers.get("X-Forwarded-Proto", "http") == "http":
            return redirect(request.url.replace("http://", "https://", 1), code=301)
        # The shared host serves pages that lead into the account, but no API any more.
        is_shared = account_name() == SHARED_HOST and not request.path.startswith("/api/")
        if account_name() not in roadmaps.accounts and not is_shared:
            return NO_ACCOUNT, 404
        return None

    return app


def account_name() -> str:
    """The sub-domain the request addresses; the bare loopback address is the default account."""
    host = request.host.rsplit(":", 1)[0]
    name = host.removesuffix(".aha.io") if host.endswith(".aha.io") else DEFAULT_ACCOUNT
    return DEFAULT_ACCOUNT if name == SHARED_HOST and not request.path.startswith("/api/") else name


def _throttled() -> Response:
    answer = jsonify(error="Too many requests")
    answer.status_code = 429
    return answer


def _refuse(status: int, **body: Any) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    return answer


def _presented(roadmaps: Roadmaps) -> str:
    """The credential in the header, or in the address, where it ends up in every log on the way."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if value := request.args.get("access_token", ""):
        roadmaps.warnings.append(f"{request.path}: the credential came in the address")
    return value


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _api(roadmaps: Roadmaps) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api/v1")

    @api.before_request
    def admit() -> Response | None:
        is_within, *g.rate = roadmaps.count_call(account_name())
        if not is_within:
            return _throttled()
        user = roadmaps.authenticate(account_name(), _presented(roadmaps))
        if user is None:
            if roadmaps.settings.json_errors:
                return _refuse(401, error="unauthorized")
            return Response(LOGIN_WALL, 401, mimetype="text/html")
        if meets(Kind.REFUSE_VALUE):
            return _refuse(403, error="You do not have access to this workspace")
        g.user = user
        return None

    @api.after_request
    def show_rate(response: Response) -> Response:
        remaining, free_at = g.get("rate") or (0, int(datetime.now(tz=UTC).timestamp()) + 1)
        response.headers["X-Ratelimit-Limit"] = str(roadmaps.settings.per_minute)
        response.headers["X-Ratelimit-Remaining"] = str(remaining)
        response.headers["X-Ratelimit-Reset"] = str(free_at)
        return response

    @api.get("/me")
    def me() -> Response:
        user: User = g.user
        if meets(Kind.WRONG_IDENTITY):
            user = next(each for each in roadmaps.users(user.account) if each is not user)
        roles = {
            "role": "product_owner",
            "role_description": "Owner",
            "product_id": "7001",
            "product_name": "Rockets",
        }
        account = {"name": roadmaps.accounts[user.account], "domain": user.account, "enabled": True}
        return jsonify(
            user=_brief(user)
            | {
                "timezone": "UTC",
                "product_roles": [roles],
                "preferences": {"current_product_id": "7001"},
                "accounts": [{"account": account}],
            }
        )

    @api.get("/products")
    def products() -> Response:
        if roadmaps.settings.products_forbidden:
            return _refuse(403, error="You do not have access to this workspace")
        return _paginate("products", [{"id": "7001", "name": "Rockets"}, {"id": "7002", "name": "Anvils"}])

    @api.get("/products/<product_id>")
    def product(product_id: str) -> Response:
        if product_id != "7001":
            return _refuse(404, error="Record not found")
        return jsonify(product={"id": "7001", "name": "Rockets"})

    @api.get("/users")
    def users() -> Response:
        if not g.user.is_admin:
            return _refuse(403, error="Only administrators may list users")
        rows = [
            _brief(user)
            | {"enabled": user.is_enabled, "administrator": user.is_admin, "identity_provider": None}
            for user in roadmaps.users(account_name())
        ]
        return _paginate("users", rows)

    @api.get("/audits")
    def audits() -> Response:
        return _paginate("audits", [each for each in roadmaps.audits if each["account"] == account_name()])

    return api


def _brief(user: User) -> dict[str, Any]:
    at = _time(0)
    return {
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "created_at": at,
        "updated_at": at,
        "accessed_at": at,
    }


def _paginate(name: str, rows: list[Any]) -> Response:
    number = request.args.get("page", 1, type=int)
    size = request.args.get("per_page", 30, type=int)
    if number < 1 or not 1 <= size <= 200:
        return _refuse(400, errors={"message": "per_page must be between 1 and 200"})
    pagination = {"total_records": len(rows), "total_pages": -(-len(rows) // size), "current_page": number}
    return jsonify({name: rows[(number - 1) * size : number * size], "pagination": pagination})


def _oauth(roadmaps: Roadmaps) -> Blueprint:
    oauth = Blueprint("oauth", __name__, url_prefix="/oauth")

    def client() -> OAuthApp | None:
        app = roadmaps.apps.get(request.form.get("client_id", ""))
        return app if app is not None and app.client_secret == request.form.get("client_secret") else None

    @oauth.post("/token")
    def token() -> Response:
        app = client()
        if app is None:
            return _refuse(401, error="invalid_client")
        grant = request.form.get("grant_type")
        if grant == "authorization_code":
            made = roadmaps.exchange(app, request.form.get("code", ""), request.form.get("redirect_uri", ""))
        elif grant == "refresh_token":
            made = roadmaps.refresh(app, request.form.get("refresh_token", ""))
        else:
            return _refuse(400, error="unsupported_grant_type")
        return _refuse(400, error="invalid_grant") if made is None else jsonify(_token_shape(made))

    @oauth.post("/revoke")
    def revoke() -> Response:
        """Not documented by Aha!, hence off by default."""
        if not roadmaps.settings.oauth_revoke:
            abort(404)
        app = client()
        if app is None:
            return _refuse(403, error="unauthorized_client")
        roadmaps.withdraw(app.client_id, value=request.form.get("token", ""))
        return jsonify({})

    return oauth


def _token_shape(token: Token) -> dict[str, Any]:
    shape: dict[str, Any] = {"access_token": token.value, "token_type": "bearer"}
    if token.expires_in is not None:
        shape["expires_in"] = token.expires_in
    if token.refresh is not None:
        shape["refresh_token"] = token.refresh
    return shape
