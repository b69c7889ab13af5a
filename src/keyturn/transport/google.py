"""Google's doors: an assertion signed by a service account's key is traded for an access token, then one REST call.

Nothing is kept between two sessions: a kept access token works for an hour after its key is dead, and so proves nothing.
What Google writes into an error may quote the request; only its codes leave this module.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CredentialRejected,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.http import Answer, Request, send

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
BIGQUERY = "https://www.googleapis.com/auth/bigquery"

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFE_S, _SKEW_S = 600, 10  # Google takes an hour at most, and forgives minutes of a wrong clock
_PERMISSION = re.compile(r"^Permission '([A-Za-z0-9._/]{3,120})' denied")
_THROTTLES = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED"})
_RETRY_INFO = re.compile(r"^(\d{1,9})(?:\.\d+)?s$")


@dataclass(frozen=True)
class Signer:
    """A service account's key: whose it is, its id, and how it signs."""

    email: str
    key_id: str
    sign: Callable[[bytes], bytes] = field(repr=False)


@dataclass(frozen=True)
class Refusal:
    """An error answer of a Google API, in its own codes. `permission` and `violation` are the names it gave, if any."""

    status: int
    code: str
    reasons: frozenset[str] = frozenset()
    permission: str = ""
    violation: str = ""
    wait_s: float = 0.0
    is_full: bool = False  # said in words only, and only until about 2023

    def is_throttled(self) -> bool:
        """Told to wait; BigQuery says so with 403."""
        return self.status == 429 or (self.status == 403 and bool(self.reasons & _THROTTLES))


