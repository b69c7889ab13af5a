"""The scripted administrator at Zuora's pages: makes a client, finds its row by id, deletes it."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused

ADMIN = "admin@acme.example"


def create_client(
    url: str, user: str, name: str, *, one_id: bool = False, admin: str = ADMIN, host: str | None = None
) -> dict[str, str]:
    """A new client of the user (an email address): its id and its secret, which are shown this once."""
    shown = _signed_in(url, admin, host).post(_page_of(user, one_id), {"name": name})
    return {"client_id": _shown(shown, "client-id"), "client_secret": _shown(shown, "client-secret")}


def client_ids(
    url: str, user: str, *, one_id: bool = False, admin: str = ADMIN, host: str | None = None
) -> list[str]:
    """The ids of the user's clients, as the page lists them; secrets are never listed."""
    listing = _signed_in(url, admin, host).get(_page_of(user, one_id))
    return re.findall(r"/clients/([0-9a-f-]{36})/delete", listing)


def delete_client(
    url: str, user: str, client_id: str, *, admin: str = ADMIN, host: str | None = None
) -> None:
    """Delete the client of that id. Raises: Refused when no row has it."""
    _signed_in(url, admin, host).post(f"/apps/UserList/{user}/clients/{client_id}/delete", {"confirm": "yes"})


def switch_user(url: str, user: str, *, admin: str = ADMIN, host: str | None = None) -> None:
    """Deactivate the user, or reactivate it."""
    _signed_in(url, admin, host).post(f"/apps/UserList/{user}/active", {"confirm": "yes"})


def _page_of(user: str, one_id: bool) -> str:
    return f"/settings/oauth2-clients/{user}" if one_id else f"/apps/UserList/{user}"


def _signed_in(url: str, admin: str, host: str | None) -> Browser:
    browser = Browser(url, host=host)
    browser.post("/login", {"email": admin, "password": DEMO_PASSWORD})
    return browser


def _shown(page: str, what: str) -> str:
    found = re.search(rf'<code id="{what}">(.*?)</code>', page)
    if found is None:
        raise Refused(f"the page shows no {what}")
    return unescape(found.group(1))
