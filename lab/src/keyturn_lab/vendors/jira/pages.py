"""Atlassian's pages for people: login, consent, connected apps, the site admin's list and the developer console."""

from urllib.parse import urlencode, urlsplit

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import PAGES, meets, page
from keyturn_lab.vendors.jira.state import OFFLINE, Account, App, Cloud

LOGIN = """<form method="post"><p><label>Email <input name="email" type="email"></label>
<p><label>Password <input name="password" type="password"></label>
<input type="hidden" name="continue" value="{{ wanted }}">
<p><button>Log in</button></form>{% if wrong %}<p role="alert">Incorrect email address or password.</p>{% endif %}"""
CONSENT = """<p>{{ app.name }} is requesting access to your Atlassian account ({{ account.email }}).
<p><em>Atlassian has not reviewed this app.</em>
<ul>{% for scope in scopes %}<li>{{ scope }}</li>{% endfor %}</ul>
<form method="post">{% if app.one_site %}<p><label>Choose a site <select name="site">
{% for site in sites %}<option value="{{ site.cloud_id }}">{{ site.name }}</option>{% endfor %}
</select></label>{% endif %}<p><button name="decision" value="accept">Accept</button>
<button name="decision" value="cancel">Cancel</button></form>"""
CONNECTED = """<ul>{% for app in apps %}<li>{{ app.name }}<form method="post">
<button name="client_id" value="{{ app.client_id }}">Remove access</button></form>{% endfor %}</ul>
<p><a href="{{ url_for('pages.password') }}">Change password</a>"""
PASSWORD = """<form method="post"><label>New password <input name="password" type="password"></label>
<button>Save</button></form>"""
ADMIN = """{% for app, users in rows %}<h2>{{ app.name }}</h2><form method="post">
<input type="hidden" name="client_id" value="{{ app.client_id }}"><button>Uninstall</button>
{% for email in users %}<p>{{ email }} <button name="email" value="{{ email }}">Revoke</button>{% endfor %}
</form>{% endfor %}"""
CONSOLE = """{% for app in apps %}<h2>{{ app.name }}</h2><p>Client ID <code>{{ app.client_id }}</code>
<p>Secret <code class="client-secret">{{ app.client_secret }}</code><form method="post">
<input type="hidden" name="client_id" value="{{ app.client_id }}">
<p><label>Callback URL <input name="callback" value="{{ app.callback }}"></label>
<p><button>Save changes</button> <button name="replace_secret" value="yes">Replace secret</button></form>
{% endfor %}<form method="post"><p><input name="name" placeholder="Name"> <input name="callback"
placeholder="Callback URL"> <button>Create</button></form>"""
SAY = '<p role="alert">{{ text }}'


