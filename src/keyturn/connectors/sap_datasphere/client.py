"""The reset of a database user's password: found in the tenant's own discovery document, never by a path of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from keyturn.contract.values import Access
from keyturn.definitions.calls import basic
from keyturn.errors import (
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.http import Answer, Request, send

DISCOVERY, OPERATION = "/dwaas-core/api/v1/discovery", "dbusers password reset"
RIGHT = "DW Space Administrator"
_MOST_BYTES = 4_000_000  # a tenant's document lists every command there is
_DEEP = 6


@dataclass(frozen=True)
class Operation:
    """A call as the document describes it; `wants_csrf` where it declares that header."""

    method: str
    path: str
    places: Mapping[str, str]
    wants_csrf: bool


class Tenant:
    """The calls of one reset under one deadline; the token is not kept beyond it."""

    def __init__(self, access: Access) -> None:
        found: Mapping[str, str] = access.admin or {}
        self._id, self._secret = found.get("admin_client_id", ""), found.get("admin_client_secret", "")
        self._access, self._until = access, time.monotonic() + access.deadline_s
        self._base = str(access.settings.get("tenant") or "").rstrip("/")
        self._token_url = str(access.settings.get("token_url") or "")
        if not self._id or not self._secret:
            raise PermissionMissing(
                "a reset needs an OAuth client of the tenant",
                hint="Give admin_client_id and admin_client_secret, or let a person reset it.",
                right=RIGHT,
            )
        for name, value in (("tenant", self._base), ("token_url", self._token_url)):
            if not value:
                raise InvalidInput(f"{name} is needed for a reset by the hub", field=name)

    def reset(self, user: str) -> bytes:
        """The raw answer to a reset of `user`. Everything before the one POST changes nothing.

        A token that is refused was not acted on, so the same POST is sent again once, with a new one.
        """
        token = self._token()
        operation = _operation(self._get(DISCOVERY, token))
        values = {"space": user.partition("#")[0], "databaseuser": user}
        path, query = _filled(operation, values)
        for last in (False, True):
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            if operation.wants_csrf:
                headers["x-csrf-token"] = self._csrf(path, token)
            answer = self._send(operation.method, f"{self._base}{path}{query}", headers, changes=True)
            if answer.status == 401 and not last:
                token = self._token()
                continue
            if 200 <= answer.status < 300:
                return answer.body
            raise _refusal(answer, changes=True)
        raise AssertionError("unreachable: the second round returns or raises")

    def _token(self) -> str:
        form = {"grant_type": "client_credentials", "response_type": "token", "client_id": self._id}
        headers = {
            "Authorization": basic(quote_plus(self._id), quote_plus(self._secret)),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        if self._id.isascii() and "!" in self._id:  # as SAP's own client sends it: not form-encoded first
            headers["Authorization"] = basic(self._id, self._secret)
        answer = self._send("POST", self._token_url, headers, urlencode(form).encode())
        if answer.status != 200:
            if answer.status in {400, 401}:
                raise PermissionMissing(
                    "the tenant refuses the OAuth client",
                    hint="Check its id and secret under App Integration.",
                    right=RIGHT,
                    status=answer.status,
                )
            raise _refusal(answer, changes=False)
        body = answer.json()
        found = body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(found, str) or not found:
            raise UnexpectedAnswer(f"{answer.host} answered without a token", status=answer.status)
        return found

    def _get(self, path: str, token: str) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        answer = self._send("GET", f"{self._base}{path}", headers)
        if answer.status != 200:
            raise _refusal(answer, changes=False)
        return answer.json()

    def _csrf(self, path: str, token: str) -> str:
        headers = {"Authorization": f"Bearer {token}", "x-csrf-token": "fetch"}
        answer = self._send("GET", f"{self._base}{path}", headers)
        found = answer.header("x-csrf-token")
        if not found and answer.status >= 400:
            raise _refusal(answer, changes=False)
        if not found:
            raise VendorUnavailable(f"{answer.host} gave no x-csrf-token", status=answer.status)
        return found

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes = b"", *, changes: bool = False
    ) -> Answer:
        left = self._until - time.monotonic()
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        request = Request(method, url, headers, body, left, max_bytes=_MOST_BYTES, changes=changes)
        return send(request, self._access.network)


def password_in(raw: bytes) -> str:
    """The one text under a key named `password`, wherever the answer has it. Raises: UnexpectedAnswer."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer("the answer to the reset is not JSON") from None
    found = _passwords(body, _DEEP)
    if len(found) != 1:
        raise UnexpectedAnswer(
            f"the answer to the reset holds {'no' if not found else 'more than one'} password",
            hint="Nothing is lost: a reset can be made again.",
        )
    return found.pop()


