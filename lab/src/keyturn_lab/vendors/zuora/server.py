"""Zuora's token endpoint and three cheap reads, with their error shapes and limits; pages live in `pages`.

Source: https://developer.zuora.com/v1-api-reference/api/operation/createToken and
https://developer.zuora.com/docs/guides/error-codes (checked 2026-11-23). The body of a refused token call is unconfirmed,
hence the switch.
"""

import uuid
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.zuora.pages import pages
from keyturn_lab.vendors.zuora.state import DEFAULT_HOST, ONE_ID_HOST, TOKEN_LIFE_S, Billing, User

FORM = "application/x-www-form-urlencoded"
OBJECTS = {"accounts": 3, "subscriptions": 2, "credit-memos": 0}
PRODUCTS = ("Anvil", "Rocket", "Spring")
# 6 digits name the resource, 2 the category; GET and DELETE failures use resource 500000.
MAY_NOT, WRONG_CREDENTIAL, FIELD_MISSING, BAD_VALUE = 50_000_010, 90_000_011, 90_000_022, 90_000_020
DESCRIBE = '<?xml version="1.0" encoding="UTF-8"?><object><name>Account</name><label>Account</label></object>'


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh Zuora with its seed users and no client; both edges of a client's life lag by 0.2 s."""
    clock = clock or Clock()
    quirks = Quirks(seed, settle_s=0.2)
    billing = Billing(clock, quirks)
    app = build_app(
        Stage("zuora", billing, throttled=lambda: _throttled(billing), quirks=quirks, clock=clock)
    )
    add_settings(app, lambda: billing.settings)
    app.register_blueprint(pages(billing, host_name))
    app.register_blueprint(_tokens(billing))
    app.register_blueprint(_api(billing))

    @app.after_request
    def echo_track_id(response: Response) -> Response:
        if track := request.headers.get("Zuora-Track-Id"):
            response.headers["Zuora-Track-Id"] = track[:64]
        return response

    return app


def host_name() -> str:
    """The REST host the request addresses; the bare loopback address is the default data centre, a UI host its own."""
    host = request.host.rsplit(":", 1)[0]
    if not host.endswith(".zuora.com"):
        return DEFAULT_HOST
    return host if host.startswith("rest.") or host == ONE_ID_HOST else f"rest.{host.removeprefix('www.')}"


def _throttled(billing: Billing, wait_s: float = 1.0) -> Response:
    answer = _plain(429, message="Too many requests")
    seconds = str(max(1, round(wait_s)))
    answer.headers["ratelimit-limit"] = str(billing.settings.token_per_minute)
    answer.headers["ratelimit-remaining"] = "0"
    answer.headers["ratelimit-reset"] = seconds
    if billing.settings.says_retry_after:
        answer.headers["Retry-After"] = seconds
    return answer


def _plain(status: int, **body: Any) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    return answer


def _envelope(status: int, code: int, message: str) -> Response:
    """The old v1 shape, whose HTTP status may well be 200."""
    reasons = [{"code": code, "message": message}]
    return _plain(status, success=False, processId=uuid.uuid4().hex[:16].upper(), reasons=reasons)


def _scope(user: User) -> str:
    """Who answered hides in the scope, between the rights."""
    tenant = user.tenant
    rights = " ".join(f"service.{each}.read" for each in ("echo", *sorted(user.may)))
    return f"user.{user.id} entity.{tenant.entity} {rights} tenant.{tenant.number}"


