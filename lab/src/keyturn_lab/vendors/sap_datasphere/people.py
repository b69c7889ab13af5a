"""The scripted space administrator of SAP Datasphere."""

import re
from html import unescape

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Browser, Refused
from keyturn_lab.vendors.sap_datasphere.pages import ADMIN


def request_password(url: str, user: str) -> str:
    """Request a new password of a database user and copy what is shown; the one before is dead.

    Raises: Refused when nothing is shown.
    """
    browser = Browser(url)
    path = f"/spaces/{user.partition('#')[0]}/database-users"
    browser.post("/login", {"email": ADMIN, "password": DEMO_PASSWORD, "continue": path})
    found = re.search(r'<code id="password">([^<]+)</code>', browser.post(path, {"request": user}))
    if found is None:
        raise Refused(f"the page shows no password for {user}")
    return unescape(found.group(1))
