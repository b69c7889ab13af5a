"""What an answer means: success rules, then the definition's error rules, then the defaults of the standards."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from keyturn.definitions.jsonpath import compile_path
from keyturn.definitions.model import ABSENT, Condition, ErrorRule, JsonTest, Wait
from keyturn.errors import (
    CredentialRejected,
    KeyturnError,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.http import Answer

LONGEST_WAIT_S = 86_400.0
SEARCHED = 65_536  # characters of a body that text rules look at

_VERDICTS = frozenset({"credential_invalid", "client_invalid", "reauth_required"})
_RETRY_AFTER = Wait("seconds", header="Retry-After")
_ERROR = compile_path("$.error")


@dataclass(frozen=True)
class Reading:
    """The class of an answer that was no success. Holds no part of the body."""

    kind: str
    status: int
    host: str
    wait_s: float = 0.0
    message: str = ""
    hint: str = ""

    def detail(self) -> str:
        """Plain words for a probe."""
        return self.message or f"HTTP {self.status}, read as {self.kind.replace('_', ' ')}"


class Refused(Exception):
    """An answer that was no success, on its way to a probe or an error; never leaves this package."""

    def __init__(self, reading: Reading, *, changes: bool = False, own_client: bool = True) -> None:
        super().__init__(reading.kind)
        self.reading = reading
        self.changes = changes
        self.own_client = own_client

    def error(self) -> KeyturnError:
        """The error this answer is, for a call that is not a test."""
        return _error(self.reading, self.changes, self.own_client)


def succeeded(answer: Answer, rules: Iterable[Condition]) -> bool:
    """Whether every success rule holds."""
    return all(holds(rule, answer, "") for rule in rules)


def read(answer: Answer, rules: Iterable[ErrorRule], phase: str, *, oauth: bool = False) -> Reading:
    """The class of a failed answer. `oauth` adds the defaults of a token endpoint (RFC 6749 section 5.2)."""
    for rule in rules:
        if holds(rule.when, answer, phase) and not (
            rule.kind in _VERDICTS and _is_strange(rule.when, answer)
        ):
            wait = _wait(
                rule.wait or (_RETRY_AFTER if rule.kind in {"rate_limited", "transient"} else None), answer
            )
            return Reading(rule.kind, answer.status, answer.host, wait, rule.message, rule.hint)
    kind = (_oauth_default(answer) if oauth else "") or _default(answer)
    wait = _wait(_RETRY_AFTER, answer) if kind in {"rate_limited", "transient"} else 0.0
    return Reading(kind, answer.status, answer.host, wait)


def _is_strange(rule: Condition, answer: Answer) -> bool:
    """A page for people where an API was asked: a gateway or login wall answers with any status. It is a refusal of the
    credential only where the rule says by what the vendor's own page is known."""
    is_page = "text/html" in answer.header("content-type").lower()
    return is_page and not (rule.content_type_contains or rule.text_contains or rule.header or rule.json)


def holds(rule: Condition, answer: Answer, phase: str) -> bool:
    """Whether everything the condition says is so. A network condition never holds: an answer came."""
    if rule.network or (rule.phase and rule.phase != phase):
        return False
    if rule.status and answer.status not in rule.status:
        return False
    if rule.status_from and not rule.status_from <= answer.status <= rule.status_to:
        return False
    if rule.header is not None:
        name, part = rule.header
        found = answer.headers.get(name.lower())
        if found is None or part.lower() not in found.lower():
            return False
    if rule.content_type_contains and rule.content_type_contains not in answer.header("content-type").lower():
        return False
    if rule.text_contains and rule.text_contains not in answer.text()[:SEARCHED]:
        return False
    return rule.json is None or _json_holds(rule.json, answer)


def _json_holds(test: JsonTest, answer: Answer) -> bool:
    try:
        body = answer.json()
    except UnexpectedAnswer:
        return False
    return value_holds(test, body)


