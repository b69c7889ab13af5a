"""Vendor-specific doors under `/_lab/`: make users and consents, age sessions, take the service down."""

from datetime import timedelta
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from keyturn_lab import guard

from . import oauth
from .integrations import add_integration
from .keys import SLOTS, BadPublicKey, read_key
from .state import Account, User
from .users import set_disabled

_USER_FIELDS = (
    "type",
    "login_name",
    "default_role",
    "owner",
    "must_change_password",
    "network_policy",
    "password_alone",
)


def add_admin(app: Flask, account: Account) -> None:
    """Register the doors. They skip every policy: the lab's owner may build any situation."""

    @app.post("/_lab/users", endpoint="lab_users")
    def users() -> Response:
        """Creates or changes a user: name, password, disabled, roles, RSA_PUBLIC_KEY[_2] and the plain fields."""
        wanted = _json()
        with account.lock:
            name = str(wanted.pop("name"))
            user = account.users.setdefault(name, User(name, name, account.now()))
            _change(account, user, wanted)
        return jsonify(name=user.name)

    @app.post("/_lab/integrations", endpoint="lab_integrations")
    def integrations() -> Response:
        """Creates an integration: name, perhaps the role that owns it, and properties by their Snowflake names."""
        wanted = _json()
        with account.lock:
            made = add_integration(account, str(wanted["name"]), str(wanted.get("owner", "ACCOUNTADMIN")))
            made.properties.update(wanted.get("properties", {}))
        return jsonify(client_id=made.client_id, secrets=made.secrets)

    @app.post("/_lab/consents", endpoint="lab_consents")
    def consents() -> Response:
        """Consents for a user, as if on the page: user, integration, role. Answers what the token endpoint would.

        With `revoke` the user's consent and all its tokens go instead.
        """
        wanted = _json()
        with account.lock:
            user, integration = account.users[wanted["user"]], account.integrations[wanted["integration"]]
            if wanted.get("revoke"):
                account.drop_consent(user.name, integration.name)
                return jsonify({})
            role = str(wanted.get("role", user.default_role))
            account.consents.add((user.name, integration.name, role))
            return jsonify(oauth.issue(account, integration, user, role, None))

    @app.post("/_lab/sessions", endpoint="lab_sessions")
    def sessions() -> Response:
        """Ages the open sessions of `user`: `state` is expired, master_expired or killed."""
        wanted = _json()
        past = account.now() - timedelta(seconds=1)
        with account.lock:
            hit = [s for s in account.sessions if s.user == wanted["user"] and s.closed_reason is None]
            for session in hit:
                if wanted["state"] == "killed":
                    session.closed_reason = "FORCED_LOGOUT"
                else:
                    session.token_until = past
                if wanted["state"] == "master_expired":
                    session.master_until = past
        return jsonify(sessions=len(hit))

    @app.post("/_lab/outages", endpoint="lab_outages")
    def take_down() -> tuple[str, int]:
        """HTTP statuses the kit's faults do not have: op (or `*`), status, times (null is for good); replaces all."""
        account.outages = [dict(each) for each in request.get_json()]
        return "", 204

    @app.get("/_lab/effects", endpoint="lab_effects")
    def effects() -> Response:
        """The names of the statements that ran, oldest first: a repeated request adds nothing here."""
        return jsonify(account.effects)

    @app.before_request
    def be_down() -> Response | None:
        if request.path.startswith("/_lab/"):
            return None
        op = (request.endpoint or "").rsplit(".", 1)[-1]
        for each in account.outages:
            if each["op"] in (op, "*") and each.get("times", 1) != 0:
                if each.get("times", 1) is not None:
                    each["times"] = each.get("times", 1) - 1
                return Response(status=int(each["status"]))
        return None


def _json() -> dict[str, Any]:
    value = request.get_json()
    if not isinstance(value, dict):
        abort(422)
    return value


def _change(account: Account, user: User, wanted: dict[str, Any]) -> None:
    for field in _USER_FIELDS:
        if field in wanted:
            setattr(user, field, wanted.pop(field))
    user.roles |= set(wanted.pop("roles", []))
    if "password" in wanted:
        password = wanted.pop("password")
        account.set_password(user, password and guard.remember("password", password))
    if "disabled" in wanted:
        set_disabled(account, user, wanted.pop("disabled"))
    try:
        for slot in SLOTS:
            body = wanted.pop(slot, "")
            if body or body is None:
                account.set_key(user, slot, read_key(body, account.now()) if body else None)
    except BadPublicKey:
        abort(422)
    if wanted:
        abort(422)
