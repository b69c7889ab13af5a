"""Google's pages for people: sign-in, consent, third-party connections, and the console's list of OAuth clients."""

from urllib.parse import urlencode, urlsplit

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.standin import PAGES, page
from keyturn_lab.vendors.google.grants import Client, Person
from keyturn_lab.vendors.google.state import World
from keyturn_lab.vendors.google.wire import SCOPES, canonical

LOGIN = """<form method="post"><p><label>Email <input name="email" type="email" value="{{ hint }}"></label>
<p><label>Password <input name="password" type="password"></label>
<input type="hidden" name="continue" value="{{ wanted }}">
<p><button>Next</button></form>{% if wrong %}<p role="alert">Wrong password. Try again.</p>{% endif %}"""
CONSENT = """<p>{{ client.name }} wants access to your Google Account ({{ person.email }}).
<form method="post">{% for scope in scopes %}<p><label><input type="checkbox" name="scope" value="{{ scope }}" checked>
{{ scope }}</label>{% endfor %}<p><button name="decision" value="continue">Continue</button>
<button name="decision" value="cancel">Cancel</button></form>"""
CONNECTIONS = """<ul>{% for client in clients %}<li>{{ client.name }}<form method="post">
<button name="client_id" value="{{ client.client_id }}">Delete all connections</button></form>{% endfor %}</ul>"""
CLIENTS = """{% for client in clients %}<h2>{{ client.name }}</h2><p>Client ID <code>{{ client.client_id }}</code>
<form method="post"><input type="hidden" name="client_id" value="{{ client.client_id }}">
{% for secret in client.secrets %}<p>Secret ****{{ secret.value[-4:] }} {{ 'Enabled' if secret.is_on else 'Disabled' }}
<button name="disable" value="{{ loop.index0 }}">Disable</button> <button name="delete" value="{{ loop.index0 }}">Delete</button>
{% endfor %}<p><button name="add" value="yes">Add secret</button></form>{% endfor %}
{% if shown %}<p>New secret, shown once: <code id="client-secret">{{ shown }}</code>{% endif %}"""
SAY = '<p role="alert">{{ text }}'
MOST_SECRETS = 2


def pages(world: World) -> Blueprint:
    """The blueprint over one world."""
    routes = Blueprint(PAGES, __name__)

    def me() -> Person | None:
        return world.people.get(session.get("person", ""))

    def sign_in_first() -> Response:
        hint = request.args.get("login_hint", "")
        return redirect(
            f"{url_for('pages.sign_in')}?{urlencode({'continue': request.full_path, 'login_hint': hint})}"
        )

    @routes.route("/signin", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        wanted = _here(request.values.get("continue", "/connections"))
        hint = request.values.get("login_hint", "")
        if request.method == "GET":
            return page("Sign in", LOGIN, wanted=wanted, hint=hint)
        person = world.people.get(request.form.get("email", ""))
        if person is None or request.form.get("password") != person.password:
            return page("Sign in", LOGIN, wanted=wanted, hint=hint, wrong=True), 401
        session["person"] = person.email
        return redirect(wanted)

    @routes.route("/o/oauth2/v2/auth", methods=["GET", "POST"])
    def consent() -> str | Response | tuple[str, int]:
        person, asked = me(), request.args
        if person is None:
            return sign_in_first()
        client = world.clients.get(asked.get("client_id", ""))
        problem = _problem(client)
        if client is None or problem:
            return page("Access blocked", SAY, text=problem or "invalid_client"), 400
        wanted = canonical(asked.get("scope", ""))
        known = world.grants.get((client.client_id, person.email))
        covers = known is not None and not known.is_removed and wanted <= known.scopes
        must_ask = "consent" in asked.get("prompt", "").split() or not covers
        if request.method == "GET" and must_ask:
            return page("Choose what to allow", CONSENT, client=client, person=person, scopes=sorted(wanted))
        if request.method == "POST" and request.form.get("decision") != "continue":
            return _back(error="access_denied")
        ticked = set(" ".join(request.form.getlist("scope")).split())
        given = wanted & ticked if request.method == "POST" else wanted
        code = world.consent(
            client,
            person,
            given,
            redirect_uri=asked["redirect_uri"],
            challenge=asked.get("code_challenge", ""),
            offline=asked.get("access_type") == "offline",
            asked=request.method == "POST",
        )
        return _back(code=code, scope=" ".join(sorted(given)))

    @routes.route("/connections", methods=["GET", "POST"])
    def connections() -> str | Response:
        person = me()
        if person is None:
            return sign_in_first()
        if request.method == "POST":
            grant = world.grants.get((request.form.get("client_id", ""), person.email))
            if grant is not None and not grant.is_removed:
                world.remove(grant)
        granted = [
            client
            for client in world.clients.values()
            if (grant := world.grants.get((client.client_id, person.email))) and not grant.is_removed
        ]
        return page("Your connections to third-party apps", CONNECTIONS, clients=granted)

    @routes.route("/auth/clients", methods=["GET", "POST"])
    def clients() -> str | Response | tuple[str, int]:
        """Google Auth Platform > Clients. No API does what this page does."""
        if me() is None:
            return sign_in_first()
        form, shown = request.form, ""
        client = world.clients.get(form.get("client_id", ""))
        if request.method == "POST" and client is not None:
            if "add" in form:
                if len(client.secrets) >= MOST_SECRETS:
                    return page("Clients", SAY, text="A client has at most two secrets."), 400
                shown = world.add_secret(client).value
            elif "disable" in form:
                client.secrets[int(form["disable"])].is_on = False
            elif "delete" in form:
                if client.secrets[int(form["delete"])].is_on:
                    return page("Clients", SAY, text="Disable the secret before you delete it."), 400
                del client.secrets[int(form["delete"])]
        return page("Clients", CLIENTS, clients=list(world.clients.values()), shown=shown)

    return routes


def _problem(client: Client | None) -> str:
    """Why nobody is asked; none of these ever returns to the app."""
    asked = request.args
    if client is None:
        return "Error 401: invalid_client. The OAuth client was not found."
    if client.state != "live":
        return f"Error 401: {client.state}_client"
    if asked.get("redirect_uri") not in client.callbacks:
        return "Error 400: redirect_uri_mismatch"
    if asked.get("response_type") != "code":
        return "Error 400: unsupported_response_type"
    wanted = canonical(asked.get("scope", ""))
    if not wanted or not wanted <= SCOPES:
        return "Error 400: invalid_scope"
    if asked.get("code_challenge") and asked.get("code_challenge_method") != "S256":
        return "Error 400: invalid_request"
    return ""


def _back(**facts: str) -> Response:
    """Sends the browser to the callback, with `state` exactly as it came."""
    if "state" in request.args:
        facts["state"] = request.args["state"]
    callback = request.args["redirect_uri"]
    return redirect(f"{callback}{'&' if '?' in callback else '?'}{urlencode(facts)}")


def _here(address: str) -> str:
    """The path and query of an address, so that a sign-in can't forward to another site."""
    parts = urlsplit(address)
    return f"/{parts.path.lstrip('/')}?{parts.query}"
