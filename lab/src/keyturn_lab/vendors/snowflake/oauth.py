"""Snowflake as OAuth issuer: the consent page and the token endpoint of a security integration.

Source: docs.snowflake.com user-guide/oauth-custom (endpoints, parameters, client authentication, answers).
"""

import base64
import binascii
import hashlib
import hmac
from datetime import timedelta
from urllib.parse import unquote_plus, urlencode

from flask import Blueprint, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from keyturn_lab.standin import PAGES, page

from .integrations import BLOCKED_ROLES
from .state import Account, Grant, Integration, User
from .wire import Json

_CONSENT = """<form method="post"><p><b>{{ integration }}</b> asks to act as you in Snowflake with role {{ role }}.
<p><label>User name <input name="user"></label>
<p><label>Password <input name="password" type="password"></label>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>
{% if wrong %}<p role="alert">Incorrect username or password was specified.</p>{% endif %}"""
CODE_LIFE = timedelta(minutes=2)


class TokenRefusal(Exception):
    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error, self.message = error, message


def pages(account: Account) -> Blueprint:
    """The page a person consents on."""
    blueprint = Blueprint(PAGES, __name__)

    @blueprint.route("/oauth/authorize", methods=["GET", "POST"], endpoint="authorize")
    def authorize() -> AnyResponse | str | tuple[str, int]:
        with account.lock:
            return _authorize(account)

    return blueprint


def endpoint(account: Account) -> Response:
    """POST /oauth/token-request."""
    with account.lock:
        try:
            integration = _authenticated(account)
            grants = {"authorization_code": _by_code, "refresh_token": _by_refresh_token}
            kind = request.form.get("grant_type", "")
            if kind not in grants:  # client_credentials among them: that is for an external issuer
                raise TokenRefusal("unsupported_grant_type", "The grant type is not supported.")
            return jsonify(grants[kind](account, integration))
        except TokenRefusal as refusal:
            return _refused(account, refusal)


def issue(account: Account, integration: Integration, user: User, role: str, refresh: str | None) -> Json:
    """An access token, and a refresh token unless one is already held."""
    now = account.now()
    life = int(integration.properties.get("OAUTH_ACCESS_TOKEN_VALIDITY", account.settings.access_token_s))
    access = account.mint("oauth_access_token")
    account.grants[access] = Grant("access", user.name, integration.name, role, now + timedelta(seconds=life))
    validity = int(integration.properties.get("OAUTH_REFRESH_TOKEN_VALIDITY", 7_776_000))
    may_refresh = integration.properties.get("OAUTH_ISSUE_REFRESH_TOKENS", "TRUE").upper() == "TRUE"
    answer: Json = {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": life,
        "username": user.login_name,
        "scope": f"refresh_token session:role:{role}",
        "idpInitiated": False,
    }
    if refresh is None and may_refresh:
        refresh = account.mint("oauth_refresh_token")
        account.grants[refresh] = Grant(
            "refresh", user.name, integration.name, role, now + timedelta(seconds=validity)
        )
        answer |= {"refresh_token": refresh, "refresh_token_expires_in": validity}
    return answer


def _authorize(account: Account) -> AnyResponse | str | tuple[str, int]:
    query = request.args
    integration = next(
        (each for each in account.integrations.values() if each.client_id == query.get("client_id")), None
    )
    if integration is None or not integration.enabled:
        return page("Invalid consent request", "<p>Invalid consent request."), 400
    target = query.get("redirect_uri", "")
    if target != integration.properties.get("OAUTH_REDIRECT_URI") or query.get("response_type") != "code":
        return page("Invalid consent request", "<p>The redirect URI does not match."), 400
    if (
        integration.properties.get("OAUTH_ENFORCE_PKCE", "").upper() == "TRUE"
        and "code_challenge" not in query
    ):
        return page("Invalid consent request", "<p>PKCE is required."), 400
    role = _role_in(query.get("scope", ""))
    shown = {"integration": integration.name, "role": role or "(your default role)"}
    if request.method == "GET":
        return page("Snowflake", _CONSENT, wrong=False, **shown)
    if request.form.get("decision") == "deny":
        return redirect(_with(target, error="access_denied", state=query.get("state")))
    user = account.by_login(request.form.get("user", ""))
    if user is None or user.disabled or user.password != request.form.get("password"):
        return page("Snowflake", _CONSENT, wrong=True, **shown)
    role = role or user.default_role
    if role in BLOCKED_ROLES or (role != "PUBLIC" and role not in user.roles):
        return redirect(_with(target, error="invalid_scope", state=query.get("state")))
    account.consents.add((user.name, integration.name, role))
    code = account.mint("oauth_code")
    facts = {"redirect_uri": target, "code_challenge": query.get("code_challenge")}
    account.grants[code] = Grant("code", user.name, integration.name, role, account.now() + CODE_LIFE, facts)
    return redirect(_with(target, code=code, state=query.get("state")))