def _tokens(billing: Billing) -> Blueprint:
    tokens = Blueprint("tokens", __name__)

    def refuse(code: int, message: str) -> Response:
        status = billing.settings.error_status
        match billing.settings.error_style:
            case "code":
                return _plain(status, code=code, message=message)
            case "reasons":
                return _envelope(status, code, message)
            case "reasons_200":
                return _envelope(200, code, message)
            case _:
                return _plain(status, message=message)

    def token(host: str) -> Response:
        wait_s = billing.count_token_call(request.remote_addr or "")
        if wait_s > 0:
            return _throttled(billing, wait_s)
        if request.mimetype != FORM:
            return _plain(415, code=BAD_VALUE, message="The request must be form-encoded")
        if billing.settings.forbid_authorization and "Authorization" in request.headers:
            return _plain(400, code=BAD_VALUE, message="Authorization is not allowed here")
        if missing := [name for name in ("client_id", "client_secret") if not request.form.get(name)]:
            return _plain(400, code=FIELD_MISSING, message=f"Missing {missing[0]}")
        if request.form.get("grant_type") != "client_credentials":
            return _plain(400, code=BAD_VALUE, message="Unknown grant_type")
        found = billing.authenticate(host, request.form["client_id"], request.form["client_secret"])
        if found is None:
            return refuse(WRONG_CREDENTIAL, "Invalid client id or client secret")
        user, client = found
        bearer = billing.issue(user, client)
        if meets(Kind.WRONG_IDENTITY):
            user = next(each for each in billing.users(user.tenant.host) if each is not user)
        return _plain(
            200,
            access_token=bearer.value,
            token_type="bearer",
            expires_in=int(TOKEN_LIFE_S),
            scope=_scope(user),
            jti=uuid.uuid4().hex,
        )

    @tokens.post("/oauth/token")
    def create_token() -> Response:
        return token(host_name())

    @tokens.post("/oauth2/token")
    def one_id_token() -> Response:
        return token(ONE_ID_HOST)

    return tokens


def _api(billing: Billing) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.before_request
    def admit() -> Response | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        bearer = billing.bearer(host_name(), value) if scheme.lower() == "bearer" else None
        if billing.use_up("user_info_failures"):
            return _plain(401, message="Failed to get user info")
        if bearer is None or billing.use_up("gateway_refusals"):
            return _plain(401, message="Authentication error")
        g.user = bearer.user
        entity = request.headers.get("Zuora-Entity-Ids")
        if meets(Kind.REFUSE_VALUE) or (entity and entity != bearer.user.tenant.entity):
            return may_not()
        return None

    def may_not() -> Response:
        return _envelope(
            200 if billing.settings.envelope_refusals else 403, MAY_NOT, "You do not have permission"
        )

    @api.get("/v1/catalog/products")
    def products() -> Response:
        if "catalog" not in g.user.may:
            return may_not()
        number, size = request.args.get("page", 1, type=int), request.args.get("pageSize", 10, type=int)
        if number < 1 or not 1 <= size <= 40:
            return _envelope(200, 50_000_020, "pageSize must be between 1 and 40")
        start = (number - 1) * size
        body: dict[str, Any] = {"products": [{"id": n, "name": n} for n in PRODUCTS[start : start + size]]}
        if start + size < len(PRODUCTS):
            body["nextPage"] = f"{request.base_url}?page={number + 1}&pageSize={size}"
        return _plain(200, success=True, **body)

    @api.get("/object-query/<objects>")
    def object_query(objects: str) -> Response:
        if objects not in OBJECTS:
            return _plain(404, message="No resource found")
        if "catalog" not in g.user.may:
            return may_not()
        size = request.args.get("pageSize", 10, type=int)
        if not 1 <= size <= 99:
            return _plain(400, code=BAD_VALUE, message="pageSize must be between 1 and 99")
        rows = [{"id": n} for n in range(OBJECTS[objects])]
        more = {"nextPage": "W3sib3JkZXJ="} if size < len(rows) else {}
        return _plain(200, data=rows[:size], **more)

    @api.get("/v1/describe/Account")
    def describe() -> Response:
        return Response(DESCRIBE, mimetype="application/xml")

    @api.get("/settings/listing")
    def listing() -> Response:
        return _plain(200, settings=[]) if "settings" in g.user.may else may_not()

    return api
