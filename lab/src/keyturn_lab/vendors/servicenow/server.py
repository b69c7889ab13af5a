"""An instance's token endpoint, its revocation, and who calls the Table API; pages for people live in `pages`.

Source: https://github.com/ServiceNow/ServiceNowDocs (OAuth API request and response parameters), checked 2026-11-23.
"""

import base64
import binascii
from collections.abc import Mapping

from flask import Blueprint, Flask, Response, jsonify, request, session

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.servicenow.pages import pages
from keyturn_lab.vendors.servicenow.state import Entry, Instance, Pair, User
from keyturn_lab.vendors.servicenow.tables import refuse, tables

GRANT_OPS = {"authorization_code": "exchange", "refresh_token": "refresh"}
ASLEEP = "<!doctype html><title>Instance Hibernating</title><p>Your instance is hibernating."


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh instance with three users and two entries.

    Ops: `exchange`, `refresh`, `token`, `revoke_token`, and for tables the method and the table: `post_oauth_entity`.
    """
    clock = clock or Clock()
    quirks = Quirks(seed)
    instance = Instance(clock, quirks)
    app = build_app(
        Stage(
            "servicenow", instance, throttled=lambda: _throttled(clock), quirks=quirks, clock=clock, op_of=_op
        )
    )
    add_settings(app, lambda: instance.settings)
    app.before_request(lambda: _asleep(instance))
    app.register_blueprint(pages(instance))
    app.register_blueprint(_oauth(instance))
    app.register_blueprint(tables(instance, lambda: _who(instance)))
    app.register_blueprint(_steering(instance))
    return app


def _op() -> str | None:
    if request.path == "/oauth_token.do":
        return GRANT_OPS.get(request.form.get("grant_type", ""), "token")
    if request.path.startswith("/api/now/table/"):
        return f"{request.method.lower()}_{request.path.split('/')[4]}"
    return None


def _asleep(instance: Instance) -> Response | None:
    if instance.settings.hibernating and not request.path.startswith("/_lab/"):
        return Response(ASLEEP, 200, mimetype="text/html")
    return None


def _throttled(clock: Clock) -> Response:
    answer = refuse(429, "Rate limit exceeded", "Rate limit of 600 requests per hour for user .. exceeded")
    answer.headers["X-RateLimit-Limit"] = "600"
    answer.headers["X-RateLimit-Reset"] = str(int(clock.now()) + 1)
    answer.headers["X-RateLimit-Rule"] = "b" * 32
    answer.headers["Retry-After"] = "1"
    return answer


def _who(instance: Instance) -> User | None:
    """The caller by token or password; else by a session cookie, which outlives the token that made it."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    user: User | None = None
    if scheme.lower() == "bearer":
        user = instance.who(value.strip())
    elif scheme.lower() == "basic":
        user = _by_password(instance, value)
    if user is not None and instance.settings.cookie_outlives_token:
        session["api_user"] = user.user_name
    if user is None and "api_user" in session and instance.settings.cookie_outlives_token:
        return instance.users.get(session["api_user"])
    return user


def _by_password(instance: Instance, value: str) -> User | None:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user = instance.users.get(name)
    return user if user is not None and user.password == password else None


def _oauth(instance: Instance) -> Blueprint:
    oauth = Blueprint("oauth", __name__)

    def denied() -> Response:
        answer = jsonify(error_description="access_denied", error="server_error")
        answer.status_code = 401
        return answer

    @oauth.post("/oauth_token.do")
    def token() -> Response:
        if request.mimetype != "application/x-www-form-urlencoded":
            return Response("<html><title>Error</title></html>", 400, mimetype="text/html")
        body = request.form if instance.settings.body_only else request.values
        entry = instance.client(body.get("client_id", ""))
        if entry is None or (not entry.is_public and body.get("client_secret") != entry.client_secret):
            return denied()
        if meets(Kind.REFUSE_VALUE):
            return denied()
        pair = _granted(entry, body.get("grant_type", ""), body)
        if pair is None:
            return denied()
        answer = {"access_token": pair.access, "scope": "useraccount", "token_type": "Bearer"}
        if pair.refresh is not None:
            answer["refresh_token"] = pair.refresh
        return jsonify({**answer, "expires_in": pair.seconds})

    def _granted(entry: Entry, grant: str, body: Mapping[str, str]) -> Pair | None:
        settings = instance.settings
        if grant == "authorization_code":
            verifier = body.get("code_verifier", "")
            return instance.exchange(entry, body.get("code", ""), body.get("redirect_uri", ""), verifier)
        if grant == "refresh_token":
            return instance.refresh(entry, body.get("refresh_token", ""))
        if grant == "client_credentials" and settings.client_credentials_enabled:
            user = instance.users.get(entry.application_user)
            return instance.grant(entry, user, with_refresh=False) if user is not None else None
        if grant == "password" and not settings.ropc_disabled:
            user = instance.users.get(body.get("username", ""))
            if user is not None and user.password == body.get("password"):
                return instance.grant(entry, user, with_refresh=True)
        return None  # the JWT bearer grant is not modelled: it is refused as one that is switched off

    @oauth.get("/oauth_revoke_token.do")
    def revoke_token() -> Response:
        """Nobody has to sign in: whoever holds a token may end it."""
        instance.revoke(request.args.get("token", ""))
        return Response(status=200)

    return oauth


def _steering(instance: Instance) -> Blueprint:
    """The admin endpoints that only this vendor needs."""
    steering = Blueprint("steering", __name__, url_prefix="/_lab")

    @steering.get("/entries")
    def entries() -> Response:
        shown = ("sys_id", "name", "client_id", "client_secret", "redirect_url", "active")
        return jsonify([{name: getattr(each, name) for name in shown} for each in instance.listed()])

    @steering.post("/entries")
    def set_entry() -> Response:
        """Change the entry of this `client_id`: its callback, its kind, its application user."""
        body = dict(request.get_json())
        wanted = body.pop("client_id")
        entry = next(each for each in instance.listed() if each.client_id == wanted)
        for name, value in body.items():
            setattr(entry, name, value)
        return jsonify(entry.sys_id)

    @steering.post("/tokens")
    def give_token() -> Response:
        """Somebody else uses the entry too: a token of this user appears on it."""
        body = request.get_json()
        entry = next(each for each in instance.listed() if each.client_id == body["client_id"])
        pair = instance.grant(entry, instance.users[body["user"]], with_refresh=True)
        return jsonify(access=pair.access, refresh=pair.refresh)

    return steering
