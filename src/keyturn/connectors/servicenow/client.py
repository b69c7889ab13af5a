"""The Table API and revocation calls of ServiceNow: one row or none, never a filter's word alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from keyturn.contract.values import Access
from keyturn.definitions.calls import basic
from keyturn.errors import (
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.http import Answer, Request, send

ENTRIES, TOKENS = "oauth_entity", "oauth_credential"
HOSTS = ("*.service-now.com",)
RIGHT = "oauth_admin"
PAGE, MOST_PAGES = 100, 20
_SYS_ID = re.compile(r"^[0-9a-f]{32}$")
_CLIENT_ID = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_FIELDS = "sys_id,name,client_id,type,active,redirect_url,access_token_lifespan,refresh_token_lifespan,sys_updated_on"


@dataclass(frozen=True)
class Entry:
    """One record of the application registry."""

    sys_id: str
    client_id: str
    name: str
    is_active: bool
    redirect_url: str = ""
    access_token_lifespan: str = ""
    refresh_token_lifespan: str = ""
    updated: str = ""


@dataclass(frozen=True)
class Token:
    """One record of the token table; `user` is a user name."""

    sys_id: str
    user: str
    kind: str
    expires: str


def need_admin(access: Access) -> tuple[str, str]:
    """The administrator's name and password. Raises: PermissionMissing."""
    found: Mapping[str, str] = access.admin or {}
    name, password = found.get("admin_user", ""), found.get("admin_password", "")
    if not name or not password:
        raise PermissionMissing(
            "the application registry needs an administrator",
            hint="Give admin_user and admin_password, or set registry to person.",
            right=RIGHT,
        )
    return name, password


def entries(access: Access) -> tuple[Entry, ...]:
    """Every entry for external clients that the administrator sees, all pages. Raises: PermissionMissing for none:
    an instance comes with some, so an empty list means that rows are hidden.
    """
    found = tuple(_entry(row) for row in _rows(access, ENTRIES, "type=client", _FIELDS))
    if not found and not list(_rows(access, ENTRIES, "", "sys_id", most=1)):
        raise PermissionMissing(
            "the application registry shows no row at all",
            hint="The administrator lacks the right, or the table is closed to web services.",
            right=f"{RIGHT}, web service access to {ENTRIES}",
        )
    return found


def entry_of(access: Access, client_id: str) -> Entry | None:
    """The entry with this client id; None when the registry is readable and has none. Raises: UnexpectedAnswer when
    more rows come than asked for, or another one: the filter was dropped.
    """
    if not _CLIENT_ID.fullmatch(client_id):
        raise InvalidInput("the client id does not have the expected form", field="client_id")
    rows = list(_rows(access, ENTRIES, f"client_id={client_id}", _FIELDS, most=2))
    if not rows:
        entries(access)  # nothing at all is no answer
        return None
    found = _entry(rows[0])
    if len(rows) > 1 or found.client_id != client_id:
        raise UnexpectedAnswer(
            "the registry answered with other rows than asked for: the filter was dropped",
            hint="Let the administrator read client_id, or set glide.invalid_query.returns_no_rows to true.",
        )
    return found


def tokens_of(access: Access, entry: Entry) -> tuple[Token, ...]:
    """The tokens related to an entry. Raises: UnexpectedAnswer when a row belongs to another one."""
    found = []
    fields = "sys_id,peer,user,user.user_name,type,expires,sys_created_on"
    for row in _rows(access, TOKENS, f"peer={entry.sys_id}", fields):
        if _value(row, "peer") != entry.sys_id:
            raise UnexpectedAnswer("the token table answered with rows of other entries")
        found.append(
            Token(_sys_id(row), _value(row, "user.user_name"), _value(row, "type"), _value(row, "expires"))
        )
    return tuple(found)


def create(access: Access, values: dict[str, str]) -> Entry:
    """Adds an entry. Raises: OutcomeUnknown when the answer is lost."""
    answer = _call(access, "POST", f"{ENTRIES}?sysparm_input_display_value=true", values)
    if answer.status != 201:
        raise _refusal(answer, changes=True)
    return _entry(_result(answer))


def change(access: Access, entry: Entry, values: dict[str, str]) -> None:
    """Writes fields of exactly this entry."""
    answer = _call(access, "PATCH", f"{ENTRIES}/{entry.sys_id}?sysparm_input_display_value=true", values)
    if answer.status != 200 or _sys_id(_result(answer)) != entry.sys_id:
        raise _refusal(answer, changes=True)


def delete(access: Access, table: str, sys_id: str) -> None:
    """Deletes a row. Already gone counts as done."""
    answer = _call(access, "DELETE", f"{table}/{sys_id}")
    if answer.status == 204 or (answer.status == 404 and "No Record found" in answer.text()[:4096]):
        return
    raise _refusal(answer, changes=True)