class Session:
    """The calls of one task within one deadline, signed by one key. The token is asked for at the first call."""

    def __init__(
        self, signer: Signer, scope: str, network: NetworkPolicy, deadline_s: float, token_url: str = ""
    ) -> None:
        self._signer, self._scope, self._network = signer, scope, network
        self._until = time.monotonic() + deadline_s
        self._token_url = token_url or TOKEN_URL
        self._token = ""

    @property
    def email(self) -> str:
        """Whose key signs; Google has agreed once a call was answered."""
        return self._signer.email

    def left(self) -> float:
        """Seconds left of the deadline."""
        return self._until - time.monotonic()

    def authenticate(self) -> None:
        """Trades a fresh assertion for an access token.

        Raises: CredentialRejected when Google refuses the signature, which it does for a key that is deleted, disabled,
        unknown, or not known everywhere yet. Every other refusal says nothing about the key.
        """
        body = urlencode({"grant_type": _JWT_BEARER, "assertion": self._assertion()}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        answer = send(Request("POST", self._token_url, headers, body, self._timeout()), self._network)
        data = _object(answer)
        if answer.status != 200:
            _refuse_token(answer, data)
        token = data.get("access_token")
        if not isinstance(token, str) or not token:
            raise UnexpectedAnswer(f"{answer.host} answered without an access token", status=answer.status)
        self._token = token

    def send(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, *, changes: bool = False
    ) -> Answer:
        """One signed call; the answer as it came, whatever its status."""
        if not self._token:
            self.authenticate()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = Request(method, url, headers, data, self._timeout(), changes=changes)
        return send(request, self._network)

    def call(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, *, changes: bool = False
    ) -> Mapping[str, Any] | Refusal:
        """The answer's object, or the refusal in Google's codes. Raises: UnexpectedAnswer for everything else."""
        answer = self.send(method, url, body, changes=changes)
        return _object(answer) if answer.status == 200 else refusal(answer, changes=changes)

    def _timeout(self) -> float:
        if self.left() <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        return self.left()

    def _assertion(self) -> str:
        now = int(time.time()) - _SKEW_S
        head = {"alg": "RS256", "typ": "JWT", "kid": self._signer.key_id}
        # The audience is Google's own address whatever is called: an assertion told elsewhere is good for nothing else.
        claims = {
            "iss": self._signer.email,
            "scope": self._scope,
            "aud": TOKEN_URL,
            "iat": now,
            "exp": now + _LIFE_S,
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_base64url(self._signer.sign(signed.encode()))}"


def refusal(answer: Answer, *, changes: bool) -> Refusal:
    """Takes an error answer apart.

    Raises: OutcomeUnknown or VendorUnavailable for 5xx, UnexpectedAnswer for what is not Google's envelope.
    """
    if answer.status >= 500:
        facts: dict[str, Any] = {"status": answer.status, "host": answer.host}
        if changes:
            raise OutcomeUnknown(f"{answer.host} failed while changing", **facts)
        raise VendorUnavailable(f"{answer.host} is not available", **facts)
    error = _object(answer).get("error") if answer.status >= 400 else None
    if not isinstance(error, dict) or error.get("code") != answer.status:
        raise UnexpectedAnswer(
            f"{answer.host} answered {answer.status} outside its documented shape",
            hint="Check the address: a login or error page may have answered.",
            status=answer.status,
            host=answer.host,
        )
    details = [each for each in _list(error, "details") if isinstance(each, dict)]
    listed = [each for each in _list(error, "errors") if isinstance(each, dict)]
    message = str(error.get("message", ""))
    named = _PERMISSION.match(message)
    return Refusal(
        answer.status,
        _code(error.get("status")) or _code(next((each.get("reason") for each in listed), "")),
        frozenset(filter(None, (_code(each.get("reason")) for each in (*listed, *details)))),
        named.group(1) if named else "",
        _violation(details),
        _wait(answer, details),
        is_full="Maximum number of keys on account reached" in message,
    )


def error_of(refused: Refusal, right: str, host: str) -> KeyturnError:
    """What a refusal means for a call that needs `right`. In every case nothing was changed."""
    facts: dict[str, Any] = {"code": refused.code, "status": refused.status, "host": host}
    if refused.is_throttled():
        wait: dict[str, Any] = {"wait_s": refused.wait_s} if refused.wait_s else {}
        return VendorThrottled(f"{host} told us to wait", **wait, **facts)
    if "SERVICE_DISABLED" in refused.reasons:
        return PermissionMissing(
            f"the API at {host} is switched off in this project",
            hint="Enable it in the console under APIs & Services.",
            right=f"an enabled {host}",
            **facts,
        )
    if refused.status == 403:
        named = refused.permission or right
        return PermissionMissing(
            f"the signing service account may not use {named}",
            hint="Grant it on the service account; a grant takes up to seven minutes to be known everywhere.",
            right=named,
            **facts,
        )
    if refused.status == 404:
        return NotFound(
            "Google knows no such resource", hint="Check the e-mail address and project.", **facts
        )
    if refused.status in {401, 409}:
        return VendorUnavailable(
            f"{host} does not take the call now ({refused.code})", hint="Nothing was changed.", **facts
        )
    return UnexpectedAnswer(f"{host} refused {right} with {refused.code or refused.status}", **facts)


def segment(text: str) -> str:
    """A value as one piece of a path; `@` stays as Google's own clients leave it."""
    return quote(text, safe="@")


def _refuse_token(answer: Answer, data: Mapping[str, Any]) -> NoReturn:
    """Source: sheet, and googleapis/google-api-dotnet-client issues 1152 and 2027, checked 2026-11-23."""
    code, said = _code(data.get("error")), str(data.get("error_description", ""))
    facts: dict[str, Any] = {"code": code, "status": answer.status, "host": answer.host}
    if answer.status == 429 or code == "rate_limit_exceeded":
        wait: dict[str, Any] = {"wait_s": wait_s} if (wait_s := _wait(answer, [])) else {}
        raise VendorThrottled(f"{answer.host} told us to wait", **wait, **facts)
    if answer.status >= 500 or code in {"temporarily_unavailable", "internal_failure"}:
        raise VendorUnavailable(f"{answer.host} is not available", **facts)
    if code == "invalid_grant" and said == "Invalid JWT Signature.":
        raise CredentialRejected(
            "Google refuses the key's signature",
            hint="The key is deleted, disabled or not this service account's.",
            **{**facts, "code": "invalid_jwt_signature"},
        )
    if code == "invalid_grant" and ("account not found" in said or said == "Robot is disabled."):
        raise PermissionMissing(
            "the service account is disabled or deleted, which says nothing about its key",
            hint="Enable it, or undelete it within 30 days.",
            right="an enabled service account",
            **{**facts, "code": "account_not_found"},
        )
    if code == "invalid_grant" and "short-lived token" in said:
        raise VendorUnavailable(
            "Google refuses the time of this machine's clock",
            hint="Synchronize the clock; nothing was changed.",
            **{**facts, "code": "clock"},
        )
    raise UnexpectedAnswer(f"{answer.host} refused a token with {code or answer.status}", **facts)


def _object(answer: Answer) -> Mapping[str, Any]:
    """The body as an object, if it says that it is JSON. Raises: UnexpectedAnswer."""
    found = answer.json() if "json" in answer.header("content-type").lower() else None
    if not isinstance(found, dict):
        raise UnexpectedAnswer(
            f"{answer.host} answered {answer.status} with something that is not a JSON object",
            hint="Check the address: a login or error page may have answered.",
            status=answer.status,
            host=answer.host,
        )
    return found


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    found = holder.get(name)
    return found if isinstance(found, list) else []


def _code(value: Any) -> str:
    """A code word as Google writes them; anything else is text and stays here."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]{1,60}", value) else ""


def _violation(details: list[dict[str, Any]]) -> str:
    for detail in details:
        for each in _list(detail, "violations"):
            kind = each.get("type") if isinstance(each, dict) else None
            if isinstance(kind, str) and re.fullmatch(r"[A-Za-z./_]{1,120}", kind):
                return kind
    return ""


def _wait(answer: Answer, details: list[dict[str, Any]]) -> float:
    told = [str(each.get("retryDelay", "")) for each in details]
    found = next((m for text in told if (m := _RETRY_INFO.match(text))), None)
    after = answer.header("retry-after")
    return float(found.group(1)) if found else float(after) if after.isdigit() else 0.0


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
