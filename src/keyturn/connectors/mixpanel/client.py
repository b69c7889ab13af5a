"""The calls to Mixpanel's app API in one region, and what their answers mean.

Source: mixpanel/docs, openapi/service-accounts.openapi.yaml (checked 2026-11-23).
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

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

REGIONS = {"US": "https://mixpanel.com", "EU": "https://eu.mixpanel.com", "IN": "https://in.mixpanel.com"}
HOSTS = ("mixpanel.com", "eu.mixpanel.com", "in.mixpanel.com")
REFUSED = "401"
_TIMEOUT_S = 15.0
_BYTES = 4_194_304
_WHERE = "Check the region as well: a project's data lives in one, and another answers like a wrong secret."


@dataclass(frozen=True)
class Line:
    """One region, signed by one service account, for the length of a capability call: one deadline for all requests."""

    access: Access
    base: str
    signer: Material
    until: float

    @classmethod
    def to(cls, access: Access, signer: Material) -> Line:
        """The deadline starts now."""
        return cls(access, _base(access), signer, time.monotonic() + access.deadline_s)

    def by(self, signer: Material) -> Line:
        """The same line signed by another; the deadline runs on."""
        return Line(self.access, self.base, signer, self.until)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        changes: bool = False,
        api: str = "app",
        **query: str,
    ) -> Answer:
        """One call of an API below `/api`. Raises only what transport raises: every answer is handed back."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        pair = f"{self.signer.get('username', '')}:{self.signer.get('secret', '')}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Accept": "application/json",
        }
        data = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        tail = "?" + urlencode(query) if query else ""
        request = Request(
            method,
            f"{self.base}/api/{api}{path}{tail}",
            headers,
            data,
            timeout_s=min(_TIMEOUT_S, left),
            max_bytes=_BYTES,
            hosts=HOSTS,
            changes=changes,
        )
        return send(request, self.access.network)

    def read(self, path: str, right: str, **query: Any) -> Any:
        """The `results` of a read. Raises: what `refusal` makes of anything else."""
        answer = self.call("GET", path, **query)
        if answer.status != 200 or not _is_ok(answer):
            raise refusal(answer, right)
        return object_in(answer)["results"]


def _base(access: Access) -> str:
    other = str(access.settings.get("base_url") or "").rstrip("/")
    region = str(access.settings.get("region") or "US")
    if not other and region not in REGIONS:
        raise InvalidInput("the region is US, EU or IN", field="region")
    return other or REGIONS[region]


def organization(access: Access) -> str:
    """The organization's number. Raises: InvalidInput."""
    return number(access.settings.get("organization_id"), "organization_id")


def number(value: object, field: str) -> str:
    """A number as it stands in a path. Raises: InvalidInput."""
    text = str(value or "")
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"{field} must be a number", field=field)
    return text


def me(line: Line) -> dict[str, Any]:
    """Who signs, and which organizations and projects it sees. Costs nothing of the query limits."""
    found = line.read("/me", "sign in", include_workspace_users="false")
    if not isinstance(found, dict):
        raise UnexpectedAnswer("Mixpanel's answer does not say who signed in")
    return found


def accounts(line: Line, org: str) -> list[dict[str, Any]]:
    """All service accounts of the organization, in one answer. Raises: UnexpectedAnswer for a row without an id."""
    return rows(line.read(f"/organizations/{org}/service-accounts", "owner or admin of the organization"))


def members(line: Line, project: str) -> list[dict[str, Any]]:
    """The service accounts of one project with their roles there."""
    return rows(line.read(f"/projects/{project}/service-accounts", "owner or admin of the project"))


def rows(found: object) -> list[dict[str, Any]]:
    """The rows of a list, each with its number and user name."""
    if not isinstance(found, list) or not all(
        isinstance(row, dict) and type(row.get("id")) is int and isinstance(row.get("username"), str)
        for row in found
    ):
        raise UnexpectedAnswer("Mixpanel's list of service accounts has another shape than documented")
    return found


def event_names(line: Line, project: str, limit: int) -> int:
    """How many events the project had in the last 31 days by name, at most `limit`. Costs one of 60 queries an hour.

    Source: mixpanel/docs, openapi/query.openapi.yaml GET /events/names (checked 2026-11-29).
    """
    answer = line.call(
        "GET", "/events/names", api="query", project_id=project, type="general", limit=str(limit)
    )
    if answer.status != 200:
        raise refusal(answer, f"queries in project {project}")
    names = answer.json() if "json" in answer.header("content-type").lower() else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnexpectedAnswer(f"{answer.host} answered without a list of events", status=answer.status)
    return min(len(names), limit)


def is_gone(answer: Answer) -> bool:
    """A delete that found nothing, in the vendor's own shape; a 404 page is something else."""
    return answer.status == 404 and _is_error(answer)


def is_done(answer: Answer) -> bool:
    """The documented yes to a change that answers with nothing else."""
    return answer.status == 200 and object_in(answer).get("status") == "ok"


def refusal(answer: Answer, right: str, *, changes: bool = False) -> KeyturnError:
    """The error that an answer is. Only `{"status": "error"}` with a documented code is a no; the rest says nothing."""
    facts: dict[str, Any] = {"status": answer.status, "host": answer.host}
    if answer.status == 429:
        return VendorThrottled(f"{answer.host} told us to wait", **facts)  # no header says how long
    if answer.status >= 500:
        words = f"{answer.host} failed ({answer.status})"
        return OutcomeUnknown(words, **facts) if changes else VendorUnavailable(words, **facts)
    if _is_error(answer):
        if answer.status == 401:
            return CredentialRejected(
                "Mixpanel refused the service account", hint=_WHERE, code=REFUSED, **facts
            )
        if answer.status == 403:
            return PermissionMissing(f"Mixpanel does not permit this: {right}", right=right, **facts)
        if answer.status == 404:
            return NotFound(f"Mixpanel does not find it: {right}", **facts)
        if answer.status == 400:
            return ValueRefused(f"Mixpanel refused the request: {right}", **facts)
    return UnexpectedAnswer(
        f"{answer.host} answered {answer.status} outside the documented shape",
        hint="Check the region and address: a login or error page may have answered.",
        **facts,
    )


def object_in(answer: Answer) -> dict[str, Any]:
    """The JSON object in an answer; empty for anything else."""
    try:
        found = answer.json()
    except UnexpectedAnswer:
        return {}
    return found if isinstance(found, dict) else {}


def instant(value: object) -> float | None:
    """Epoch seconds of a date-time; None where it is not told or cannot be read."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_ok(answer: Answer) -> bool:
    said = object_in(answer)
    return said.get("status") == "ok" and "results" in said


def _is_error(answer: Answer) -> bool:
    said = object_in(answer)
    return said.get("status") == "error" and isinstance(said.get("error"), str)