def _passwords(value: Any, deep: int) -> set[str]:
    found: set[str] = set()
    if deep and isinstance(value, dict):
        for key, inner in value.items():
            if key.lower() == "password" and isinstance(inner, str) and inner:
                found.add(inner)
            found |= _passwords(inner, deep - 1)
    elif deep and isinstance(value, list):
        for inner in value:
            found |= _passwords(inner, deep - 1)
    return found


def _operation(document: Any) -> Operation:
    """The reset in the discovery document. Raises: UnexpectedAnswer when there is none, or one that asks for more."""
    paths = document.get("paths") if isinstance(document, dict) else None
    for path, methods in paths.items() if isinstance(paths, dict) else ():
        for method, block in methods.items() if isinstance(methods, dict) else ():
            if not isinstance(block, dict) or block.get("operationId") != OPERATION:
                continue
            places = {}
            listed = [*(methods.get("parameters") or []), *(block.get("parameters") or [])]
            for each in listed:
                if isinstance(each, dict) and isinstance(each.get("name"), str):
                    places[each["name"]] = str(each.get("in", ""))
                    known = each["name"].lower() in {"space", "databaseuser", "x-csrf-token"}
                    if each.get("required") and not known:
                        raise UnexpectedAnswer(
                            f"the reset asks for {each['name'][:60]}, which is not known here"
                        )
            if method.upper() not in {"POST", "PUT", "PATCH"} or not path.startswith("/") or "//" in path:
                raise UnexpectedAnswer("the discovery document describes the reset in an unknown way")
            return Operation(
                method.upper(), path, places, "x-csrf-token" in {name.lower() for name in places}
            )
    raise UnexpectedAnswer(
        "the tenant's discovery document has no reset of database users",
        hint="The OAuth client may lack the role, or the release renamed the command. Let a person reset it.",
    )


def _filled(operation: Operation, values: Mapping[str, str]) -> tuple[str, str]:
    """Path and query with the values encoded: `#` would end the address."""
    path, query = operation.path, {}
    for name, place in operation.places.items():
        value = values.get(name.lower())
        if value is None:
            continue
        if place == "query":
            query[name] = value
        else:
            path = path.replace("{" + name + "}", quote(value, safe=""))
    if "{" in path:
        raise UnexpectedAnswer("the reset's path has a part that is not known here")
    return path, f"?{urlencode(query)}" if query else ""


def _refusal(answer: Answer, *, changes: bool) -> KeyturnError:
    """By status alone: the bodies are not documented."""
    facts: dict[str, Any] = {"status": answer.status, "host": answer.host}
    page = "html" in answer.header("content-type").lower()
    if answer.status == 429:
        told = answer.header("Retry-After")
        wait: dict[str, Any] = {"wait_s": min(float(told), 86_400.0)} if told.isdigit() else {}
        return VendorThrottled(f"{answer.host} told us to wait", **wait, **facts)
    if answer.status in {401, 403} and not page:
        return PermissionMissing("the OAuth client may not reset this database user", right=RIGHT, **facts)
    if answer.status == 404 and not page:
        return NotFound("the space or the database user does not exist", **facts)
    if changes:
        return OutcomeUnknown(f"{answer.host} gave no clear answer to the reset", **facts)
    if answer.status >= 500:
        return VendorUnavailable(f"{answer.host} is not available", **facts)
    return UnexpectedAnswer(f"{answer.host} answered {answer.status}", **facts)
