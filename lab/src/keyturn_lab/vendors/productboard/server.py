"""Productboard's REST API v2, what is left of v1, and its OAuth endpoints; pages live in `pages`.

Source: https://developer.productboard.com/reference/getting-started (checked 2026-11-23). The data host and the OAuth
host are one here.
"""

from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.productboard.pages import pages
from keyturn_lab.vendors.productboard.state import ACCESS_LIFE_S, REFRESH_LIFE_S, App, Boards, Grant

API = "https://api.productboard.com/v2"
ENTITIES = (("e-1", "product", "Anvil"), ("e-2", "component", "Handle"), ("e-3", "feature", "Softer grip"))
NOTES = ("Please make it lighter", "It fell on my foot", "Love it")


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh Productboard with its seed members and no token; both edges of a token's life lag by 0.2 s."""
    clock = clock or Clock()
    quirks = Quirks(seed, settle_s=0.2)
    boards = Boards(clock, quirks)
    app = build_app(Stage("productboard", boards, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: boards.settings)
    app.register_blueprint(pages(boards))
    app.register_blueprint(_v2(boards))
    app.register_blueprint(_v1(boards))
    app.register_blueprint(_oauth(boards))

    @app.post("/_lab/apps")
    def add_app() -> Response:
        body = request.get_json()
        return jsonify(
            vars(boards.register_app(body["redirect_uri"], is_public=body.get("is_public", False)))
        )

    @app.errorhandler(404)
    def not_found(_error: Exception) -> Response:
        return _refuse(404, "route.notFound", "Route not found")

    return app


def _refuse(status: int, code: str, title: str) -> Response:
    answer = jsonify(errors=[{"code": code, "title": title, "detail": title}])
    answer.status_code = status
    return answer


def _plain(status: int, **body: Any) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    return answer


def _throttled() -> Response:
    answer = _refuse(429, "rateLimit.exceeded", "Too many requests")
    answer.headers["Retry-After"] = "1"
    return answer


def _admit(boards: Boards) -> Response | None:
    """The token, then its rate, then the plan. A gateway refuses what is no token in a shape of its own."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        return _plain(401, message="Jwt is missing", code=401)
    if value.count(".") != 2:
        return _plain(401, message="Jwt is not in the form of Header.Payload.Signature", code=401)
    caller = boards.authenticate(value)
    if caller is None:
        return _refuse(401, "auth.invalid", "The token is invalid or was revoked")
    g.remaining = boards.count_call(value)
    if g.remaining < 0:
        return _throttled()
    if boards.settings.plan_too_small:
        return _refuse(403, "planUpgrade.required", "Upgrade your plan")
    if not boards.settings.api_enabled:
        return _refuse(403, "system.apiNotEnabled", "The API is not enabled")
    if meets(Kind.REFUSE_VALUE):
        return _refuse(403, "auth.accessDenied", "Access denied")
    g.caller = caller
    return None


def _show_rate(boards: Boards, response: Response) -> Response:
    response.headers["X-RateLimit-Limit"] = str(boards.settings.per_second)
    response.headers["X-RateLimit-Remaining"] = str(max(0, g.get("remaining", 0)))
    return response


def _v2(boards: Boards) -> Blueprint:
    api = Blueprint("v2", __name__, url_prefix="/v2")

    @api.before_request
    def admit() -> Response | None:
        if "X-Version" in request.headers:
            return _refuse(400, "validation.header", "X-Version is not a header of v2")
        return _admit(boards)

    @api.after_request
    def show_rate(response: Response) -> Response:
        return _show_rate(boards, response)

    def link(kind: str, key: str) -> dict[str, str]:
        links = {"self": f"{API}/{kind}/{key}"}
        if boards.settings.html_links:
            workspace = "other" if meets(Kind.WRONG_IDENTITY) else g.caller.member.workspace
            links["html"] = f"https://{workspace}.productboard.com/{kind}/{key}"
        return links

    def listed(rows: list[dict[str, Any]], *scopes: str) -> Response:
        if g.caller.scopes is not None and not g.caller.scopes & set(scopes):
            return _refuse(403, "auth.accessDenied", f"Missing scope {scopes[0]}")
        start = int(cursor) if (cursor := request.args.get("pageCursor", "0")).isdecimal() else 0
        size = boards.settings.page_size
        more = start + size < len(rows)
        following = f"{request.base_url}?pageCursor={start + size}" if more else None
        return jsonify(data=rows[start : start + size], links={"next": following})

    @api.get("/members")
    def members() -> Response:
        scopes = g.caller.scopes
        shows_mail = scopes is None or "members_pii:read" in scopes
        rows = [
            {
                "id": each.id,
                "type": "member",
                "fields": {
                    "name": each.email.partition("@")[0] if shows_mail else "[redacted]",
                    "email": each.email if shows_mail else "[redacted]",
                    "role": each.role,
                    "disabled": each.is_disabled,
                    "invitationPending": False,
                },
                "links": link("members", each.id),
            }
            for each in boards.members(g.caller.member.workspace)
        ]
        return listed(rows, "entities:read", "members_pii:read")

    @api.get("/notes")
    def notes() -> Response:
        rows = [
            {"id": f"n-{n}", "type": "textNote", "fields": {"name": text}, "links": link("notes", f"n-{n}")}
            for n, text in enumerate(NOTES, 1)
        ]
        return listed(rows, "notes:read")

    @api.get("/entities")
    def entities() -> Response:
        wanted = request.args.getlist("type[]") or [kind for _, kind, _ in ENTITIES]
        rows = [
            {"id": key, "type": kind, "fields": {"name": name}, "links": link("entities", key)}
            for key, kind, name in ENTITIES
            if kind in wanted
        ]
        return listed(rows, "entities:read")

    return api


def _v1(boards: Boards) -> Blueprint:
    api = Blueprint("v1", __name__)

    @api.get("/features")
    def features() -> Response:
        if boards.settings.v1_gone:
            return _refuse(boards.settings.v1_gone, "system.gone", "This version was withdrawn")
        if request.headers.get("X-Version") != "1":
            return _refuse(400, "validation.header", "X-Version must be 1")
        refused = _admit(boards)
        if refused is not None:
            return refused
        size = request.args.get("pageLimit", 100, type=int)
        rows = [{"id": key, "name": name} for key, kind, name in ENTITIES if kind == "feature"]
        return jsonify(data=rows[:size], pageCursor=None, links={"next": None})

    @api.after_request
    def show_rate(response: Response) -> Response:
        return _show_rate(boards, response)

    return api


def _oauth(boards: Boards) -> Blueprint:
    oauth = Blueprint("oauth", __name__, url_prefix="/oauth2")

    def client() -> App | None:
        app = boards.apps.get(request.form.get("client_id", ""))
        return app if app is not None and app.client_secret == request.form.get("client_secret", "") else None

    @oauth.post("/token")
    def token() -> Response:
        app, form = client(), request.form
        if app is None:
            return _plain(401, error="invalid_client")
        match form.get("grant_type"):
            case "authorization_code":
                made = boards.exchange(
                    app, form.get("code", ""), form.get("redirect_uri", ""), form.get("code_verifier", "")
                )
            case "refresh_token":
                made = boards.refresh(app, form.get("refresh_token", ""))
            case _:
                return _plain(400, error="unsupported_grant_type")
        return _plain(400, error="invalid_grant") if made is None else jsonify(_pair(made))

    @oauth.post("/revoke")
    def revoke() -> Response:
        app = client()
        if app is None:
            return _plain(401, error="invalid_client")
        boards.revoke(app, request.form.get("token", ""))
        return jsonify({})

    @oauth.get("/token/info")
    def info() -> Response:
        found = boards.info(request.args.get("access_token", ""))
        if found is None:
            return _plain(401, error="invalid_token")
        return jsonify(
            scope=found.scope.split(), resource_owner_id=found.member.id, expires_in=int(ACCESS_LIFE_S)
        )

    return oauth


def _pair(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access,
        "token_type": "Bearer",
        "expires_in": int(ACCESS_LIFE_S),
        "refresh_token": grant.refresh,
        "refresh_token_expires_in": int(REFRESH_LIFE_S),
        "scope": grant.scope,
        "created_at": int(grant.access_life.from_at),
    }
