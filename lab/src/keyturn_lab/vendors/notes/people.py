"""The scripted administrator of Acme Notes: sets the password of an account's user or blocks it, makes a key by hand."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused


def set_password(url: str, account: str) -> str:
    """A new password for the account's user, shown this once. The old one is dead."""
    return _shown(_post(url, account, "set"), "password")


def make_key(url: str, account: str) -> dict[str, str]:
    """One more key of the account: `id` and `secret`."""
    text = _post(url, account, "key")
    return {"id": _shown(text, "key-id"), "secret": _shown(text, "key")}


def block(url: str, account: str) -> None:
    """Nobody signs in as the account's user any more."""
    _post(url, account, "block")


def _shown(text: str, what: str) -> str:
    found = re.search(rf'<code id="{what}">(.*?)</code>', text)
    if found is None:
        raise Refused(f"no {what} was shown")
    return unescape(found.group(1))


def _post(url: str, account: str, what: str) -> str:
    said = {"administrator": DEMO_PASSWORD, "account": account, "do": what}
    return str(Browser(url).post("/admin", said))
