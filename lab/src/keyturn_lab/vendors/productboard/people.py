"""The scripted administrator at Productboard's pages: adds a named token, finds its row by name, deletes it."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused

TOKENS = "/settings/integrations/public-api"


def create_token(url: str, member: str, name: str) -> str:
    """Sign in as the member (an email address) and add a named token, which is shown this once."""
    shown = re.search(
        r'<code id="access-token">(.*?)</code>', _signed_in(url, member).post(TOKENS, {"name": name})
    )
    if shown is None:
        raise Refused("no token was shown")
    return unescape(shown.group(1))


def token_names(url: str, member: str) -> list[str]:
    """The names of the workspace's tokens, as the page lists them."""
    return [name for name, _ in _rows(_signed_in(url, member))]


def delete_token(url: str, member: str, name: str) -> None:
    """Delete the one token of that name. Raises: Refused when not exactly one row has it."""
    browser = _signed_in(url, member)
    links = [link for found, link in _rows(browser) if found == name]
    if len(links) != 1:
        raise Refused(f"{len(links)} tokens are named {name}")
    browser.post(links[0], {"confirm": "yes"})


def change_member(url: str, admin: str, member_id: str, change: str) -> None:
    """Make a member `admin` or `maker`, or switch it off and on (`disabled`)."""
    _signed_in(url, admin).post(f"/settings/members/{member_id}", {"change": change})


def consent(authorize_url: str, member: str, *, decline: bool = False) -> str:
    """Sign in, decide on the consent page and return the callback address without visiting it."""
    browser = Browser(authorize_url)
    browser.post("/login", {"email": member, "password": DEMO_PASSWORD})
    address, _ = browser.leave(authorize_url, {"decision": "deny" if decline else "allow"})
    if address is None:
        raise Refused("the consent page sent nobody back")
    return address


def _rows(browser: Browser) -> list[tuple[str, str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", browser.get(TOKENS), re.DOTALL)
    return [
        (unescape(name.group(1)), link.group(1))
        for row in rows
        if (name := re.search(r"<td>(.*?)</td>", row)) and (link := re.search(r'href="([^"]+/delete)"', row))
    ]


def _signed_in(url: str, member: str) -> Browser:
    browser = Browser(url)
    browser.post("/login", {"email": member, "password": DEMO_PASSWORD})
    return browser