def value_holds(test: JsonTest, body: Any) -> bool:
    """Whether a JSON value passes the test; a wildcard path passes when any of its values does."""
    found = test.path.select(body)
    if test.exists is not None and bool(found) != test.exists:
        return False
    if test.equals is not ABSENT and not any(_same(v, test.equals) for v in found):
        return False
    if test.not_equals is not ABSENT and any(_same(v, test.not_equals) for v in found):
        return False
    return not test.contains or any(isinstance(v, str) and test.contains in v for v in found)


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _default(answer: Answer) -> str:
    challenge = answer.header("www-authenticate").lower()
    if answer.status == 401 and "invalid_token" in challenge:  # RFC 6750 section 3.1
        return "credential_invalid"
    if answer.status == 403 and "insufficient_scope" in challenge:
        return "scope_missing"
    if answer.status == 429:
        return "rate_limited"
    if answer.status >= 500 or answer.status == 408:
        return "transient"
    if 300 <= answer.status < 400 or "text/html" in answer.header("content-type").lower():
        return "unexpected_page"
    return {403: "permission", 404: "not_found"}.get(answer.status, "unknown")


def _oauth_default(answer: Answer) -> str:
    try:
        found = _ERROR.select(answer.json())
    except UnexpectedAnswer:
        return ""
    code = found[0] if found and isinstance(found[0], str) else ""
    return {
        "invalid_client": "client_invalid",
        "unauthorized_client": "client_invalid",
        "invalid_grant": "reauth_required",
        "unsupported_grant_type": "validation",
        "invalid_scope": "validation",
        "invalid_request": "validation",
        "temporarily_unavailable": "transient",
        "slow_down": "transient",
    }.get(code, "")


def _wait(wait: Wait | None, answer: Answer) -> float:
    if wait is None:
        return 0.0
    raw: Any = answer.header(wait.header) if wait.header else ""
    if wait.json is not None:
        try:
            found = wait.json.select(answer.json())
        except UnexpectedAnswer:
            found = []
        raw = found[0] if found else ""
    return min(max(_seconds(str(raw).strip(), wait.unit), 0.0), LONGEST_WAIT_S)


def _seconds(text: str, unit: str) -> float:
    try:
        if unit == "iso":
            return instant(text) - time.time()
        if unit == "http_date" or (unit == "seconds" and text[:1].isalpha()):
            return parsedate_to_datetime(text).timestamp() - time.time()
        number = float(text)
    except (ValueError, OverflowError, TypeError):
        return 0.0
    if unit == "ms":
        return number / 1000
    return number - time.time() if unit == "unix" else number


def instant(value: Any) -> float:
    """Epoch seconds from what vendors write: seconds, milliseconds, ISO-8601. Raises: ValueError."""
    if isinstance(value, bool) or value is None:
        raise ValueError("not a time")
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = datetime.fromisoformat(f"{text}+00:00")
        return moment.timestamp()
    return number / 1000 if number > 1e11 else number


def _error(reading: Reading, changes: bool, own_client: bool) -> KeyturnError:
    facts = {"status": reading.status, "host": reading.host, "class": reading.kind}
    words, hint = reading.detail(), reading.hint
    if reading.kind in {"credential_invalid", "reauth_required"} or (
        reading.kind == "client_invalid" and own_client
    ):
        return CredentialRejected(f"{reading.host} refused the credential: {words}", hint=hint, **facts)
    if reading.kind == "client_invalid":
        hint = hint or "Check the client id and secret; the grant itself is not in question."
        return PermissionMissing(
            f"{reading.host} refused our OAuth client", hint=hint, right="OAuth client", **facts
        )
    if reading.kind in {"permission", "scope_missing", "plan"}:
        right = reading.message or reading.kind
        return PermissionMissing(
            f"{reading.host} does not permit this: {words}", hint=hint, right=right, **facts
        )
    if reading.kind == "rate_limited":
        wait = {"wait_s": reading.wait_s} if reading.wait_s else {}
        return VendorThrottled(f"{reading.host} told us to wait", hint=hint, **wait, **facts)
    if reading.kind == "validation":
        return ValueRefused(f"{reading.host} refused the request: {words}", hint=hint, **facts)
    if reading.kind == "transient":
        if changes:
            return OutcomeUnknown(f"{reading.host} failed while changing: {words}", hint=hint, **facts)
        return VendorUnavailable(f"{reading.host} is not available: {words}", hint=hint, **facts)
    return UnexpectedAnswer(f"{reading.host} answered outside the definition: {words}", hint=hint, **facts)
