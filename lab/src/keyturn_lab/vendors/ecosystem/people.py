"""The scripted administrator of Ecosystems: makes a key for an account, and ends the one of a name."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused


def make_key(url: str, account: str, name: str) -> str:
    """A new key of the account, which is shown this once; a reset where only one may exist."""
    text = _signed_in(url).post(f"/accounts/{account}/keys", {"name": name})
    shown = re.search(r'<code id="access-key">(.*?)</code>', text)
    if shown is None:
        raise Refused("no key was shown")
    return unescape(shown.group(1))


def key_names(url: str, account: str) -> list[str]:
    """The names of the account's keys."""
    return [name for name, _ in _rows(_signed_in(url), account)]


def end_key(url: str, account: str, name: str = "") -> None:
    """End the account's one key of that name, or its only key. Raises: Refused when there is not exactly one."""
    browser = _signed_in(url)
    links = [link for found, link in _rows(browser, account) if name in {found, ""}]
    if len(links) != 1:
        raise Refused(f"{len(links)} keys fit")
    browser.post(links[0], {})


def _rows(browser: Browser, account: str) -> list[tuple[str, str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", browser.get(f"/accounts/{account}/keys"), re.DOTALL)
    return [
        (unescape(name.group(1)), link.group(1))
        for row in rows
        if (name := re.search(r"<td>(.*?)</td>", row)) and (link := re.search(r'action="([^"]+)"', row))
    ]


def _signed_in(url: str) -> Browser:
    browser = Browser(url)
    browser.post("/login", {"password": DEMO_PASSWORD})
    return browser
