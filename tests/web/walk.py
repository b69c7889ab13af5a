"""Through every page there is: those of the site map by their address, and those that are the answer to something done.

A page that is new on the site map is walked by itself, or fails the walk until there is something to show on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.web.furnished import LOCAL, PASSWORD

from keyturn.model.ids import new_id
from keyturn.operations import issued, links

# which pages are not reached by their address alone, and why: those without a visit below are no pages to look at
SKIPPED = {
    "/live": "a stream",
    "/live/runs/{run_id}": "a stream",
    "/sign-in/sso": "leads to the provider",
    "/sign-in/sso/back": "comes from the provider",
    "/setup": "of a fresh hub",
    "/join": "of somebody invited",
    "/sign-in": "of nobody",
    "/sign-in/code": "of somebody half signed in",
    "/help": "of somebody outside",
    "/oauth/authorize": "needs an application's request",
}
GONE = "/connections/nothing"  # a page that is not there
_OF_NAME = {"/connections/{connection_id}/migrate/{method}": {"method": "move"}}
_OF_KIND = {"/settings/tell/{kind}": ["webhook", "mail"]}


def addresses(pages: Any, there: dict[str, list[str]]) -> list[str]:
    """Every page that is looked at, with each of what there is; `method` and `goal` go along with what they are of.

    A page of the site map for which there is nothing here raises KeyError: whoever adds one furnishes it.
    """
    found = []
    for page in pages:
        if page.method != "GET" or page.path in SKIPPED:
            continue
        if page.path == "/bulk/{goal}":
            ids = "&".join(f"id={each}" for each in there["connection_id"])
            found += [f"/bulk/{goal}?{ids}" for goal in ("rotate", "contain")]
            continue
        names = re.findall(r"\{(\w+)\}", page.path)
        first = _OF_KIND.get(page.path) or (there[names[0]] if names else [""])
        is_whole = page.path.endswith(
            "}"
        )  # the thing itself, in every state; what lies under it, of two of them
        for number, value in enumerate(first if is_whole else first[:2]):
            path = page.path.replace(f"{{{names[0]}}}", value) if names else page.path
            for name in names[1:]:
                values = there[_OF_NAME.get(page.path, {}).get(name, name)]
                path = path.replace(f"{{{name}}}", values[min(number, len(values) - 1)])
            found.append(path)
    return found


# -- pages that are reached by doing something ---------------------------------------------------------------------------

Page = Any
There = dict[str, Any]


def _press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()
    page.wait_for_load_state()


def _issued_value(page: Page, _: There) -> None:
    page.goto("/issued/new/api-key")
    page.fill("#f-name", new_id("key"))
    _press(page, "Issue it")
    page.locator("#value").wait_for()


def _many(page: Page, _: There) -> None:
    page.goto("/issued/end")
    page.select_option("#f-kind", "api-key")
    _press(page, "Show what that is")
    page.locator("button.danger").wait_for()


def _consent(page: Page, there: There) -> None:
    page.goto(there["ask"][0])
    page.get_by_role("button", name="Allow").wait_for()


def _made(selector: str, button: str, path: str) -> Callable[[Page, There], None]:
    """Presses a button of a page, with everything unfolded, and waits for what its answer shows."""

    def visit(page: Page, there: There) -> None:
        page.goto(re.sub(r"\{(\w+)\}", lambda m: there[m[1]][-1], path))
        page.evaluate("document.querySelectorAll('details.more').forEach((each) => { each.open = true; })")
        for field in page.query_selector_all("#f-name, #person-login"):
            field.fill(new_id("new"))
        for box in page.query_selector_all("input[name=scope]")[:1]:
            box.check()
        _press(page, button)
        page.locator(selector).first.wait_for()

    return visit


def _look(page: Page, there: There) -> None:
    page.goto(f"/connections/{there['connection_id'][0]}")
    _press(page, "Look at the vendor")
    page.get_by_role("heading", name="sees").wait_for()


def _error(page: Page, _: There) -> None:
    page.goto(GONE)


def is_trouble(message: Any) -> bool:
    """Whether the console says something that should not be; a page that is not there is expected where we ask for it."""
    return message.type in {"error", "warning"} and not message.location["url"].endswith(GONE)


def sign_in(page: Page) -> None:
    """As the administrator of the furnished hub."""
    page.goto("/sign-in")
    page.fill("#f-login", "ada")
    page.fill("#f-password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")


DONE: Mapping[str, Callable[[Page, There], None]] = {
    "consent": _consent,
    "issued-value": _issued_value,
    "issued-end": _many,
    "issued-link": _made("#link", "Make a link", "/issued/{issued_id}"),
    "help-link": _made("#link", "Make a link", "/tasks/{task_id}"),
    "token": _made("#token", "Make the token", "/people/{account_id}"),
    "invited": _made("#link", "Invite", "/people"),
    "told-secret": _made("#value", "Make a new one", "/settings/told/{recipient_id}"),
    "look": _look,
    "error": _error,
}


def _door(path: str) -> Callable[[Page, There], None]:
    def visit(page: Page, _: There) -> None:
        page.goto(path)

    return visit


def _code(page: Page, _: There) -> None:
    page.goto("/sign-in")
    page.fill("#f-login", "tess")
    page.fill("#f-password", PASSWORD)
    page.keyboard.press("Enter")
    page.locator("#f-code").wait_for()


def _help(page: Page, there: There) -> None:
    page.goto("about:blank")  # else only what is behind the # of an open page would change
    page.goto(f"/help#{next(there['helper'])}")
    _press(page, "Open the task")
    page.get_by_role("heading", name="What to do").wait_for()


STRANGERS: Mapping[str, Callable[[Page, There], None]] = {
    "sign-in": _door("/sign-in"),
    "join": _door("/join"),
    "help-door": _door("/help"),
    "help": _help,
    "sign-in-code": _code,
}


def prepare(hub: Any, there: There) -> None:
    """What the visits need: an application's request, and links for helpers, each of which works once."""
    app = issued.issue(hub, "oauth-app", "Customer portal", {"callback_urls": _BACK, "scopes": "read"})
    asked = {
        "response_type": "code",
        "client_id": app.client_id,
        "redirect_uri": _BACK,
        "scope": "read",
        "state": "x",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
    }
    there["ask"] = [f"/oauth/authorize?{urlencode(asked)}"]
    there["helper"] = (  # each made when it is needed: a new link voids the one before
        links.make(hub, LOCAL, there["task_id"][0], "ann").url.reveal().partition("#")[2] for _ in count()
    )


_BACK = "https://portal.example.com/back"
