"""The instance's pages for people: login, Allow or Deny, the application registry and the token list."""

from urllib.parse import urlencode, urlsplit

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.standin import PAGES, page
from keyturn_lab.vendors.servicenow.state import Instance, User

LOGIN = """<form method="post"><p><label>User name <input name="user_name"></label>
<p><label>Password <input name="user_password" type="password"></label>
<input type="hidden" name="continue" value="{{ wanted }}"><p><button>Log in</button></form>
{% if wrong %}<p role="alert">User name or password invalid{% endif %}"""
CONSENT = """<p>{{ entry.name }} would like to connect to your ServiceNow account ({{ user.user_name }}).
<form method="post"><button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>"""
REGISTRY = """<table>{% for each in entries %}<tr><td>{{ each.name }}</td><td>{{ each.client_id }}</td>
<td><a href="{{ url_for('pages.entry', sys_id=each.sys_id) }}">Open</a></td></tr>{% endfor %}</table>
<form method="post"><p><label>Name <input name="name"></label> <label>Redirect URL <input name="redirect_url"></label>
<p><button>Submit</button></form>"""
ENTRY = """<p>Client ID <code id="client-id">{{ entry.client_id }}</code>
<p>Client Secret <code id="client-secret">{{ entry.client_secret }}</code>
<h2>Related tokens</h2><table>{% for each in tokens %}<tr><td>{{ each.type }}</td><td>{{ each.user.user_name }}</td>
<td><form method="post"><button name="revoke" value="{{ each.sys_id }}">Revoke Access</button></form></td></tr>
{% endfor %}</table><form method="post"><button name="delete" value="yes">Delete</button></form>"""
SAY = '<p role="alert">{{ text }}'


def pages(instance: Instance) -> Blueprint:
    """The blueprint over one instance."""
    routes = Blueprint(PAGES, __name__)

    def me() -> User | None:
        return instance.users.get(session.get("user", ""))

    def login_page() -> Response:
        return redirect(f"{url_for('pages.sign_in')}?{urlencode({'continue': request.full_path})}")

    @routes.route("/login.do", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        wanted = _here(request.values.get("continue", "/oauth_entity_list.do"))
        if request.method == "GET":
            return page("Log in", LOGIN, wanted=wanted)
        user = instance.users.get(request.form.get("user_name", ""))
        if user is None or request.form.get("user_password") != user.password:
            return page("Log in", LOGIN, wanted=wanted, wrong=True), 401
        session["user"] = user.user_name
        return redirect(wanted)

    @routes.route("/oauth_auth.do", methods=["GET", "POST"])
    def authorize() -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        asked = request.args
        if instance.settings.state_required and not asked.get("state"):
            return page("Error", SAY, text="Missing State parameter in request"), 400
        entry = instance.client(asked.get("client_id", ""))
        if entry is None or asked.get("response_type") != "code":
            return page("Error", SAY, text="Invalid client_id or response_type"), 400
        challenge = asked.get("code_challenge", "")
        if entry.is_public and (not challenge or asked.get("code_challenge_method") != "S256"):
            return page("Error", SAY, text="code_challenge is required"), 400
        wanted = asked.get("redirect_uri", "")
        # What is not registered is not refused: the code goes to the first address of the entry.
        target = wanted if wanted in entry.callbacks else (entry.callbacks or [""])[0]
        if request.method == "GET":
            return page("Connect", CONSENT, entry=entry, user=user)
        facts = {"state": asked["state"]} if "state" in asked else {}
        if request.form.get("decision") == "allow":
            facts["code"] = instance.consent(entry, user, target, challenge if entry.is_public else "")
        else:
            facts["error"] = "access_denied"
        return redirect(f"{target}{'&' if '?' in target else '?'}{urlencode(facts)}")

    @routes.route("/oauth_entity_list.do", methods=["GET", "POST"])
    def registry() -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        if not user.is_admin:
            return page("Application Registry", SAY, text="Security constraints prevent access."), 403
        if request.method == "POST":
            made = instance.add(request.form["name"], redirect_url=request.form["redirect_url"])
            made.created_by = user.user_name
            return redirect(url_for("pages.entry", sys_id=made.sys_id))
        return page("Application Registry", REGISTRY, entries=instance.listed())

    @routes.route("/oauth_entity.do", methods=["GET", "POST"])
    def entry() -> str | Response | tuple[str, int]:
        user = me()
        if user is None:
            return login_page()
        found = instance.entries.get(request.args.get("sys_id", ""))
        if not user.is_admin or found is None or found.life.is_doomed():
            return page("Application Registry", SAY, text="Record not found"), 404
        tokens = [each for each in instance.tokens if each.entry is found]
        if "revoke" in request.form:
            for token in tokens:
                if token.sys_id == request.form["revoke"]:
                    instance.end_token(token)
        if "delete" in request.form:
            instance.delete(found)
            return redirect(url_for("pages.registry"))
        return page("Application Registry", ENTRY, entry=found, tokens=tokens)

    return routes


def _here(address: str) -> str:
    """The path and query of an address, so that a login can't forward to another site."""
    parts = urlsplit(address)
    return f"/{parts.path.lstrip('/')}?{parts.query}"
