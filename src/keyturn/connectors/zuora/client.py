"""Zuora's calls: the token endpoint, which tells who a client is, and one cheap read. Nothing is kept between calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import urlencode

from keyturn.contract.values import Access
from keyturn.errors import UnexpectedAnswer, VendorUnavailable
from keyturn.model.secret import Material
from keyturn.transport.http import Answer, Request, send

HOSTS = ("*.zuora.com",)
ONE_ID = "https://one.zuora.com"
MOST_OBJECTS = 99
READ = "/v1/catalog/products?pageSize=1"
LONGEST_WAIT_S = 86_400.0
_PASSING = "Failed to get user info"


class Meaning(Enum):
    """What an answer says."""

    FINE = auto()
    REFUSED = auto()  # the credential or the bearer token is not accepted
    PERMISSION = auto()  # it is known, and its user lacks a right
    THROTTLED = auto()
    LATER = auto()
    UNCLEAR = auto()


# The last two digits of Zuora's eight-digit codes name the category; texts are never read.
# Source: https://developer.zuora.com/docs/guides/error-codes (checked 2026-11-23); 50, 60, 61 and 70 are unconfirmed.
_CATEGORIES = {
    10: Meaning.PERMISSION,
    11: Meaning.REFUSED,
    50: Meaning.LATER,
    60: Meaning.LATER,
    61: Meaning.LATER,
    70: Meaning.THROTTLED,
}


@dataclass(frozen=True)
class Token:
    """A bearer token and what its scope tells; empty texts are not told."""

    value: str
    user: str
    tenant: str
    entities: frozenset[str]


class Calls:
    """The calls of one capability, within one deadline."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._until = time.monotonic() + access.deadline_s

    def ask_token(self, material: Material) -> Answer:
        """Trades a client for a token. No Authorization header may be sent along.

        Source: https://developer.zuora.com/v1-api-reference/api/operation/createToken (checked 2026-11-23).
        """
        settings = self._access.settings
        one_id = settings.get("client_kind") == "oneid"
        base = str(settings.get("base_url") or "") or (ONE_ID if one_id else self._api())
        fields = {
            "client_id": material["client_id"].strip(),
            "client_secret": material["client_secret"].strip(),
            "grant_type": "client_credentials",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self._entity()}
        path = "/oauth2/token" if one_id else "/oauth/token"
        return self._send("POST", base.rstrip("/") + path, headers, urlencode(fields).encode())

    def read(self, token: Token) -> Answer:
        """One cheap read, as the token's user."""
        return self._send(
            "GET", self._api() + READ, {"Authorization": f"Bearer {token.value}", **self._entity()}
        )

    def query(self, token: Token, objects: str, limit: int) -> Answer:
        """A page of objects, as the token's user.

        Source: https://developer.zuora.com/docs/guides/pagination (Object Query: pageSize 1 to 99), checked 2026-11-29.
        """
        url = f"{self._api()}/object-query/{objects}?pageSize={min(limit, MOST_OBJECTS):d}"
        return self._send("GET", url, {"Authorization": f"Bearer {token.value}", **self._entity()})

    def _api(self) -> str:
        settings = self._access.settings
        return str(settings.get("base_url") or f"https://{settings['data_centre']}").rstrip("/")

    def _entity(self) -> dict[str, str]:
        entity = str(self._access.settings.get("entity") or "")
        return {"Zuora-Entity-Ids": entity} if entity else {}

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        left = self._until - time.monotonic()
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        whole = {"Accept": "application/json", **headers}
        return send(Request(method, url, whole, body, timeout_s=left, hosts=HOSTS), self._access.network)


def token_of(answer: Answer) -> Token:
    """The token inside an answer that is fine, with its identity out of the scope. Raises: UnexpectedAnswer."""
    body = _body(answer)
    value, scope = body.get("access_token"), body.get("scope")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
        raise UnexpectedAnswer("Zuora answered without an access token", status=answer.status)
    pieces = scope.split() if isinstance(scope, str) else []

    def told(prefix: str) -> frozenset[str]:
        return frozenset(each for each in pieces if each.startswith(prefix) and each != prefix)

    def only(prefix: str) -> str:
        found = told(prefix)
        return next(iter(found)) if len(found) == 1 else ""

    return Token(value, only("user."), only("tenant."), told("entity."))


def meaning_of_token(answer: Answer) -> Meaning:
    """What the token endpoint says. The body of its refusal is not documented: status first, category where given."""
    found = _general(answer)
    if found is not None:
        return found
    categories, body = _categories(answer), _body(answer)
    if not _says_no(answer):
        return Meaning.FINE
    known = _of_categories(categories)
    if known is not None:
        return known
    if answer.status == 401 or body.get("error") in ("invalid_client", "unauthorized_client"):
        return Meaning.REFUSED
    told = isinstance(body.get("message"), str)
    return Meaning.REFUSED if answer.status in {400, 403} and told and not categories else Meaning.UNCLEAR


def meaning_of_read(answer: Answer) -> Meaning:
    """What the API says to a bearer token; HTTP 200 with `success: false` is an error."""
    found = _general(answer)
    if found is not None:
        return found
    body = _body(answer)
    if not _says_no(answer):
        return Meaning.FINE if body.get("success") is True else Meaning.UNCLEAR
    known = _of_categories(_categories(answer))
    if known is not None:
        return known
    if answer.status == 401:
        return Meaning.LATER if body.get("message") == _PASSING else Meaning.REFUSED
    return Meaning.PERMISSION if answer.status == 403 and "message" in body else Meaning.UNCLEAR


def objects_in(answer: Answer) -> int | None:
    """How many objects an answer of the Object Query API lists; None when it is no such list."""
    body = _body(answer)
    rows = body.get("data")
    if (
        answer.status != 200
        or "json" not in answer.header("Content-Type").lower()
        or body.get("success") is False
    ):
        return None
    return len(rows) if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def wait_s(answer: Answer) -> float:
    """How long the answer says to wait: `Retry-After` or `ratelimit-reset`, both in seconds; 0 when not told."""
    for name in ("Retry-After", "ratelimit-reset"):
        text = answer.header(name).strip()
        if text.isdigit():
            return min(float(text), LONGEST_WAIT_S)
    return 0.0


def _general(answer: Answer) -> Meaning | None:
    """What needs no reading of the body; None when the body decides."""
    if answer.status == 429:
        return Meaning.THROTTLED
    if answer.status >= 500 or answer.status == 408:
        return Meaning.LATER
    is_json = "json" in answer.header("Content-Type").lower()
    return None if is_json and answer.status in {200, 400, 401, 403} and _body(answer) else Meaning.UNCLEAR


def _says_no(answer: Answer) -> bool:
    return answer.status != 200 or _body(answer).get("success") is False


def _of_categories(categories: list[int]) -> Meaning | None:
    """The meaning of the categories; refused only when all say so. None: nothing known is said."""
    found = [_CATEGORIES[each] for each in categories if each in _CATEGORIES]
    if not found:
        return None
    return found[0] if len(set(found)) == 1 and len(found) == len(categories) else Meaning.UNCLEAR


def _categories(answer: Answer) -> list[int]:
    body = _body(answer)
    reasons = body.get("reasons")
    rows = [body, *(reasons if isinstance(reasons, list) else [])]
    codes = [row.get("code") for row in rows if isinstance(row, dict)]
    return [int(str(code)[-2:]) for code in codes if str(code).isdecimal() and len(str(code)) == 8]


def _body(answer: Answer) -> dict[str, Any]:
    try:
        found = answer.json()
    except UnexpectedAnswer:
        return {}
    return found if isinstance(found, dict) else {}
