"""The scripted person at Google's pages."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused


def consent(
    authorize_url: str, email: str, *, decline: bool = False, without: str = "", password: str = DEMO_PASSWORD
) -> str:
    """Signs in and decides; `without` is a scope whose box is unticked. Returns the callback address without visiting it.

    Raises: Refused when the consent ended on an error page.
    """
    browser = _signed_in(authorize_url, email, password)
    try:
        address, text = browser.leave(authorize_url)
    except Refused as stranded:
        raise Refused(f"access blocked: {stranded}") from None
    if address is not None:
        return address  # an earlier consent covers the request, so nobody was asked
    scopes = [unescape(each) for each in re.findall(r'name="scope" value="([^"]+)"', text)]
    given = [scope for scope in scopes if not without or without not in scope]
    address, _ = browser.leave(
        authorize_url, {"decision": "cancel" if decline else "continue", "scope": " ".join(given)}
    )
    if address is None:
        raise Refused("the page did not return")
    return address


def remove_grant(url: str, email: str, client_id: str) -> None:
    """Deletes all connections between the account and one app."""
    _signed_in(url, email).post("/connections", {"client_id": client_id})


def add_client_secret(url: str, email: str, client_id: str) -> str:
    """Adds a second secret to a client in the console; it is shown this once."""
    text = _signed_in(url, email).post("/auth/clients", {"client_id": client_id, "add": "yes"})
    found = re.search(r'id="client-secret">([^<]+)<', text)
    if found is None:
        raise Refused("no secret was shown")
    return unescape(found.group(1))


def end_client_secret(url: str, email: str, client_id: str, number: int = 0) -> None:
    """Disables a client's secret, then deletes it; the oldest is number 0."""
    browser = _signed_in(url, email)
    for act in ("disable", "delete"):
        browser.post("/auth/clients", {"client_id": client_id, act: str(number)})


def _signed_in(url: str, email: str, password: str = DEMO_PASSWORD) -> Browser:
    browser = Browser(url)
    browser.post("/signin", {"email": email, "password": password})
    return browser