def _authenticated(account: Account) -> Integration:
    """The integration whose id and either secret the client showed.

    The vendor decodes id and secret from form encoding inside Basic; a raw `+` therefore becomes a blank and fails.
    """
    client_id, secret = request.form.get("client_id"), request.form.get("client_secret")
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    pairs = [(client_id or "", secret or "")]
    if scheme.lower() == "basic":
        try:
            raw_id, _, raw_secret = base64.b64decode(encoded).decode().partition(":")
        except (ValueError, binascii.Error) as problem:
            raise TokenRefusal("invalid_client", "This is an invalid client.") from problem
        pairs = [(unquote_plus(raw_id), unquote_plus(raw_secret))]
        if not account.settings.strict_basic_encoding:
            pairs.append((raw_id, raw_secret))
    for shown_id, shown_secret in pairs:
        for integration in account.integrations.values():
            if integration.client_id == shown_id and any(
                hmac.compare_digest(each.encode(), shown_secret.encode()) for each in integration.secrets
            ):
                if not integration.enabled:
                    break
                integration.used.add(shown_secret)
                return integration
    raise TokenRefusal("invalid_client", "This is an invalid client.")


def _by_code(account: Account, integration: Integration) -> Json:
    """A code works once, for the integration and address it was made for."""
    grant = account.grants.pop(request.form.get("code", ""), None)
    if (
        grant is None
        or grant.kind != "code"
        or grant.integration != integration.name
        or grant.expires_at <= account.now()
        or grant.facts["redirect_uri"] != request.form.get("redirect_uri")
        or not _proves(grant.facts["code_challenge"], request.form.get("code_verifier"))
    ):
        raise TokenRefusal("invalid_grant", "Invalid authorization code.")
    return issue(account, integration, account.users[grant.user], grant.role, None)


def _by_refresh_token(account: Account, integration: Integration) -> Json:
    token = request.form.get("refresh_token", "")
    grant = account.grants.get(token)
    user = account.users.get(grant.user) if grant else None
    if (
        grant is None
        or user is None
        or user.disabled
        or grant.kind != "refresh"
        or grant.integration != integration.name
        or grant.expires_at <= account.now()
    ):
        raise TokenRefusal("invalid_grant", "Unknown or invalid refresh token.")
    if integration.properties.get("OAUTH_SINGLE_USE_REFRESH_TOKENS_REQUIRED", "").upper() == "TRUE":
        # The new one ends every token before it. Source: docs.snowflake.com user-guide/single-use-refresh-tokens.
        mine = (user.name, integration.name)
        account.grants = {t: g for t, g in account.grants.items() if (g.user, g.integration) != mine}
        return issue(account, integration, user, grant.role, None)
    return issue(account, integration, user, grant.role, token)


def _refused(account: Account, refusal: TokenRefusal) -> Response:
    if refusal.error == "invalid_client":
        body: Json = {
            "data": None,
            "message": refusal.message,
            "code": None,
            "success": False,
            "error": refusal.error,
        }
    else:
        body = {"error": refusal.error, "error_description": refusal.message}
    answer = jsonify(body)
    answer.status_code = account.settings.invalid_client_status if refusal.error == "invalid_client" else 400
    return answer


def _proves(challenge: str | None, verifier: str | None) -> bool:
    if challenge is None:
        return True
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).decode().rstrip("="), challenge)


def _role_in(scope: str) -> str | None:
    """The role a scope list asks for; plain names fold to upper case, encoded ones are taken as they are."""
    for item in scope.split():
        if item.startswith("session:role-encoded:"):
            return unquote_plus(item.removeprefix("session:role-encoded:"))
        if item.startswith("session:role:"):
            return item.removeprefix("session:role:").upper()
    return None


def _with(target: str, **facts: str | None) -> str:
    return (
        target
        + ("&" if "?" in target else "?")
        + urlencode({k: v for k, v in facts.items() if v is not None})
    )
