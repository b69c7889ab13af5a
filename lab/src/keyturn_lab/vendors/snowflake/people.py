"""The person at Snowflake's consent page, over HTTP."""

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused


def consent(authorize_url: str, user: str, *, password: str = DEMO_PASSWORD, decline: bool = False) -> str:
    """Signs in on the consent page and allows or denies. Returns the callback address without visiting it.

    Raises: Refused when the page shows an error instead.
    """
    browser = Browser(authorize_url)
    page = browser.get(authorize_url)
    if 'name="decision"' not in page:
        raise Refused("there is nothing to consent to")
    form = {"user": user, "password": password, "decision": "deny" if decline else "allow"}
    address, page = browser.leave(authorize_url, form)
    if address is None:
        raise Refused("the page took neither the name nor the password")
    return address
