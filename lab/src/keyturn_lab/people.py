"""The scripted person: does at a stand-in's pages, over HTTP, what no vendor lets a program do."""

import re
from collections.abc import Mapping
from html import unescape
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, ProxyHandler, Request, build_opener

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.freshdesk.state import CAPTCHA

PATIENCE_S = 10.0


class Refused(RuntimeError):
    """A page said no, or did not show what the person came for."""


class _StayHere(HTTPRedirectHandler):
    """Leaves redirects to the browser below, which stops at the lab's border."""

    def redirect_request(self, *_facts: object) -> None:
        return None


class Browser:
    """One person's browser: cookies, forms and redirects within one site; `host` picks a tenant."""

    def __init__(self, url: str, *, host: str | None = None) -> None:
        self._site = urlsplit(url)
        self._host = host
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()), _StayHere())

    def get(self, path: str) -> str:
        """Visit a page and whatever it forwards to; the text of the page reached."""
        return self._visit(path, None)[1]

    def post(self, path: str, form: Mapping[str, str]) -> str:
        """Send a form and follow on; the text of the page reached."""
        return self._visit(path, form)[1]

    def leave(self, path: str, form: Mapping[str, str] | None = None) -> tuple[str | None, str]:
        """Like a visit, but also tells the foreign address the site sent us to, which is not requested."""
        return self._visit(path, form)

    def _visit(self, path: str, form: Mapping[str, str] | None) -> tuple[str | None, str]:
        address = urljoin(self._site.geturl(), path)
        for _ in range(10):
            answer = self._send(address, form)
            with answer:
                text = answer.read().decode()
            status = answer.status or 0
            if status not in {301, 302, 303}:
                if status >= 400:
                    raise Refused(f"the page {urlsplit(address).path} answered {status}")
                return None, text
            address, form = urljoin(address, answer.headers["Location"]), None
            if urlsplit(address).netloc != self._site.netloc:
                return address, text
        raise Refused("the site kept forwarding")

    def _send(self, address: str, form: Mapping[str, str] | None) -> HTTPResponse | HTTPError:
        body = None if form is None else urlencode(form).encode()
        request = Request(address, data=body, headers={"Host": self._host} if self._host else {})
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=PATIENCE_S)
        except HTTPError as refusal:
            return refusal
        return answer


def freshdesk_view_key(
    url: str, agent: str, *, password: str = DEMO_PASSWORD, host: str | None = None
) -> str:
    """Sign in as the agent (an email address), solve the captcha and read the key."""
    return _shown_key(_at_key_page(url, agent, password, host)[1])


def freshdesk_reset_key(
    url: str, agent: str, *, password: str = DEMO_PASSWORD, host: str | None = None
) -> str:
    """Reset the agent's key: the old one is dead, the new one is returned."""
    browser, _ = _at_key_page(url, agent, password, host)
    return _shown_key(browser.post("/a/profiles/api_key/reset", {"confirm": "yes"}))


def _at_key_page(url: str, agent: str, password: str, host: str | None) -> tuple[Browser, str]:
    browser = Browser(url, host=host)
    browser.post("/support/login", {"email": agent, "password": password})
    return browser, browser.post("/a/profiles/api_key", {"captcha": CAPTCHA})


def aha_generate_key(url: str, user: str, name: str, *, host: str | None = None) -> str:
    """Sign in as the user (an email address) and generate a named key, which is shown this once."""
    browser = _signed_in_to_aha(url, user, host)
    return _shown_key(browser.post("/settings/api_keys", {"name": name}))


def aha_key_names(url: str, user: str, *, host: str | None = None) -> list[str]:
    """The names of the user's keys, as the page lists them."""
    page = _signed_in_to_aha(url, user, host).get("/settings/api_keys")
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [unescape(cell[0]) for cell in cells if cell]


def aha_delete_key(url: str, user: str, name: str, *, host: str | None = None) -> None:
    """Delete the user's key of that name.

    Raises: Refused when no row has that name.
    """
    browser = _signed_in_to_aha(url, user, host)
    for row in re.findall(r"<tr>(.*?)</tr>", browser.get("/settings/api_keys"), re.DOTALL):
        if f"<td>{name}</td>" in unescape(row) and (link := re.search(r'href="([^"]+/delete)"', row)):
            browser.post(link.group(1), {"confirm": "yes"})
            return
    raise Refused(f"there is no key named {name}")


def _signed_in_to_aha(url: str, user: str, host: str | None) -> Browser:
    browser = Browser(url, host=host)
    browser.post("/login", {"email": user, "password": DEMO_PASSWORD})
    return browser


def aha_consent(authorize_url: str, user: str, *, decline: bool = False) -> str:
    """Sign in, decide on the consent page and return the callback address without visiting it."""
    browser = Browser(authorize_url)
    browser.post("/login", {"email": user, "password": DEMO_PASSWORD})
    return _decide(browser, authorize_url, {"decision": "deny" if decline else "allow"})


def jira_consent(
    authorize_url: str,
    account: str,
    site: str | None = None,
    decline: bool = False,
    *,
    password: str = DEMO_PASSWORD,
) -> str:
    """Sign in as the account (an email address), pick a site by name or take the first, accept or cancel.

    Returns the callback address with code or error and state, without visiting it.
    Raises: Refused when the consent ended on an error page, which is where a wrong callback leaves a person.
    """
    browser = Browser(authorize_url)
    login = {"email": account, "password": password, "continue": authorize_url}
    address, page = browser.leave("/login", login)
    if address is not None:
        return address  # an earlier consent still covers the request, so nobody was asked
    if 'name="decision"' not in page:
        raise Refused(_alert(page))
    form = {"decision": "cancel" if decline else "accept"}
    options = dict(re.findall(r'<option value="([^"]+)"[^>]*>([^<]+)<', page))
    chosen = [cloud_id for cloud_id, name in options.items() if site in {None, unescape(name)}]
    if chosen:
        form["site"] = chosen[0]
    elif site is not None:
        raise Refused(f"the account cannot grant the site {site}")
    return _decide(browser, authorize_url, form)


def jira_remove_grant(url: str, account: str, client_id: str, *, password: str = DEMO_PASSWORD) -> None:
    """Remove the account's access for one app: every token family of the two dies."""
    browser = Browser(url)
    browser.post("/login", {"email": account, "password": password})
    browser.post("/manage-profile/apps", {"client_id": client_id})


def jira_change_password(url: str, account: str, new: str, *, password: str = DEMO_PASSWORD) -> None:
    """Change the account's password, which kills its refresh tokens."""
    browser = Browser(url)
    browser.post("/login", {"email": account, "password": password})
    browser.post("/manage-profile/password", {"password": new})


def _decide(browser: Browser, authorize_url: str, form: dict[str, str]) -> str:
    address, text = browser.leave(authorize_url, form)
    if address is None:
        raise Refused(_alert(text))
    return address


def _shown_key(text: str) -> str:
    found = re.search(r'<code id="api-key">(.*?)</code>', text)
    if found is None:
        raise Refused(f"no key was shown: {_alert(text)}")
    return unescape(found.group(1))


def _alert(text: str) -> str:
    found = re.search(r'role="alert">([^<]*)', text)
    return unescape(found.group(1)) if found else "the page gave no reason"
