"""What a person does at Mixpanel's pages: makes and deletes service accounts, resets a project's secret."""

import re

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused
from keyturn_lab.vendors.mixpanel.pages import OWNER


def add_service_account(url: str, name: str, role: str, project: int) -> tuple[str, str]:
    """User name and secret of a new account, as the page shows them once."""
    text = _signed_in(url).post("/settings/org", {"name": name, "role": role, "project": str(project)})
    return _shown(text, "username"), _shown(text, "secret")


def delete_service_account(url: str, username: str) -> None:
    """Deletes the account on the organization's page."""
    person = _signed_in(url)
    row = re.search(
        rf"<td>{re.escape(username)}</td>.*?action=\"([^\"]+/delete)\"",
        person.get("/settings/org"),
        re.DOTALL,
    )
    if row is None:
        raise Refused(f"the page shows no {username}")
    person.post(row[1], {"confirm": "yes"})


def remove_from_project(url: str, project: int, account: int) -> None:
    """Takes the account out of one project, which leaves it alive."""
    _signed_in(url).post(f"/settings/project/{project}/service-accounts", {"remove": str(account)})


def reset_api_secret(url: str, project: int) -> str:
    """The project's new API secret; the old one ends with the click."""
    return _shown(
        _signed_in(url).post(f"/settings/project/{project}/access-keys", {"reset": "yes"}), "api-secret"
    )


def _signed_in(url: str) -> Browser:
    person = Browser(url)
    person.post("/login", {"email": OWNER, "password": DEMO_PASSWORD})
    return person


def _shown(text: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]+)<', text)
    if found is None:
        raise Refused(f"the page shows no {name}")
    return found[1]