def pages(cloud: Cloud) -> Blueprint:
    """The blueprint over one cloud."""
    routes = Blueprint(PAGES, __name__)

    def me() -> Account | None:
        return cloud.accounts.get(session.get("account", ""))

    def login_page() -> Response:
        return redirect(f"{url_for('pages.sign_in')}?{urlencode({'continue': request.full_path})}")

    @routes.route("/login", methods=["GET", "POST"])
    def sign_in() -> str | Response | tuple[str, int]:
        wanted = _here(request.values.get("continue", "/manage-profile/apps"))
        if request.method == "GET":
            return page("Log in", LOGIN, wanted=wanted)
        account = cloud.accounts.get(request.form.get("email", ""))
        if account is None or request.form.get("password") != account.password:
            return page("Log in", LOGIN, wanted=wanted, wrong=True), 401
        session["account"] = account.email
        return redirect(wanted)

    @routes.get("/error")
    def error() -> str:
        return page("Something went wrong", SAY, text=request.args.get("error_description", ""))

    @routes.route("/authorize", methods=["GET", "POST"])
    def authorize() -> str | Response:
        account = me()
        if account is None:
            return login_page()
        app = cloud.apps.get(request.args.get("client_id", ""))
        problem = _problem(app, account)
        if app is None or problem is not None:
            return problem or _lost("unauthorized_client", "Unknown client.")
        scopes = request.args.get("scope", "").split()
        if request.method == "POST":
            if request.form.get("decision") != "accept":
                return _back(
                    app, error="access_denied", error_description="User did not authorize the request"
                )
            sites = [request.form.get("site", "")] if app.one_site else list(account.sites)
            if meets(Kind.REFUSE_VALUE) or not set(sites) <= set(account.sites):
                return _lost("access_denied", "Your organization's admin does not allow this app.")
            return _back(app, code=cloud.consent(app, account, scopes, sites))
        earlier = cloud.grant_of(app, account)
        # Only `prompt=consent` guarantees that a person is asked again.
        if request.args.get("prompt") != "consent" and earlier and earlier.scopes >= set(scopes):
            return _back(app, code=cloud.consent(app, account, scopes, earlier.sites))
        sites_shown = [cloud.sites[cloud_id] for cloud_id in account.sites]
        return page("Authorize", CONSENT, app=app, account=account, scopes=scopes, sites=sites_shown)

    @routes.route("/manage-profile/apps", methods=["GET", "POST"])
    def remove_grant() -> str | Response:
        account = me()
        if account is None:
            return login_page()
        if request.method == "POST":
            cloud.remove_grant(request.form.get("client_id", ""), account.email)
        granted = [app for app in cloud.apps.values() if cloud.grant_of(app, account)]
        return page("Connected apps", CONNECTED, apps=granted)

    @routes.route("/manage-profile/password", methods=["GET", "POST"])
    def password() -> str | Response:
        account = me()
        if account is None:
            return login_page()
        if request.method == "POST":
            cloud.change_password(account, request.form["password"])
        return page("Change password", PASSWORD)

    @routes.route("/admin/connected-apps", methods=["GET", "POST"])
    def admin_revoke() -> str | Response | tuple[str, int]:
        account = me()
        if account is None:
            return login_page()
        if not account.is_admin:
            return page("Connected apps", SAY, text="Only a site admin sees this page."), 403
        if request.method == "POST":
            cloud.remove_grant(request.form.get("client_id", ""), request.form.get("email"))
        rows = [
            (app, [each.email for each in cloud.accounts.values() if cloud.grant_of(app, each)])
            for app in cloud.apps.values()
        ]
        return page("Connected apps", ADMIN, rows=rows)

    @routes.route("/console/myapps", methods=["GET", "POST"])
    def console() -> str | Response | tuple[str, int]:
        account = me()
        if account is None:
            return login_page()
        form = request.form
        if "name" in form:
            cloud.add_app(form["name"], form["callback"], creator=account.email)
        elif request.method == "POST":
            app = cloud.apps.get(form.get("client_id", ""))
            if app is None or app.creator != account.email:
                return page("My apps", SAY, text="This app belongs to somebody else."), 403
            app.callback = form.get("callback", app.callback)
            if form.get("replace_secret") == "yes":
                cloud.replace_secret(app)
        mine = [each for each in cloud.apps.values() if each.creator == account.email]
        return page("My apps", CONSOLE, apps=mine)

    return routes


def _problem(app: App | None, account: Account) -> Response | None:
    """Why this authorization can't be asked for; none of these ever returns to the app's callback."""
    wanted = request.args
    if app is None:
        return _lost("unauthorized_client", "The client is unknown.")
    if wanted.get("redirect_uri") != app.callback:
        text = "Callback URL mismatch. The request includes an invalid redirect URI."
        return _lost("unauthorized_client", text)
    if wanted.get("response_type") != "code" or wanted.get("audience") != "api.atlassian.com":
        return _lost("invalid_request", "The response type or the audience is not valid.")
    scopes = wanted.get("scope", "").split()
    if not scopes or not set(scopes) <= {*app.scopes, OFFLINE}:
        return _lost("invalid_scope", "A scope is not enabled for this app.")
    if not app.is_shared and app.creator != account.email:
        return _lost("access_denied", "You don't have access to this app.")
    return None


def _lost(error: str, description: str) -> Response:
    return redirect(url_for("pages.error", error=error, error_description=description))


def _back(app: App, **facts: str) -> Response:
    """Send the browser to the callback, with `state` exactly as it came."""
    if "state" in request.args:
        facts["state"] = request.args["state"]
    return redirect(f"{app.callback}{'&' if '?' in app.callback else '?'}{urlencode(facts)}")


def _here(address: str) -> str:
    """The path and query of an address, so that a login can't forward to another site."""
    parts = urlsplit(address)
    return f"/{parts.path.lstrip('/')}?{parts.query}"
