"""The consent for an OAuth application: who asks, for what, and where the browser goes next; and taking it back."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl

from starlette.responses import RedirectResponse, Response

from keyturn.errors import NotFound
from keyturn.operations import grants, oauth
from keyturn.operations.oauth import Ask, Back
from keyturn.web.guard import POLICY
from keyturn.web.site import Visit

_MOST = 3000  # of an address: it travels in a cookie while somebody signs in
_KEPT_S = 600


def show(it: Visit) -> Response:
    """Asks whoever is signed in. The request is kept aside while they sign in first."""
    asked = it.request.url.query
    key = it.asked("ask")
    if key and asked == f"ask={key}":
        asked = str(it.site.unsign(it.request.cookies.get(_cookie(key), "")) or "")
    found = _consider(it, asked)
    if isinstance(found, Back):
        return _away(found)
    if not it.is_in:
        key = secrets.token_hex(4)
        it.cookies[_cookie(key)] = (it.site.sign(asked), _KEPT_S)
        return RedirectResponse(f"/sign-in?next=/oauth/authorize%3Fask%3D{key}", 303)
    answer = it.render(
        "consent.html",
        ask=found,
        asked=it.site.sign(asked),
        scopes=[grants.says(each) for each in found.scopes.split()],
        host=oauth.origin(found.redirect_uri),
    )
    # a browser follows the redirect after the form only to where the page's policy lets forms go
    to = f"form-action 'self' {oauth.origin(found.redirect_uri)};"
    answer.headers["Content-Security-Policy"] = POLICY.replace("form-action 'self';", to)
    return answer


def answer(it: Visit) -> Response:
    """Yes or no. What was asked for is read anew: an application that ended meanwhile gets nothing."""
    found = _consider(it, str(it.site.unsign(it.text("asked")) or ""))
    if isinstance(found, Back):
        return _away(found)
    said = oauth.allow if it.text("answer") == "allow" else oauth.refuse
    return _away(said(it.site.hub, it.who, found))


def _consider(it: Visit, query: str) -> Ask | Back:
    """Raises: NotFound, with a page that repeats nothing."""
    if not query or len(query) > _MOST:
        raise NotFound(
            "there is no request of an application here", hint="Go back to the application and start again."
        )
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        pairs = []
    return oauth.consider(it.site.hub, pairs)


def _away(back: Back) -> Response:
    """To the application. 303: the form's content is not sent along (RFC 9700 section 4.12)."""
    return RedirectResponse(back.url, 303)


def _cookie(key: str) -> str:
    return f"keyturn-ask-{key[:16]}"


def apps(it: Visit) -> Response:
    """What this person allows at present."""
    found = grants.allowed(it.site.hub, it.who.id)
    return it.render("apps.html", apps=found, says=grants.says)


def end(it: Visit, grant_id: str) -> Response:
    """Takes one back."""
    grants.take_back(it.site.hub, grant_id, by=it.who.login, account_id=it.who.id, address=it.address)
    return it.redirect("/account/apps", "Taken back. Its tokens are refused from now on.")
