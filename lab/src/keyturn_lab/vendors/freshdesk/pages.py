"""Freshdesk's pages for people, as plain forms a script can send; the vendor has no API for any of this."""

from typing import Any

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.freshdesk.state import CAPTCHA, Agent, Desk

LOGIN = """<form method="post"><p><label>Email <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>Sign in</button></form>{% if wrong %}<p role="alert">Wrong email or password.</p>{% endif %}"""
PROFILE = """<p>Signed in as <b>{{ agent.email }}</b> ({{ agent.role }})
<p><a href="{{ url_for('pages.view_key') }}">View API key</a>
{% if agent.role == 'admin' %}<p><a href="{{ url_for('pages.admin_agents') }}">Admin: Agents</a>{% endif %}"""
CAPTCHA_FORM = """<form method="post"><p>Captcha: type <b>{{ captcha }}</b>
<input name="captcha"> <button>Show API key</button></form>"""
KEY = """<p>Your API key: <code id="api-key">{{ value }}</code>
<form method="post" action="{{ url_for('pages.reset_key') }}"><p><label><input type="checkbox" name="confirm"
value="yes"> The old key stops working at once for every app that uses it</label>
<p><button>Reset API Key</button></form>"""
AGENTS = """<ul>{% for each in agents %}<li>{{ each.name }} ({{ each.email }}, {{ each.role }})
<form method="post" action="{{ url_for('pages.deactivate_agent', agent_id=each.id) }}">
<button>{{ 'Deactivate agent' if each.is_active else 'Reactivate agent' }}</button></form>{% endfor %}</ul>
<form method="post"><p><input name="email" placeholder="Email"> <input name="name" placeholder="Name">
<button>New agent</button></form>"""
ACTIVATE = """<form method="post"><p><label>Choose a password <input name="password" type="password"></label>
<p><button>Activate</button></form>"""
SAY = "<p>{{ text }}"


def pages(desk: Desk, tenant: Any) -> Blueprint:
    """The blueprint; `tenant` is a function naming the tenant the request addresses."""
    routes = Blueprint(PAGES, __name__)

    def me() -> Agent | None:
        agent = desk.agent(tenant(), session.get("agent", 0))
        return agent if agent is not None and agent.may_log_in() else None

    def my_key(agent: Agent) -> str:
        if not agent.keys:
            return page("API key", SAY, text="Verify your email address to get an API key.")
        return page("API key", KEY, value=agent.keys[-1].value)

    def login_page() -> Response:
        return redirect(url_for("pages.sign_in"))

    @routes.get("/")
    def front() -> Response:
        return login_page()

    @routes.route("/support/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return page("Sign in", LOGIN)
        agent = desk.agent_by_email(tenant(), request.form.get("email", ""))
        if agent is None or not agent.may_log_in() or request.form.get("password") != agent.password:
            return page("Sign in", LOGIN, wrong=True), 401
        session["agent"] = agent.id
        return redirect(url_for("pages.profile"))

    @routes.get("/a/profiles/settings")
    def profile() -> str | Response:
        agent = me()
        return page("Profile Settings", PROFILE, agent=agent) if agent else login_page()

    @routes.route("/a/profiles/api_key", methods=["GET", "POST"])
    def view_key() -> str | Response:
        agent = me()
        if agent is None:
            return login_page()
        if request.form.get("captcha", "").upper() != CAPTCHA:
            return page("View API key", CAPTCHA_FORM, captcha=CAPTCHA)
        session["captcha"] = True
        return my_key(agent)

    @routes.post("/a/profiles/api_key/reset")
    def reset_key() -> str | Response | tuple[str, int]:
        agent = me()
        if agent is None:
            return login_page()
        if not session.get("captcha"):
            return redirect(url_for("pages.view_key"))
        if request.form.get("confirm") != "yes":
            return page("Reset API Key", SAY, text="Tick the box to confirm the reset."), 422
        if meets(Kind.REFUSE_VALUE):
            return page("Reset API Key", SAY, text="The API key can't be reset at the moment."), 422
        desk.reset_key(agent)
        return my_key(agent)

    @routes.route("/a/admin/agents", methods=["GET", "POST"])
    def admin_agents() -> str | Response | tuple[str, int]:
        agent = me()
        if agent is None:
            return login_page()
        if agent.role != "admin":
            return page("Agents", SAY, text="You are not authorized to see this page."), 403
        if request.method == "POST":
            new = desk.add_agent(tenant(), request.form["email"], request.form["name"])
            link = url_for("pages.activate", agent_id=new.id)
            return page("Agents", '<p>Activation mail: <a href="{{ link }}">{{ link }}</a>', link=link)
        return page("Agents", AGENTS, agents=desk.agents(tenant()))

    @routes.post("/a/admin/agents/<int:agent_id>/deactivate")
    def deactivate_agent(agent_id: int) -> Response | tuple[str, int]:
        agent, target = me(), desk.agent(tenant(), agent_id)
        if agent is None or agent.role != "admin" or target is None:
            return page("Agents", SAY, text="You are not authorized to do this."), 403
        desk.set_active(target, is_active=not target.is_active)
        return redirect(url_for("pages.admin_agents"))

    @routes.route("/register/<int:agent_id>", methods=["GET", "POST"])
    def activate(agent_id: int) -> str | Response | tuple[str, int]:
        agent = desk.agent(tenant(), agent_id)
        if agent is None or agent.is_verified:
            return page("Activation", SAY, text="This link was used already."), 404
        if request.method == "GET":
            return page("Activation", ACTIVATE)
        desk.activate(agent, request.form["password"])
        return login_page()

    return routes
