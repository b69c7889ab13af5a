"""The paths the official driver calls, and how one request becomes one login or one statement, exactly once.

Source: snowflakedb/snowflake-connector-python src/snowflake/connector/network.py; driver 5.2.0 run against this.
"""

import gzip
import json
from datetime import timedelta
from typing import Any

from flask import Flask, Response, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets

from . import login, oauth, sql
from .admin import add_admin
from .seed import Snowflake
from .state import MASTER_LIFE, SESSION_LIFE, Account, Session
from .wire import Json, SqlRefusal, failure, query_answer, query_refusal, success

SOMEBODY_ELSE = "SOMEBODY_ELSE"
_SESSION = "keyturn_lab.snowflake.session"
_GONE = failure("390111", "Session no longer exists.  New login required to access the service.")
_EXPIRED = failure("390112", "Your session has expired. Please login again.")
_MASTER_EXPIRED = failure("390114", "Authentication token has expired.  The user must authenticate again.")


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh account with its seed users. Settling times default to none: the vendor documents no delay."""
    clock = clock or Clock()
    quirks = Quirks(seed)
    world = Snowflake(clock, quirks)
    stage = Stage("snowflake", world, throttled=lambda: Response(status=429), quirks=quirks, clock=clock)
    app = build_app(stage)
    add_settings(app, lambda: world.account.settings)
    add_admin(app, world.account)
    app.register_blueprint(oauth.pages(world.account))
    _add_sessions(app, world.account)
    _add_queries(app, world.account)
    return app


def _add_sessions(app: Flask, account: Account) -> None:
    @app.post("/session/v1/login-request", endpoint="login")
    def log_in() -> Response:
        """WRONG_IDENTITY lets the client in as somebody it did not ask for."""
        body = _body()
        data = body.get("data")
        attempt = login.Attempt(
            body=data if isinstance(data, dict) else {},
            role=request.args.get("roleName", ""),
            client_ip=request.remote_addr or "127.0.0.1",
            in_flight=body.get("inFlightCtx"),
        )
        with account.lock:
            answer = login.log_in(account, attempt)
            if meets(Kind.WRONG_IDENTITY) and answer["success"]:
                account.sessions[-1].poses_as = SOMEBODY_ELSE
        return jsonify(answer)

    @app.post("/session/token-request", endpoint="renew")
    def renew() -> Response:
        with account.lock:
            return jsonify(_renew(account, account.session_by_master(_token())))

    @app.post("/session/heartbeat", endpoint="heartbeat")
    def heartbeat() -> Response:
        with account.lock:
            return jsonify(_problem_with(account, account.session_by(_token())) or success(None))

    @app.post("/session", endpoint="logout")
    def logout() -> Response:
        with account.lock:
            session = account.session_by(_token())
            if session is not None and session.closed_reason is None:
                session.closed_reason = "LOGOUT"
        return jsonify(success(None))

    @app.post("/telemetry/send", endpoint="telemetry")
    def telemetry() -> Response:
        return jsonify(success("Log Received"))

    @app.post("/oauth/token-request", endpoint="oauth_token")
    def oauth_token() -> Response:
        return oauth.endpoint(account)


def _add_queries(app: Flask, account: Account) -> None:
    """All statements arrive at one path, but a fault should hit one kind: so each kind has an endpoint of its own."""

    def query() -> Response:
        with account.lock:
            session: Session | None = request.environ.get(_SESSION)
            return jsonify(_run_once(account, session))

    rules = {}
    for name in sql.OPERATIONS:
        app.add_url_rule("/queries/v1/query-request", endpoint=name, view_func=query, methods=["POST"])
        rules[name] = next(app.url_map.iter_rules(name))

    @app.url_value_preprocessor
    def name_the_statement(endpoint: str | None, values: dict[str, Any] | None) -> None:
        """Runs before the kit looks for faults. The session is looked up on arrival too.

        A statement applied late was accepted while its session was open, and a log-out in between does not stop it.
        """
        if endpoint in rules:
            request.url_rule = rules[sql.operation_of(str(_body().get("sqlText", "")))]
            if _SESSION not in request.environ:
                request.environ[_SESSION] = account.session_by(_token())

    @app.post("/queries/v1/abort-request", endpoint="abort")
    def abort() -> Response:
        return jsonify(success(None))


def _run_once(account: Account, session: Session | None) -> Json:
    """Runs a statement, or repeats the answer a repeated request id already got.

    The driver re-sends a request whose connection dropped under the same id; running it twice would burn a secret.
    """
    problem = _problem_with(account, session)
    if session is None or (problem is not None and session.closed_reason != "LOGOUT"):
        return problem or _GONE
    request_id = request.args.get("requestId", "")
    if request_id in session.answers:
        return session.answers[request_id]
    body = _body()
    bindings = {key: each.get("value") for key, each in (body.get("bindings") or {}).items()}
    try:
        table = sql.execute(
            account,
            session,
            str(body.get("sqlText", "")),
            bindings,
            refuses=meets(Kind.REFUSE_VALUE),
            poses_as=SOMEBODY_ELSE if meets(Kind.WRONG_IDENTITY) else session.poses_as,
        )
        account.effects.append(str(request.endpoint))
        answer = query_answer(table, role=session.role, at=account.now())
    except SqlRefusal as refusal:
        answer = query_refusal(refusal)
    if request_id:
        session.answers[request_id] = answer
    return answer


def _problem_with(account: Account, session: Session | None) -> Json | None:
    """Why a session cannot be used now. Changing its user's password or key is no reason."""
    if session is None or session.closed_reason is not None:
        return _GONE
    return _EXPIRED if session.token_until <= account.now() else None


def _renew(account: Account, session: Session | None) -> Json:
    if session is None or session.closed_reason is not None:
        return _GONE
    now = account.now()
    if session.master_until <= now:
        return _MASTER_EXPIRED
    session.token, session.master = account.mint("session"), account.mint("master")
    session.token_until, session.master_until = now + SESSION_LIFE, now + MASTER_LIFE
    return success(
        {
            "sessionToken": session.token,
            "validityInSecondsST": _seconds(SESSION_LIFE),
            "masterToken": session.master,
            "validityInSecondsMT": _seconds(MASTER_LIFE),
            "sessionId": session.id,
        }
    )


def _seconds(life: timedelta) -> int:
    return int(life.total_seconds())


def _token() -> str:
    """The token between the quotes of `Authorization: Snowflake Token="..."`."""
    return request.headers.get("Authorization", "").partition('Token="')[2].rstrip('"')


def _body() -> Json:
    """The JSON body, gzipped by drivers 3.x and 4.x and plain from 5.x."""
    raw = request.get_data()
    try:
        if request.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        value = json.loads(raw or b"{}")
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