def end_token(access: Access, token: str) -> None:
    """Marks a token expired. The vendor takes it in the query only, from anybody who holds it; it is never shown."""
    url = f"{_base(access)}/oauth_revoke_token.do?{urlencode({'token': token})}"
    answer = send(_request(access, "GET", url, {}, changes=True), access.network)
    start = answer.text()[:200].lstrip().lower()
    if answer.status != 200 or start.startswith(("<!doctype", "<html")):
        raise _refusal(answer, changes=True)  # a page is somebody else's answer: a login, a sleeping instance


def _rows(access: Access, table: str, query: str, fields: str, most: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of a query, page by page; `most` limits it to that many."""
    for page in range(MOST_PAGES):
        limit = most or PAGE
        asked = {"sysparm_fields": fields, "sysparm_limit": str(limit), "sysparm_offset": str(page * limit)}
        if query:
            asked["sysparm_query"] = f"{query}^ORDERBYsys_id" if not most else query
        answer = _call(access, "GET", f"{table}?{urlencode(asked, quote_via=quote)}")
        if answer.status != 200:
            raise _refusal(answer, changes=False)
        rows = _result(answer)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnexpectedAnswer(f"{answer.host} answered without a list of rows", status=answer.status)
        yield from rows
        if most or len(rows) < limit:
            return
    raise UnexpectedAnswer(f"{table} has more than {MOST_PAGES * PAGE} rows")


def _call(access: Access, method: str, path: str, values: dict[str, str] | None = None) -> Answer:
    name, password = need_admin(access)
    headers = {"Accept": "application/json", "Authorization": basic(name, password)}
    body = b""
    if values is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(values).encode()
    url = f"{_base(access)}/api/now/table/{path}"
    return send(_request(access, method, url, headers, body, changes=method != "GET"), access.network)


def _request(
    access: Access, method: str, url: str, headers: dict[str, str], body: bytes = b"", *, changes: bool
) -> Request:
    return Request(
        method, url, headers, body, access.deadline_s, max_bytes=2_000_000, hosts=HOSTS, changes=changes
    )


def _base(access: Access) -> str:
    return str(access.settings.get("url") or "").rstrip("/")


def _result(answer: Answer) -> Any:
    body = answer.json()
    if not isinstance(body, dict) or "result" not in body:
        raise UnexpectedAnswer(f"{answer.host} answered without a result", status=answer.status)
    return body["result"]


def _refusal(answer: Answer, *, changes: bool) -> Exception:
    """The error an answer is. Only the documented envelope counts as a refusal; the rest leaves the outcome open."""
    facts: dict[str, Any] = {"status": answer.status, "host": answer.host}
    try:
        body = answer.json()
    except UnexpectedAnswer:
        body = None
    error = body.get("error") if isinstance(body, dict) and body.get("status") == "failure" else None
    message = str(error.get("message", "")) if isinstance(error, dict) else ""
    if answer.status == 429:
        return VendorThrottled(f"{answer.host} told us to wait", **_wait(answer), **facts)
    if answer.status == 401 and message == "User Not Authenticated":
        return PermissionMissing(
            "the administrator's name or password is refused", hint="Correct them.", right=RIGHT, **facts
        )
    if answer.status == 403 and error is not None:
        return PermissionMissing("the administrator lacks a right on the registry", right=RIGHT, **facts)
    if answer.status == 404 and message == "No Record found":
        return NotFound("the registry entry is not there", **facts)
    if answer.status == 400 and message.startswith("Invalid table"):
        return PermissionMissing("the table is closed to web services", right="web service access", **facts)
    if answer.status == 400 and error is not None:
        return ValueRefused("the instance refused the values", **facts)
    if answer.status >= 500 and not changes:
        return VendorUnavailable(f"{answer.host} is not available", **facts)
    if changes:
        return OutcomeUnknown(f"{answer.host} gave no clear answer to a change", **facts)
    return UnexpectedAnswer(f"{answer.host} answered outside the documentation", **facts)


def _wait(answer: Answer) -> dict[str, Any]:
    told = answer.header("Retry-After")
    return {"wait_s": min(float(told), 86_400.0)} if told.isdigit() else {}


def _entry(row: Any) -> Entry:
    if not isinstance(row, dict):
        raise UnexpectedAnswer("the registry answered with something that is no row")
    return Entry(
        _sys_id(row),
        _value(row, "client_id"),
        _value(row, "name"),
        _value(row, "active") == "true",
        _value(row, "redirect_url"),
        _value(row, "access_token_lifespan"),
        _value(row, "refresh_token_lifespan"),
        _value(row, "sys_updated_on"),
    )


def _sys_id(row: Any) -> str:
    found = _value(row, "sys_id") if isinstance(row, dict) else ""
    if not _SYS_ID.fullmatch(found):
        raise UnexpectedAnswer("a row has no sys_id")
    return found


def _value(row: dict[str, Any], name: str) -> str:
    """A column's value; references come as `{"link": .., "value": ..}`."""
    found = row.get(name, "")
    if isinstance(found, dict):
        found = found.get("value", "")
    return found if isinstance(found, str) else ""
