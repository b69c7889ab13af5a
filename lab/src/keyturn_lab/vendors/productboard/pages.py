"""Productboard's pages for people: public API access tokens of the workspace, members, and the consent to an app."""

from urllib.parse import urlencode

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.productboard.state import SCOPES, Boards, Member

LOGIN = """<form method="post"><p><label>Email <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button>Sign in</button></form>{% if wrong %}<p role="alert">Wrong email or password.</p>{% endif %}"""
TOKENS = """<p>Settings &rsaquo; Integrations &rsaquo; Public APIs &rsaquo; Access Token. Signed in as {{ member.email }}.
<table>{% for each in tokens %}<tr><td>{{ each.name }}</td><td>{{ each.member.email }}</td>
<td><a href="{{ url_for('pages.delete_token', token_id=each.id) }}">Delete</a></td></tr>{% endfor %}</table>
<form method="post"><p><label>Name <input name="name"></label> <button>+</button></form>
<p><a href="{{ url_for('pages.members') }}">Members</a>"""
NEW_TOKEN = """<p>{{ token.name }}: <code id="access-token">{{ token.value }}</code>
<p>Copy it now: it will not be shown again. <a href="{{ url_for('pages.access_tokens') }}">Back</a>"""
DELETE = """<p>Delete the access token {{ token.name }}? Whoever uses it will be refused.
<form method="post"><button name="confirm" value="yes">Delete</button></form>"""
MEMBERS = """<ul>{% for each in members %}<li>{{ each.email }}: {{ each.role }}
<form method="post" action="{{ url_for('pages.change_member', member_id=each.id) }}">
<button name="change" value="{{ 'maker' if each.role == 'admin' else 'admin' }}">Change role</button>
<button name="change" value="disabled">{{ 'Enable' if each.is_disabled else 'Disable' }}</button></form>
{% endfor %}</ul>"""
CONSENT = """<p>The application {{ app.client_id }} asks for {{ scope }} in {{ member.workspace }}.
<form method="post"><button name="decision" value="allow">Authorize</button>
<button name="decision" value="deny">Deny</button></form>"""
SAY = '<p role="alert">{{ text }}'


def pages(boards: Boards) -> Blueprint:
    """The blueprint. Who is signed in decides the workspace; most pages belong to its administrators."""
    routes = Blueprint(PAGES, __name__)

    def me() -> Member | None:
        member = boards.member(session.get("member", ""))
        return member if member is not None and not member.is_disabled else None

    def turned_away() -> Response | tuple[str, int]:
        if me() is None:
            session["wanted"] = request.full_path
            return redirect(url_for("pages.sign_in"))
        return page("Settings", SAY, text="Only an administrator may open this page."), 403

    def administrator() -> Member | None:
        member = me()
        return member if member is not None and member.role == "admin" else None

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        if request.method == "GET":
            return page("Sign in", LOGIN)
        member = boards.member(request.form.get("email", ""))
        if member is None or member.is_disabled or request.form.get("password") != DEMO_PASSWORD:
            return page("Sign in", LOGIN, wrong=True), 401
        session["member"] = member.email
        return redirect(session.pop("wanted", None) or url_for("pages.access_tokens"))

    @routes.get("/settings/integrations/public-api")
    def access_tokens() -> str | Response | tuple[str, int]:
        member = administrator()
        if member is None:
            return turned_away()
        return page("Access tokens", TOKENS, member=member, tokens=boards.tokens(member.workspace))

    @routes.post("/settings/integrations/public-api")
    def add_token() -> str | Response | tuple[str, int]:
        member = administrator()
        if member is None:
            return turned_away()
        name = request.form.get("name", "").strip()
        if not name or meets(Kind.REFUSE_VALUE):
            return page("Access tokens", SAY, text="The name is not acceptable."), 422
        return page("New access token", NEW_TOKEN, token=boards.add_token(member, name))

    @routes.route("/settings/integrations/public-api/<int:token_id>/delete", methods=["GET", "POST"])
    def delete_token(token_id: int) -> str | Response | tuple[str, int]:
        member = administrator()
        if member is None:
            return turned_away()
        token = next((each for each in boards.tokens(member.workspace) if each.id == token_id), None)
        if token is None:
            return page("Access tokens", SAY, text="This token no longer exists."), 404
        if request.method == "GET" or request.form.get("confirm") != "yes":
            return page("Delete access token", DELETE, token=token)
        boards.delete_token(token)
        return redirect(url_for("pages.access_tokens"))

    @routes.get("/settings/members")
    def members() -> str | Response | tuple[str, int]:
        member = administrator()
        if member is None:
            return turned_away()
        return page("Members", MEMBERS, members=boards.members(member.workspace))

    @routes.post("/settings/members/<member_id>")
    def change_member(member_id: str) -> Response | tuple[str, int]:
        member = administrator()
        if member is None:
            return turned_away()
        found = next((each for each in boards.members(member.workspace) if each.id == member_id), None)
        if found is None:
            return page("Members", SAY, text="There is no such member."), 404
        change = request.form.get("change", "")
        if change == "disabled":
            boards.change_member(found, is_disabled=not found.is_disabled)
        elif change in {"admin", "maker"}:
            boards.change_member(found, role=change)
        return redirect(url_for("pages.members"))

    @routes.route("/oauth2/authorize", methods=["GET", "POST"])
    def authorize() -> str | Response | tuple[str, int]:
        asked = request.args
        app = boards.apps.get(asked.get("client_id", ""))
        if app is None or asked.get("redirect_uri") != app.redirect_uri:
            return page("Authorize", SAY, text="The client or its redirect URI is not valid."), 400
        member = administrator()
        if member is None:
            return turned_away()
        scope, challenge = asked.get("scope", ""), asked.get("code_challenge", "")
        if asked.get("response_type") != "code":
            return _back(app.redirect_uri, error="unsupported_response_type")
        if not scope or not set(scope.split()) <= SCOPES:
            return _back(app.redirect_uri, error="invalid_scope")
        if (challenge and asked.get("code_challenge_method") != "S256") or not (
            challenge or app.client_secret
        ):
            return _back(app.redirect_uri, error="invalid_request")
        if request.method == "GET":
            return page("Authorize", CONSENT, app=app, scope=scope, member=member)
        if request.form.get("decision") != "allow":
            return _back(app.redirect_uri, error="access_denied")
        return _back(app.redirect_uri, code=boards.agree(member, app, scope, challenge))

    return routes


def _back(redirect_uri: str, **facts: str) -> Response:
    """Send the browser to the app with the answer, and with `state` exactly as it came."""
    if "state" in request.args:
        facts["state"] = request.args["state"]
    return redirect(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(facts)}")
