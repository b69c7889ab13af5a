"""The administrator's page of the pretended Ecosystems: an account's keys, a new one, an end."""

from flask import Blueprint, abort, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.ecosystem.state import Platform

LOGIN = """<form method="post"><p><label>Password <input name="password" type="password"></label>
<p><button>Sign in</button></form>{% if wrong %}<p role="alert">Wrong password.</p>{% endif %}"""
KEYS = """<table>{% for key in keys %}<tr><td>{{ key.name }}</td><td><form method="post"
action="{{ url_for('pages.end_key', account=account, key_id=key.id) }}"><button>End</button></form></td></tr>
{% endfor %}</table><form method="post"><p><label>Name <input name="name"></label> <button>New key</button></form>"""
SHOWN = '<p>{{ key.name }}: <code id="access-key">{{ key.value }}</code>'
SAY = '<p role="alert">{{ text }}'


def pages(platform: Platform) -> Blueprint:
    """The blueprint; one administrator serves all accounts."""
    routes = Blueprint(PAGES, __name__)

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "POST" and request.form.get("password") != DEMO_PASSWORD:
            return page("Sign in", LOGIN, wrong=True), 401
        if request.method == "GET":
            return page("Sign in", LOGIN)
        session["administrator"] = True
        return redirect(url_for("pages.keys", account=platform.accounts[0]))

    @routes.route("/accounts/<account>/keys", methods=["GET", "POST"])
    def keys(account: str) -> str | Response | tuple[str, int]:
        if not session.get("administrator"):
            return redirect(url_for("pages.sign_in"))
        if account not in platform.accounts:
            abort(404)
        if request.method == "GET":
            return page("Keys", KEYS, account=account, keys=platform.keys(account))
        name = request.form.get("name", "").strip()
        if not name or meets(Kind.REFUSE_VALUE):
            return page("Keys", SAY, text="The name is not acceptable."), 422
        return page("New key", SHOWN, key=platform.make(account, name))

    @routes.post("/accounts/<account>/keys/<int:key_id>/end")
    def end_key(account: str, key_id: int) -> Response:
        key = next((each for each in platform.keys(account) if each.id == key_id), None)
        if not session.get("administrator") or key is None:
            abort(404)
        platform.end(key)
        return redirect(url_for("pages.keys", account=account))

    return routes
