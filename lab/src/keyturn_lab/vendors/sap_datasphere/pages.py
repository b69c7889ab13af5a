"""The tenant's pages for people: login, a space's database users, Request New Password."""

from urllib.parse import urlsplit

from flask import Blueprint, redirect, request, session
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.standin import PAGES, page
from keyturn_lab.vendors.sap_datasphere.state import Tenant

ADMIN = "space.admin@acme.example"
LOGIN = """<form method="post"><p><label>E-Mail <input name="email"></label>
<p><label>Password <input name="password" type="password"></label>
<input type="hidden" name="continue" value="{{ wanted }}"><p><button>Continue</button></form>"""
USERS = """{% for each in users %}<h2>{{ each.name }}</h2><p>Active<form method="post">
<button name="request" value="{{ each.name }}">Request New Password</button></form>{% endfor %}
{% if shown %}<p>Password <code id="password">{{ shown }}</code>{% endif %}"""


def pages(tenant: Tenant) -> Blueprint:
    """The blueprint over one tenant."""
    routes = Blueprint(PAGES, __name__)

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        wanted = urlsplit(request.values.get("continue", "/")).path
        if request.method == "GET":
            return page("Sign In", LOGIN, wanted=wanted)
        if request.form.get("email") != ADMIN or request.form.get("password") != DEMO_PASSWORD:
            return page("Sign In", LOGIN, wanted=wanted), 401
        session["who"] = ADMIN
        return redirect(wanted)

    @routes.route("/spaces/<space>/database-users", methods=["GET", "POST"])
    def database_users(space: str) -> str | Response:
        if session.get("who") != ADMIN:
            return redirect(f"/login?continue={request.path}")
        shown = ""
        user = tenant.known(request.form.get("request", ""))
        if user is not None and user.space == space:
            shown = tenant.request_password(user)
        users = [each for each in tenant.users.values() if each.space == space]
        return page("Database Users", USERS, users=users, shown=shown)

    return routes
