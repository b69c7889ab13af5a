"""Aha!'s pages for people: personal settings with API keys, OAuth applications, consent and the users list."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.aha.state import Roadmaps, User

LOGIN = """<form method="post"><p><label>Email <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>Sign in</button></form>{% if wrong %}<p role="alert">Wrong email or password.</p>{% endif %}"""
KEYS = """<p>Settings &rsaquo; Personal &rsaquo; Developer &rsaquo; API keys. Signed in as {{ user.email }}.
<table>{% for key in keys %}<tr><td>{{ key.name }}</td><td>{{ day(key.created_at) }}</td>
<td><a href="{{ url_for('pages.delete_key', key_id=key.id) }}">Delete</a></td></tr>{% endfor %}</table>
<form method="post"><p><label>Name <input name="name"></label> <button>Generate API key</button></form>
<p><a href="{{ url_for('pages.applications') }}">OAuth applications</a>
{% if user.is_admin %}<p><a href="{{ url_for('pages.users') }}">Account users</a>{% endif %}"""
NEW_KEY = """<p>{{ key.name }}: <code id="api-key">{{ key.value }}</code>
<p>Copy it now: it will not be shown again. <a href="{{ url_for('pages.api_keys') }}">Back</a>"""
DELETE = """<p>Delete the key {{ key.name }}? Whoever uses it will be refused.
<form method="post"><button name="confirm" value="yes">Delete</button></form>"""
APPS = """<ul>{% for app in apps %}<li>{{ app.name }} ({{ app.redirect_uri }})
<form method="post" action="{{ url_for('pages.withdraw', client_id=app.client_id) }}">
<button>Withdraw my consent</button></form>{% endfor %}</ul>
<form method="post"><p><input name="name" placeholder="Name"> <input name="redirect_uri" placeholder="Redirect URI">
<button>Create</button></form>"""
NEW_APP = """<p>Client ID: <code id="client-id">{{ app.client_id }}</code>
<p>Secret: <code id="client-secret">{{ app.client_secret }}</code>"""
USERS = """<ul>{% for each in users %}<li>{{ each.name }} ({{ each.email }})
<form method="post" action="{{ url_for('pages.disable_user', user_id=each.id) }}">
<button>{{ 'Disable' if each.is_enabled else 'Enable' }}</button></form>{% endfor %}</ul>"""
CONSENT = """<p>{{ app.name }} wants to use your Aha! account {{ user.email }}.
<form method="post"><button name="decision" value="allow">Authorize</button>
<button name="decision" value="deny">Deny</button></form>"""
SAY = '<p role="alert">{{ text }}'


def pages(roadmaps: Roadmaps, account: Callable[[], str]) -> Blueprint:
    """The blueprint; `account` names the account the request addresses."""
    routes = Blueprint(PAGES, __name__)

    def me() -> User | None:
        user = roadmaps.user(account(), session.get("user", ""))
        return user if user is not None and user.is_enabled else None

    def login_page() -> Response:
        session["wanted"] = request.full_path
        return redirect(url_for("pages.sign_in"))

    @routes.get("/")
    def front() -> Response:
        return redirect(url_for("pages.api_keys"))

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return page("Sign in", LOGIN)
        user = roadmaps.user_by_email(account(), request.form.get("email", ""))
        if user is None or not user.is_enabled or request.form.get("password") != DEMO_PASSWORD:
            return page("Sign in", LOGIN, wrong=True), 401
        session["user"] = user.id
        return redirect(session.pop("wanted", None) or url_for("pages.api_keys"))

    @routes.get("/settings/api_keys")
    def api_keys() -> str | Response:
        user = me()
        if user is None:
            return login_page()
        return page("API keys", KEYS, user=user, keys=user.listed_keys(), day=_day)

    @routes.post("/settings/api_keys")
    def generate_key() -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        name = request.form.get("name", "").strip()
        if not name or meets(Kind.REFUSE_VALUE):
            return page("API keys", SAY, text="The name is not acceptable."), 422
        return page("New API key", NEW_KEY, key=roadmaps.generate_key(user, name))

    @routes.route("/settings/api_keys/<int:key_id>/delete", methods=["GET", "POST"])
    def delete_key(key_id: int) -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        key = next((each for each in user.listed_keys() if each.id == key_id), None)
        if key is None:
            return page("API keys", SAY, text="This key no longer exists."), 404
        if request.method == "GET" or request.form.get("confirm") != "yes":
            return page("Delete API key", DELETE, key=key)
        roadmaps.delete_key(user, key)
        return redirect(url_for("pages.api_keys"))

    @routes.route("/oauth/applications", methods=["GET", "POST"])
    def applications() -> str | Response:
        if me() is None:
            return login_page()
        if request.method == "POST":
            app = roadmaps.register_app(request.form["name"], request.form["redirect_uri"])
            return page("OAuth application", NEW_APP, app=app)
        return page("OAuth applications", APPS, apps=list(roadmaps.apps.values()))

    @routes.post("/oauth/applications/<client_id>/withdraw")
    def withdraw(client_id: str) -> Response:
        user = me()
        if user is None:
            return login_page()
        roadmaps.withdraw(client_id, user=user)
        return redirect(url_for("pages.applications"))

    @routes.route("/oauth/authorize", methods=["GET", "POST"])
    def authorize() -> str | Response | tuple[str, int]:
        app = roadmaps.apps.get(request.args.get("client_id", ""))
        if app is None or request.args.get("redirect_uri") != app.redirect_uri:
            return page("Authorize", SAY, text="The redirect URI or the client is not valid."), 400
        user = me()
        if user is None:
            return login_page()
        if request.args.get("response_type") != "code":
            return _back(app.redirect_uri, {"error": "unsupported_response_type"})
        if request.method == "GET":
            return page("Authorize", CONSENT, app=app, user=user)
        if request.form.get("decision") != "allow":
            return _back(app.redirect_uri, {"error": "access_denied"})
        return _back(app.redirect_uri, {"code": roadmaps.grant(user, app)})

    @routes.get("/settings/account/users")
    def users() -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        if not user.is_admin:
            return page("Users", SAY, text="Only an administrator sees this page."), 403
        return page("Users", USERS, users=roadmaps.users(account()))

    @routes.post("/settings/account/users/<user_id>/disable")
    def disable_user(user_id: str) -> Response | tuple[str, int]:
        user, target = me(), roadmaps.user(account(), user_id)
        if user is None or not user.is_admin or target is None:
            return page("Users", SAY, text="Only an administrator may do this."), 403
        roadmaps.set_enabled(target, is_enabled=not target.is_enabled)
        return redirect(url_for("pages.users"))

    return routes


def _back(redirect_uri: str, facts: dict[str, str]) -> Response:
    """Send the browser to the app with the answer, and with `state` exactly as it came."""
    if "state" in request.args:
        facts["state"] = request.args["state"]
    return redirect(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(facts)}")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d")
