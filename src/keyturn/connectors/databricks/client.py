"""The calls to a Databricks workspace or account, and what their answers mean; who makes them is decided elsewhere.

Source: databricks-sdk 0.156.0 (oauth.py, service/oauth2.py, iam.py, settings.py), checked 2026-11-23.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from keyturn.contract.values import Access
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.transport.http import Answer, Request, send

# Wherever Databricks serves workspaces and accounts; a secret is sent nowhere else. Source: databricks/sdk/environments.py.
HOSTS = (
    "*.cloud.databricks.com",
    "*.gcp.databricks.com",
    "*.azuredatabricks.net",
    "*.databricks.azure.us",
    "*.databricks.azure.cn",
    "*.cloud.databricks.us",
    "*.cloud.databricks.mil",
)
SCIM = "/api/2.0/preview/scim/v2"
ME = f"{SCIM}/Me"
GONE = "RESOURCE_DOES_NOT_EXIST"
DEAD = "Invalid access token"
DEAD_CODE = "invalid_access_token"
NOT_SENT = "Credential was not sent or was of an unsupported type"
MOST_PAGES = 20
_TIMEOUT_S = 15.0
_BYTES = 1_048_576


@dataclass(frozen=True)
class Line:
    """A workspace or an account for the length of one capability call: one deadline over all its requests."""

    access: Access
    base: str
    until: float
    bearer: str = ""

    @classmethod
    def to(cls, access: Access, base: str, bearer: str = "") -> Line:
        """The deadline starts now."""
        return cls(access, base.rstrip("/"), time.monotonic() + access.deadline_s, bearer)

    def holding(self, bearer: str) -> Line:
        """The same line with a token; the deadline runs on."""
        return Line(self.access, self.base, self.until, bearer)

    def call(
        self, method: str, path: str, body: Any = None, *, changes: bool = False, **query: str
    ) -> Answer:
        """One signed call. Raises only what transport raises: every answer is handed back."""
        headers = {"Authorization": f"Bearer {self.bearer}", "Accept": "application/json"}
        data = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        tail = "?" + urlencode(query, quote_via=quote) if query else ""
        return self.send(Request(method, f"{self.base}{path}{tail}", headers, data, changes=changes))

    def send(self, request: Request) -> Answer:
        """The request within the time that is left."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        bounded = Request(
            request.method,
            request.url,
            request.headers,
            request.body,
            timeout_s=min(_TIMEOUT_S, left),
            max_bytes=_BYTES,
            hosts=HOSTS,
            changes=request.changes,
        )
        return send(bounded, self.access.network)


def workspace(access: Access) -> str:
    """The workspace's address: a bare server host name, as Databricks shows it, means https."""
    host = str(access.settings.get("host") or "").rstrip("/")
    if not host:
        raise InvalidInput("host is missing", field="host")
    return host if "://" in host else f"https://{host}"


