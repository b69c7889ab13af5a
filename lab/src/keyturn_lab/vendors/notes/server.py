"""The API of Acme Notes, and the one page of its administrator: sets or takes a password, makes a key by hand."""

from flask import Blueprint, Flask, Response, abort, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import PAGES, Stage, build_app, meets, page
from keyturn_lab.vendors.notes.state import Notebook

INCIDENTS = ("Slow searches", "Late mails", "Moved to new disks")
NOTES = ("Buy milk", "Water the plants", "Call the bank")
FORM = """<form method="post"><p><label>Administrator's password <input name="administrator" type="password"></label>
<p><label>Account <input name="account"></label> <button name="do" value="set">New password</button>
<button name="do" value="block">Block the user</button> <button name="do" value="key">New key</button></form>"""
SHOWN = '<p>robot@{{ account }}: <code id="password">{{ password }}</code>'
KEY = '<p>{{ key.name }}, id <code id="key-id">{{ key.id }}</code>: <code id="key">{{ key.secret }}</code>'
BLOCKED = "<p>robot@{{ account }} cannot sign in any more."


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """Two accounts, each with a password and a key."""
    clock = clock or Clock()
    quirks = Quirks(seed)
    notebook = Notebook(clock, quirks)
    app = build_app(Stage("notes", notebook, throttled=_throttled, quirks=quirks, clock=clock))
    app.register_blueprint(_pages(notebook))

    def account() -> str | None:
        basic = request.authorization
        if basic is not None and basic.type == "basic":
            found = notebook.by_password(basic.username or "", basic.password or "")
        else:
            found = notebook.by_key(request.headers.get("X-Api-Key", ""))
        if found is not None and meets(Kind.WRONG_IDENTITY):
            return next(each for each in notebook.accounts if each != found)
        return found

    @app.get("/v1/status")
    def status() -> Response:
        return jsonify(service="notes", status="ok")

    @app.get("/v1/incidents")
    def incidents() -> Response:
        most = min(request.args.get("per_page", 20, type=int), 20)
        return jsonify(incidents=[{"id": n, "title": text} for n, text in enumerate(INCIDENTS[:most], 1)])

    @app.get("/v1/me")
    def me() -> Response:
        found = account()
        return jsonify(account=found) if found else _refuse(401, "not signed in")

    @app.get("/v1/notes")
    def notes() -> Response:
        if account() is None:
            return _refuse(401, "not signed in")
        most = min(request.args.get("per_page", 20, type=int), 20)
        return jsonify(notes=[{"id": n, "text": text} for n, text in enumerate(NOTES[:most], 1)])

    @app.get("/v1/keys")
    def list_keys() -> Response:
        found = account()
        if found is None:
            return _refuse(401, "not signed in")
        return jsonify(
            keys=[{"id": k.id, "name": k.name, "created_at": k.born_at} for k in notebook.keys(found)]
        )

    @app.post("/v1/keys")
    def make_key() -> Response:
        found = account()
        if found is None:
            return _refuse(401, "not signed in")
        if meets(Kind.REFUSE_VALUE):
            return _refuse(422, "that name is not acceptable")
        key = notebook.make_key(found, str((request.get_json(silent=True) or {}).get("name", "")))
        answer = jsonify(id=key.id, name=key.name, secret=key.secret)
        answer.status_code = 201
        return answer

    @app.delete("/v1/keys/<key_id>")
    def end_key(key_id: str) -> Response:
        found = account()
        if found is None:
            return _refuse(401, "not signed in")
        return Response(status=204) if notebook.end_key(found, key_id) else _refuse(404, "no such key")

    return app


def _pages(notebook: Notebook) -> Blueprint:
    routes = Blueprint(PAGES, __name__)

    @routes.route("/admin", methods=["GET", "POST"])
    def admin() -> str:
        if request.method == "GET":
            return page("Users", FORM)
        account = request.form.get("account", "")
        if request.form.get("administrator") != DEMO_PASSWORD or account not in notebook.accounts:
            abort(403)
        if request.form.get("do") == "block":
            notebook.block(account)
            return page("Blocked", BLOCKED, account=account)
        if request.form.get("do") == "key":
            return page("New key", KEY, key=notebook.make_key(account, "made by hand"))
        return page("New password", SHOWN, account=account, password=notebook.set_password(account))

    return routes


def _refuse(status: int, message: str) -> Response:
    answer = jsonify(error=message)
    answer.status_code = status
    return answer


def _throttled() -> Response:
    answer = _refuse(429, "too many requests")
    answer.headers["Retry-After"] = "1"
    return answer
