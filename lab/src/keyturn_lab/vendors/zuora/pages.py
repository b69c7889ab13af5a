"""Zuora's pages for people: Manage Users with each user's OAuth clients, and the OneID list of clients."""

from collections.abc import Callable

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.zuora.state import Billing, Client, User

LOGIN = """<form method="post"><p><label>User name <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>Sign in</button></form>{% if wrong %}<p role="alert">Wrong user name or password.</p>{% endif %}"""
USERS = """<p>Administration &rsaquo; Manage Users<ul>{% for each in users %}
<li><a href="{{ url_for('pages.user', email=each.email) }}">{{ each.email }}</a></li>{% endfor %}</ul>"""
USER = """<p>{{ user.email }}: {{ 'Active' if user.is_active else 'Deactivated' }}
<form method="post" action="{{ url_for('pages.set_active', email=user.email) }}">
<button name="confirm" value="yes">{{ 'Deactivate User' if user.is_active else 'Reactivate user' }}</button></form>
<h2>OAuth Clients</h2><table>{% for each in clients %}<tr><td>{{ each.name }}</td><td>{{ each.id }}</td>
<td><a href="{{ url_for('pages.delete_client', email=user.email, client_id=each.id) }}">Delete</a></td></tr>
{% endfor %}</table><h2>New OAuth Clients</h2>
<form method="post"><p><label>Name <input name="name"></label> <button>Create</button></form>"""
CREATED = """<p>{{ client.name }}<p>Client ID: <code id="client-id">{{ client.id }}</code>
<p>Client Secret: <code id="client-secret">{{ client.secret }}</code>
<p>Copy both now: the secret will not be shown again. <a href="{{ back }}">OK</a>"""
DELETE = """<p>Delete the OAuth client {{ client.name }} ({{ client.id }})?
<form method="post"><button name="confirm" value="yes">Delete</button></form>"""
SAY = '<p role="alert">{{ text }}'


def pages(billing: Billing, host: Callable[[], str]) -> Blueprint:
    """The blueprint; `host` names the data centre the request addresses. Pages belong to administrators."""
    routes = Blueprint(PAGES, __name__)

    def administrator() -> User | None:
        user = billing.user(session.get("user", ""))
        return user if user is not None and user.is_active and "users" in user.may else None

    def target(email: str) -> User | None:
        user = billing.user(email)
        return user if user is not None and user.tenant.host == host() else None

    def turned_away() -> Response:
        return redirect(url_for("pages.sign_in"))

    def nobody() -> tuple[str, int]:
        return page("Manage Users", SAY, text="There is no such user."), 404

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return page("Sign in", LOGIN)
        user = target(request.form.get("email", ""))
        if user is None or not user.is_active or request.form.get("password") != DEMO_PASSWORD:
            return page("Sign in", LOGIN, wrong=True), 401
        session["user"] = user.email
        return redirect(url_for("pages.users"))

    @routes.get("/apps/UserList")
    def users() -> str | Response | tuple[str, int]:
        who = billing.user(session.get("user", ""))
        if who is None:
            return turned_away()
        if administrator() is None:
            return page("Manage Users", SAY, text="Only an administrator may open this page."), 403
        return page("Manage Users", USERS, users=billing.users(host()))

    @routes.route("/apps/UserList/<email>", methods=["GET", "POST"])
    def user(email: str) -> str | Response | tuple[str, int]:
        if administrator() is None:
            return turned_away()
        return _list_or_create(email, is_one_id=False)

    @routes.route("/settings/oauth2-clients/<email>", methods=["GET", "POST"])
    def one_id(email: str) -> str | Response | tuple[str, int]:
        """OneID keeps its clients apart; here an administrator sees them by user."""
        if administrator() is None:
            return turned_away()
        return _list_or_create(email, is_one_id=True)

    def _list_or_create(email: str, *, is_one_id: bool) -> str | tuple[str, int]:
        found = target(email)
        if found is None:
            return nobody()
        if request.method == "GET":
            listed = [each for each in found.listed_clients() if each.is_one_id is is_one_id]
            return page(found.email, USER, user=found, clients=listed)
        name = request.form.get("name", "").strip()
        if not found.is_active or not name or meets(Kind.REFUSE_VALUE):
            return page("New OAuth Clients", SAY, text="The client was not created."), 422
        made = billing.add_client(found, name, is_one_id=is_one_id)
        return page("New OAuth Clients", CREATED, client=made, back=request.url)

    @routes.route("/apps/UserList/<email>/clients/<client_id>/delete", methods=["GET", "POST"])
    def delete_client(email: str, client_id: str) -> str | Response | tuple[str, int]:
        if administrator() is None:
            return turned_away()
        found = target(email)
        client = _of(found, client_id)
        if found is None or client is None:
            return page("OAuth Clients", SAY, text="This client no longer exists."), 404
        if request.method == "GET" or request.form.get("confirm") != "yes":
            return page("Delete OAuth client", DELETE, client=client)
        billing.delete_client(client)
        return redirect(url_for("pages.user", email=email))

    @routes.post("/apps/UserList/<email>/active")
    def set_active(email: str) -> Response | tuple[str, int]:
        if administrator() is None:
            return turned_away()
        found = target(email)
        if found is None:
            return nobody()
        if request.form.get("confirm") == "yes":
            billing.set_active(found, is_active=not found.is_active)
        return redirect(url_for("pages.user", email=email))

    return routes


def _of(user: User | None, client_id: str) -> Client | None:
    return next((each for each in user.listed_clients() if each.id == client_id), None) if user else None