def login(line: Line, path: str, client: Material) -> Line:
    """The line with a fresh access token of the client. Nothing is cached: an old token outlives its secret.

    Raises: CredentialRejected for the one documented refusal, `invalid_client`.
    """
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    pair = f"{quote_plus(client.get('client_id', ''))}:{quote_plus(client.get('client_secret', ''))}"
    headers = {
        "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    body = urlencode({"grant_type": "client_credentials", "scope": "all-apis"}).encode()
    answer = line.send(Request("POST", f"{line.base}{path}", headers, body))
    said = object_in(answer)
    token = said.get("access_token")
    if answer.status == 200 and isinstance(token, str) and token:
        return line.holding(token)
    code = str(said.get("error", ""))
    if answer.status == 401 and code == "invalid_client":
        raise CredentialRejected(
            "Databricks refused the client id and secret",
            hint="The secret is wrong, deleted or expired, or the service principal is not in this workspace.",
            status=401,
            code=code,
        )
    # The token endpoint throttles under another name: terraform-provider-databricks issue 2042.
    if answer.status == 429 or (
        code == "invalid_request" and "throttled" in str(said.get("error_description"))
    ):
        raise _throttled(answer)
    if answer.status >= 500:
        raise VendorUnavailable(f"{answer.host} failed ({answer.status})", status=answer.status)
    raise _unexpected(answer, "token")


def me(line: Line) -> Answer:
    """Who the token belongs to: the cheapest call that every principal may make."""
    answer = line.call("GET", ME)
    if answer.status != 200:
        raise refusal(answer, "workspace access")
    if not isinstance(object_in(answer).get("userName"), str):
        raise _unexpected(answer, "Me")
    return answer


def principal_id(line: Line, scim: str, application_id: str) -> str:
    """The numeric id that the secrets API wants in place of the UUID. Raises: InvalidInput when there is none."""
    return _number(line, f"{scim}/ServicePrincipals", "applicationId", application_id, "client_id")


def user_id(line: Line, user_name: str) -> str:
    """The numeric id of a user. Raises: InvalidInput when there is none."""
    return _number(line, f"{SCIM}/Users", "userName", user_name, "user_name")


def _number(line: Line, path: str, attribute: str, value: str, field: str) -> str:
    answer = line.call("GET", path, filter=f'{attribute} eq "{value}"', startIndex="1", count="100")
    if answer.status != 200:
        raise refusal(answer, "list service principals and users")
    found = object_in(answer).get("Resources", [])
    rows = [r for r in found if isinstance(r, dict) and r.get(attribute) == value] if found else []
    if len(rows) != 1 or not str(rows[0].get("id", "")).isdigit():
        raise InvalidInput(
            f"{answer.host} does not know {value}",
            hint="Check the id, and that it was added to this workspace or account.",
            field=field,
        )
    return str(rows[0]["id"])


def pages(line: Line, path: str, key: str, right: str) -> Iterator[dict[str, Any]]:
    """Every row of a list. A list that does not end is an error, never a short list."""
    query: dict[str, Any] = {}
    for _ in range(MOST_PAGES):
        answer = line.call("GET", path, **query)
        if answer.status != 200:
            raise refusal(answer, right)
        said = object_in(answer)
        rows = said.get(key, [])
        # An empty object is an empty list; anything else without the key's rows is no list at all.
        if not isinstance(rows, list) or not is_object(answer):
            raise _unexpected(answer, "list")
        yield from (row for row in rows if isinstance(row, dict))
        following = said.get("next_page_token")
        if not following:
            return
        query = {"page_token": str(following)}
    raise UnexpectedAnswer(f"the list goes on after {MOST_PAGES} pages", host=line.base)


def is_gone(answer: Answer) -> bool:
    """A delete that found nothing: only in the vendor's own words, not any 404."""
    return answer.status == 404 and object_in(answer).get("error_code") == GONE


def refusal(answer: Answer, right: str, *, changes: bool = False) -> KeyturnError:
    """The error that an answer is. A page, a redirect or a body without words says nothing."""
    said = object_in(answer)
    code, message = str(said.get("error_code", "")), words_of(said)
    facts: dict[str, Any] = {"status": answer.status, "host": answer.host, **({"code": code} if code else {})}
    if answer.status == 429:
        return _throttled(answer)
    if answer.status >= 500:
        words = f"{answer.host} failed ({answer.status})"
        return OutcomeUnknown(words, **facts) if changes else VendorUnavailable(words, **facts)
    if not message:
        return _unexpected(answer, right)
    if is_dead(answer):
        return CredentialRejected("Databricks refused the access token", status=answer.status, code=DEAD_CODE)
    if answer.status == 403:
        hint = "The workspace's IP access list blocks this machine." if "IP ACL" in message else ""
        return PermissionMissing(f"Databricks does not permit this: {right}", hint=hint, right=right, **facts)
    if answer.status == 404:
        return NotFound(f"Databricks does not find it: {right}", **facts)
    if answer.status == 400:
        return ValueRefused(f"Databricks refused the request ({code or 400}): {right}", **facts)
    return _unexpected(answer, right)


def is_dead(answer: Answer) -> bool:
    """The documented no to a bearer token. Seen with 403, and with 401 where it was of no known type.

    Source: databricks-sdk-go issues 873 and 917 (403, `error_code` a number); checked 2026-11-23.
    """
    message = words_of(object_in(answer))
    if answer.status not in {401, 403}:
        return False
    return message.startswith(DEAD) or (answer.status == 401 and message.startswith(NOT_SENT))


def words_of(said: dict[str, Any]) -> str:
    """The sentence in an error: `message`, or SCIM's `detail`."""
    words = said.get("message") or said.get("detail")
    return words if isinstance(words, str) else ""


def signs_its_own_end(access: Access, material: Material | None, part: str) -> bool:
    """Whether the credential that is to end is the one that signs; refused, it has ended."""
    if access.admin is not None or access.acting is None or material is None:
        return False
    return bool(material.get(part)) and material.get(part) == access.acting.get(part)


def object_in(answer: Answer) -> dict[str, Any]:
    """The JSON object in an answer that says it is JSON; empty for anything else."""
    return _json_object(answer) or {}


def is_object(answer: Answer) -> bool:
    """Whether the body is a JSON object at all, as an empty list's `{}` is."""
    return _json_object(answer) is not None


def _json_object(answer: Answer) -> dict[str, Any] | None:
    try:
        found = answer.json() if "json" in answer.header("content-type").lower() else None
    except UnexpectedAnswer:
        return None
    return found if isinstance(found, dict) else None


def instant(value: object) -> float | None:
    """Epoch seconds from RFC 3339 (secrets) or milliseconds (tokens); None for -1, which is never, and for nonsense."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value / 1000 if value > 0 else None
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def wait_of(answer: Answer) -> float:
    """Seconds to wait, where the vendor says so."""
    text = answer.header("retry-after")
    return float(text) if text.isdigit() else 0.0


def facts_of(found: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The named texts of a row. Raises: UnexpectedAnswer when one is absent or no text."""
    values = tuple(found.get(name) for name in names)
    if not all(isinstance(value, str) and value for value in values):
        raise UnexpectedAnswer("Databricks' answer holds no new credential")
    return tuple(str(value) for value in values)


def opened(receipt: bytes) -> dict[str, Any]:
    """The JSON object in a sealed answer. Raises: UnexpectedAnswer, quoting nothing."""
    found = object_in(Answer(200, {"content-type": "application/json"}, receipt))
    if not found:
        raise UnexpectedAnswer("Databricks' answer holds no new credential")
    return found


def _throttled(answer: Answer) -> VendorThrottled:
    wait = wait_of(answer)
    facts: dict[str, Any] = {"wait_s": wait} if wait else {}
    return VendorThrottled(f"{answer.host} told us to wait", **facts)


def _unexpected(answer: Answer, what: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"{answer.host} answered {answer.status} outside the documented shape ({what})",
        hint="Check the host: a login or error page may have answered.",
        status=answer.status,
        host=answer.host,
    )
