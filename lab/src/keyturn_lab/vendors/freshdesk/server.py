"""Freshdesk's REST API v2 as far as a rotation meets it, with its error bodies and limits; pages live in `pages`.

Source: https://developers.freshdesk.com/api/ (checked 2026-11-23).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.freshdesk.pages import pages
from keyturn_lab.vendors.freshdesk.state import DEFAULT_TENANT, Agent, Desk, Refusal

ROLE_IDS = {"agent": 48_000_000_901, "admin": 48_000_000_902}
NOT_FOUND = "<!doctype html><title>Not found</title><h1>The page you were looking for doesn't exist.</h1>"


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh Freshdesk with its seed agents; a reset key is known 0.2 s later, the old one is dead at once."""
    clock = clock or Clock()
    quirks = Quirks(seed, settle_s=0.2, linger_s=0.0)
    desk = Desk(clock, quirks)
    app = build_app(Stage("freshdesk", desk, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: desk.settings)
    app.register_blueprint(pages(desk, tenant_name))
    app.register_blueprint(_api(desk))

    app.wsgi_app = _by_path(app.wsgi_app)  # type: ignore[method-assign]

    @app.before_request
    def require_tenant() -> None:
        if not request.path.startswith("/_lab/") and tenant_name() not in desk.tenants:
            abort(404)

    @app.errorhandler(404)
    def not_found(_error: Exception) -> tuple[str, int]:
        return NOT_FOUND, 404

    return app


def tenant_name() -> str:
    """The sub-domain the request addresses; the bare loopback address is the default tenant."""
    host = request.host.rsplit(":", 1)[0]
    return host.removesuffix(".freshdesk.com") if host.endswith(".freshdesk.com") else DEFAULT_TENANT


def _by_path(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Serves `/tenants/NAME/...` as that sub-domain: an address on loopback has none of its own."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        _, _, rest = environ["PATH_INFO"].partition("/tenants/")
        if rest and environ["PATH_INFO"].startswith("/tenants/"):
            name, _, path = rest.partition("/")
            environ["HTTP_HOST"], environ["PATH_INFO"] = f"{name}.freshdesk.com", f"/{path}"
        return inner(environ, start_response)

    return app


def _throttled() -> Response:
    answer = jsonify(message="You have exceeded the limit of requests per minute")
    answer.status_code = 429
    answer.headers["Retry-After"] = "1"
    return answer


def _refuse(status: int, code: str, message: str) -> Response:
    answer = jsonify(code=code, message=message)
    answer.status_code = status
    return answer


def _denied() -> Response:
    return _refuse(403, "access_denied", "You are not authorized to perform this action.")


def _invalid(*problems: tuple[str, str, str]) -> Response:
    errors = [{"field": field, "message": message, "code": code} for field, message, code in problems]
    answer = jsonify(description="Validation failed", errors=errors)
    answer.status_code = 400
    return answer


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shape(agent: Agent) -> dict[str, Any]:
    at = _time(agent.created_at)
    return {
        "available": True,
        "occasional": agent.occasional,
        "id": agent.id,
        "signature": None,
        "ticket_scope": agent.ticket_scope,
        "created_at": at,
        "updated_at": at,
        "available_since": None,
        "type": "support_agent",
        "group_ids": [],
        "role_ids": [ROLE_IDS[agent.role]],
        "contact": {
            "active": agent.is_verified,
            "email": agent.email,
            "job_title": None,
            "language": "en",
            "last_login_at": None,
            "mobile": None,
            "name": agent.name,
            "phone": None,
            "time_zone": "UTC",
            "created_at": at,
            "updated_at": at,
        },
    }


def _api(desk: Desk) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api/v2")

    @api.before_request
    def admit() -> Response | None:
        """Rate first, then the key: refused calls use up the account's limit too."""
        g.rate = desk.count_call(tenant_name())
        _, remaining, wait_s = g.rate
        if remaining < 0:
            answer = _throttled()
            answer.headers["Retry-After"] = str(wait_s)
            return answer
        value = request.authorization.username if request.authorization else None
        found = desk.authenticate(tenant_name(), value or "")
        if found is Refusal.LOCKED_OUT:
            return _denied()
        if found is Refusal.UNKNOWN:
            message = "You have to be logged in to perform this action."
            return _refuse(401, "invalid_credentials", message)
        if meets(Kind.REFUSE_VALUE):
            return _refuse(403, "require_feature", "The feature is not supported in your plan.")
        g.agent = found
        return None

    @api.after_request
    def show_rate(response: Response) -> Response:
        limit, remaining, _ = g.get("rate", (desk.settings.rate_per_minute, 0, 1))
        response.headers["X-RateLimit-Total"] = str(limit)
        response.headers["X-RateLimit-Remaining"] = str(max(0, remaining))
        response.headers["X-RateLimit-Used-CurrentRequest"] = "1"
        return response

    @api.get("/agents/me")
    def agents_me() -> Response:
        if meets(Kind.WRONG_IDENTITY):
            others = [each for each in desk.agents(tenant_name()) if each.id != g.agent.id]
            return jsonify(_shape(others[0]))
        return jsonify(_shape(g.agent))

    @api.get("/agents")
    def list_agents() -> Response:
        if g.agent.role != "admin":
            return _denied()
        found = desk.agents(tenant_name())
        if email := request.args.get("email"):
            found = [each for each in found if each.email == email]
        if state := request.args.get("state"):
            found = [each for each in found if each.occasional == (state == "occasional")]
        return _paginate([_shape(each) for each in found])

    @api.post("/agents")
    def create_agent() -> Response:
        if g.agent.role != "admin":
            return _denied()
        body = request.get_json(silent=True) or {}
        missing = [
            (name, "It should be a/an String", "missing_field")
            for name in ("email", "ticket_scope")
            if name not in body
        ]
        if missing:
            return _invalid(*missing)
        if desk.agent_by_email(tenant_name(), body["email"]):
            return _invalid(("email", "It should be a unique value", "duplicate_value"))
        role = "admin" if ROLE_IDS["admin"] in body.get("role_ids", []) else "agent"
        agent = desk.add_agent(tenant_name(), body["email"], body.get("name", body["email"]), role=role)
        agent.occasional, agent.ticket_scope = bool(body.get("occasional")), int(body["ticket_scope"])
        answer = jsonify(_shape(agent))
        answer.status_code = 201
        return answer

    @api.route("/agents/<int:agent_id>", methods=["GET", "PUT", "DELETE"])
    def agent(agent_id: int) -> Response:
        if g.agent.role != "admin":
            return _denied()
        target = desk.agent(tenant_name(), agent_id)
        if target is None:
            abort(404)
        if request.method == "DELETE":
            desk.delete_agent(target)
            return Response(status=204)
        if request.method == "PUT":
            body = request.get_json(silent=True) or {}
            target.name = body.get("name", target.name)
            target.occasional = bool(body.get("occasional", target.occasional))
            target.ticket_scope = int(body.get("ticket_scope", target.ticket_scope))
        return jsonify(_shape(target))

    @api.get("/settings/helpdesk")
    def helpdesk() -> Response:
        return jsonify(primary_language="en", supported_languages=["de"], portal_languages=["de"])

    @api.get("/tickets")
    def tickets() -> Response:
        subjects = ("Printer on fire", "Cannot sign in", "Where is my order?")
        return _paginate([{"id": n, "subject": text, "status": 2} for n, text in enumerate(subjects, 1)])

    return api


def _paginate(rows: list[dict[str, Any]]) -> Response:
    """One page of rows, with a `Link` header when there is another."""
    number = request.args.get("page", 1, type=int)
    size = request.args.get("per_page", 30, type=int)
    if number < 1 or not 1 <= size <= 100:
        return _invalid(
            ("per_page", "It should be a Positive Integer less than or equal to 100", "invalid_value")
        )
    start = (number - 1) * size
    answer = jsonify(rows[start : start + size])
    if start + size < len(rows):
        after = f"{request.base_url}?page={number + 1}&per_page={size}"
        answer.headers["Link"] = f'<{after}>; rel="next"'
    return answer
