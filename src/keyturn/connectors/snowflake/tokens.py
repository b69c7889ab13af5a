"""The token endpoint of Snowflake as OAuth issuer: what is sent, and what its answers mean. No SQL here.

Source: docs.snowflake.com user-guide/oauth-custom, checked 2026-11-23.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from keyturn.contract.values import Access
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    OutcomeUnknown,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.transport import http

# Their HTTP status is not documented; 400 and 401 have both been seen. The word in the body is what counts.
REJECTED = frozenset({"invalid_client", "invalid_grant"})
_LONGEST_WAIT_S = 86_400.0


@dataclass(frozen=True)
class Granted:
    """A token answer. Prints without its tokens. `refresh_life_s` counts from the answer; None where it was not said."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    refresh_life_s: float | None


def place(settings: Mapping[str, Any]) -> tuple[str, str, int]:
    """Protocol, host and port of the account."""
    account = str(settings.get("account") or "")
    protocol = str(settings.get("protocol") or "https")
    # Host names know no underscores; account names may hold them.
    host = str(settings.get("host") or f"{account.lower().replace('_', '-')}.snowflakecomputing.com")
    return protocol, host, int(settings.get("port") or (443 if protocol == "https" else 80))


def url(settings: Mapping[str, Any], path: str) -> str:
    """An address of the account; the usual port is left out."""
    protocol, host, port = place(settings)
    literal = f"[{host}]" if ":" in host else host
    usual = port == (443 if protocol == "https" else 80)
    return f"{protocol}://{literal}{'' if usual else f':{port}'}{path}"


def scope(role: str) -> str:
    """What is asked for: refresh tokens, and one role where one is named. Odd names go encoded."""
    if not role:
        return "refresh_token"
    plain = role.isascii() and role.replace("_", "").isalnum() and not role[0].isdigit()
    return (
        f"refresh_token session:role{':' if plain else '-encoded:'}{role if plain else quote(role, safe='')}"
    )


def access_token(access: Access, material: Material) -> str:
    """A fresh access token for a login. Raises: CredentialRejected with the vendor's word as code."""
    return read(refresh(access, material)).access_token


def refresh(access: Access, material: Material, *, changes: bool = False) -> bytes:
    """The raw answer to a refresh_token grant. `changes`: the caller keeps what comes, so a lost answer is a loss.

    Raises: CredentialRejected, VendorThrottled, VendorUnavailable, OutcomeUnknown, UnexpectedAnswer.
    """
    fields = [("grant_type", "refresh_token"), ("refresh_token", _part(material, "refresh_token"))]
    return post(access, material, fields, changes=changes)


def post(
    access: Access, material: Mapping[str, str], fields: Sequence[tuple[str, str]], *, changes: bool
) -> bytes:
    """One call as the client that `material` names; the answer of a success is not read here."""
    # Id and secret are form-encoded first (RFC 6749 section 2.3.1): theirs hold +, / and =, which fail otherwise.
    client_id = material.get("client_id") or str(access.settings.get("client_id") or "")
    pair = f"{quote_plus(client_id)}:{quote_plus(_part(material, 'client_secret'))}"
    answer = http.send(
        http.Request(
            "POST",
            url(access.settings, "/oauth/token-request"),
            headers={
                "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            body=urlencode(list(fields)).encode(),
            timeout_s=access.deadline_s,
            changes=changes,
        ),
        access.network,
    )
    if answer.status == 200:
        return answer.body
    _refuse(answer, changes=changes)
    raise AssertionError  # unreachable: every other status is an error


def read(body: bytes) -> Granted:
    """The tokens in a raw answer. Raises: UnexpectedAnswer, without quoting any of it."""
    found = _object(http.Answer(200, body=body))
    token = found.get("access_token")
    if not isinstance(token, str) or not token:
        raise UnexpectedAnswer("the token answer holds no access token", operation="token-request")
    again = found.get("refresh_token")
    return Granted(
        token,
        again if isinstance(again, str) else "",
        _seconds(found.get("refresh_token_expires_in")),
    )


def _refuse(answer: http.Answer, *, changes: bool) -> None:
    facts: dict[str, Any] = {"host": answer.host, "operation": "token-request", "status": answer.status}
    word = _object(answer).get("error") if answer.status in {400, 401} else None
    if isinstance(word, str) and word in REJECTED:
        what = "client secret" if word == "invalid_client" else "grant"
        raise CredentialRejected(
            f"Snowflake refuses the {what} ({word})",
            hint="A person authorizes again."
            if word == "invalid_grant"
            else "The secret was replaced, or the integration is switched off.",
            code=word,
            **facts,
        )
    if answer.status == 429:
        wait = answer.header("Retry-After")
        raise VendorThrottled(
            "Snowflake asks to slow down",
            hint="Nothing was changed; try later.",
            wait_s=min(float(wait), _LONGEST_WAIT_S) if wait.isdigit() else 0.0,
            **facts,
        )
    if answer.status >= 500:
        kind = OutcomeUnknown if changes else VendorUnavailable
        raise kind(f"{answer.host} answered {answer.status}", hint="It says nothing of the grant.", **facts)
    raise UnexpectedAnswer(f"{answer.host} answered {answer.status} to a token request", **facts)


def _object(answer: http.Answer) -> dict[str, Any]:
    found = answer.json()
    if not isinstance(found, dict):
        raise UnexpectedAnswer("the token answer is no JSON object", operation="token-request")
    return found


def _part(material: Mapping[str, str], name: str) -> str:
    value = material.get(name, "")
    if not value:
        raise InvalidInput(f"the {name} is missing", hint="Enter it, or authorize again.", field=name)
    return value


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
