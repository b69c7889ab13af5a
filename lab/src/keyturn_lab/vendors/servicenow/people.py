"""The scripted people of ServiceNow: who consents, and who keeps the application registry."""

import re
import time
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused

REGISTRAR = "registrar"
RELOADS = 10


def consent(authorize_url: str, user: str, *, decline: bool = False) -> str:
    """Sign in, allow or deny, and return the callback address without visiting it.

    An entry that is seconds old may not be known yet: then a person reloads the page.
    """
    for _ in range(RELOADS):
        try:
            browser = signed_in(authorize_url, user)
            break
        except Refused:
            time.sleep(0.1)
    else:
        browser = signed_in(authorize_url, user)
    address, _ = browser.leave(authorize_url, {"decision": "deny" if decline else "allow"})
    if address is None:
        raise Refused("the page did not send the browser back")
    return address


def register(url: str, name: str, redirect_url: str) -> dict[str, str]:
    """Register an entry; what its form shows under Client ID and Client Secret."""
    browser = signed_in(url, REGISTRAR)
    shown = browser.post("/oauth_entity_list.do", {"name": name, "redirect_url": redirect_url})
    return {"client_id": _code(shown, "client-id"), "client_secret": _code(shown, "client-secret")}


def client_ids(url: str) -> list[str]:
    """The client ids the registry lists."""
    return [row[1] for row in _rows(signed_in(url, REGISTRAR).get("/oauth_entity_list.do"))]


def delete(url: str, client_id: str, user: str) -> None:
    """Look at the entry's tokens, revoke each, delete the entry.

    Raises: Refused when there is no such entry, or when somebody else's tokens are on it.
    """
    browser = signed_in(url, REGISTRAR)
    rows = [row for row in _rows(browser.get("/oauth_entity_list.do")) if row[1] == client_id]
    if len(rows) != 1:
        raise Refused(f"the registry shows {len(rows)} entries with this client id")
    shown = browser.get(rows[0][2])
    if strangers := {row[1] for row in _rows(shown)} - {user}:
        raise Refused(f"other users hold tokens of this entry: {', '.join(sorted(strangers))}")
    for token in re.findall(r'name="revoke" value="([0-9a-f]{32})"', shown):
        browser.post(rows[0][2], {"revoke": token})
    browser.post(rows[0][2], {"delete": "yes"})


def signed_in(url: str, user: str) -> Browser:
    """A browser in which the user is logged in, at the consent page where the address is one."""
    browser = Browser(url)
    login = {"user_name": user, "user_password": DEMO_PASSWORD, "continue": "/oauth_entity_list.do"}
    if "/oauth_auth.do" in url:
        login["continue"] = url
    try:
        browser.post("/login.do", login)
    except Refused:
        if user == REGISTRAR or "/oauth_auth.do" in url:
            raise
    return browser


def _rows(page: str) -> list[list[str]]:
    """Each table row's texts; of a link its address."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL):
        cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
        links = [re.search(r'href="([^"]+)"', cell) for cell in cells]
        found.append(
            [unescape(link.group(1) if link else cell) for cell, link in zip(cells, links, strict=True)]
        )
    return found


def _code(page: str, name: str) -> str:
    found = re.search(rf'<code id="{name}">([^<]+)</code>', page)
    if found is None:
        raise Refused(f"the page shows no {name}")
    return unescape(found.group(1))
