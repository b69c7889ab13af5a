"""Mixpanel's pages for people: the organization's and a project's service accounts, and a project's access keys."""

from flask import Blueprint, abort, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.standin import PAGES, page
from keyturn_lab.vendors.mixpanel.state import ACME, ROLES, Analytics, Project

OWNER = "owner@acme.example"
LOGIN = """<form method="post"><p><label>Email <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>Log in</button></form>{% if wrong %}<p role="alert">Wrong email or password.</p>{% endif %}"""
ACCOUNTS = """<table>{% for each in accounts %}<tr><td>{{ each.username }}</td><td>{{ each.role }}</td><td>
<form method="post" action="{{ url_for('pages.delete', number=each.id) }}"><button name="confirm" value="yes">Delete</button>
</form></td></tr>{% endfor %}</table>
<form method="post"><p><input name="name" placeholder="Name"> <select name="role">
{% for role in roles %}<option>{{ role }}</option>{% endfor %}</select>
{% for each in projects %}<label><input type="checkbox" name="project" value="{{ each.id }}">{{ each.name }}</label>{% endfor %}
<button>Add Service Account</button></form>"""
MADE = """<p>Username: <code id="username">{{ account.username }}</code>
<p>Secret: <code id="secret">{{ account.value }}</code><p>This secret is not shown again."""
MEMBERS = """<ul>{% for each in accounts %}<li>{{ each.username }} <form method="post">
<button name="remove" value="{{ each.id }}">Remove</button></form>{% endfor %}</ul>"""
KEYS = """<p>Project token: <code>{{ project.token }}</code>
<p>API secret: <code id="api-secret">{{ project.secret }}</code> (retired on 3 March 2027)
<form method="post"><button name="reset" value="yes">Reset</button></form>"""


def pages(world: Analytics) -> Blueprint:
    """The blueprint; one owner of the first organization may sign in."""
    routes = Blueprint(PAGES, __name__)

    @routes.before_request
    def wall() -> Response | None:
        if session.get("person") != OWNER and request.endpoint != "pages.sign_in":
            return redirect(url_for("pages.sign_in"))
        return None

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return page("Log in", LOGIN)
        if (request.form.get("email"), request.form.get("password")) != (OWNER, DEMO_PASSWORD):
            return page("Log in", LOGIN, wrong=True), 401
        session["person"] = OWNER
        return redirect(url_for("pages.accounts"))

    @routes.route("/settings/org", methods=["GET", "POST"])
    def accounts() -> str | tuple[str, int]:
        mine = [p for p in world.projects.values() if p.organization == ACME]
        if request.method == "GET":
            return page("Service Accounts", ACCOUNTS, accounts=world.listed(ACME), roles=ROLES, projects=mine)
        name, role = request.form.get("name", ""), request.form.get("role", "consumer")
        if not name or role not in ROLES:
            return page("Service Accounts", "<p role='alert'>A name and a role are needed."), 422
        wanted = {int(each): role for each in request.form.getlist("project")}
        return page("Service account created", MADE, account=world.add(ACME, name, role, wanted))

    @routes.post("/settings/org/service-accounts/<int:number>/delete")
    def delete(number: int) -> Response:
        account = world.find(ACME, number)
        if account is None:
            abort(404)
        if request.form.get("confirm") == "yes":
            world.delete(account)
        return redirect(url_for("pages.accounts"))

    def project(number: int) -> Project:
        found = world.projects.get(number)
        if found is None or found.organization != ACME:
            abort(404)
        return found

    @routes.route("/settings/project/<int:number>/service-accounts", methods=["GET", "POST"])
    def members(number: int) -> str:
        """Removing one here leaves the credential alive."""
        here = project(number)
        if request.method == "POST":
            account = world.find(ACME, request.form.get("remove", 0, type=int))
            if account is not None:
                world.leave(account, here.id)
        inside = [a for a in world.listed(ACME) if here.id in a.members]
        return page(f"{here.name}: Service Accounts", MEMBERS, accounts=inside)

    @routes.route("/settings/project/<int:number>/access-keys", methods=["GET", "POST"])
    def keys(number: int) -> str:
        here = project(number)
        if request.method == "POST" and request.form.get("reset") == "yes":
            world.reset_secret(here)
        return page(f"{here.name}: Access Keys", KEYS, project=here)

    return routes
