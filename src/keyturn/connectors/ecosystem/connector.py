"""What can be done with an Ecosystems access key: one read, whose address and shape the vendor tells its customers only."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, accepted, rejected, unknown
from keyturn.transport.http import Answer, Request, send

LONGEST_WAIT_S = 86_400.0
_LETTERS = string.ascii_letters + string.digits
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_HEADER = re.compile(r"^[A-Za-z][A-Za-z0-9-]{0,63}$")


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `access_key`. Raises: NotFound."""
    del settings
    if method != "access_key":
        raise NotFound(f"ecosystem has no method {method!r}", hint="Use access_key.")
    prober = Prober()
    return Capabilities(verifier=prober, reader=prober)


class Prober:
    """Reads `address` with the key. What is not as the settings say is no verdict."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Accepted only when the member named by `expects` is there; rejected only by the status that was told."""
        try:
            return _read(_ask(access, material), access.settings)
        except (VendorUnavailable, OutcomeUnknown) as error:
            return unknown("unavailable", error.message)
        except UnexpectedAnswer as error:
            return unknown("unexpected_answer", error.message)

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts the list that stands in the answer's member `what`, by itself the expected one.

        Raises: CredentialRejected for the status that was told; NotFound for a member that is not there.
        """
        member = what or str(access.settings["expects"])
        if not _MEMBER.fullmatch(member):
            raise InvalidInput(
                "what is read is a member of the answer", hint="For example valueDrivers.", field="what"
            )
        answer = _ask(access, material)
        seen = _read(answer, access.settings)
        if seen.verdict is Verdict.REJECTED:
            raise CredentialRejected("the key is refused", code=seen.code, status=answer.status)
        if answer.status == 429:
            raise VendorThrottled(f"{answer.host} told us to wait", wait_s=seen.wait_s)
        if answer.status >= 500:
            raise VendorUnavailable(f"{answer.host} failed ({answer.status})", status=answer.status)
        if seen.verdict is not Verdict.ACCEPTED:
            raise UnexpectedAnswer(f"{answer.host}: {seen.detail}", status=answer.status)
        found = answer.json().get(member)
        if found is None:
            raise NotFound(
                f"the answer has no member {member}", hint="Check how it is spelled.", field="what"
            )
        if not isinstance(found, list):
            raise InvalidInput(f"the member {member} is no list", hint="Name one that is.", field="what")
        return Sample(min(len(found), limit), member)

    def bogus(self, material: Material) -> Material:
        """A made-up key of the same length."""
        size = max(len(material.get("access_key", "")), 24)
        return material.replacing(access_key="".join(secrets.choice(_LETTERS) for _ in range(size)))


def _ask(access: Access, material: Material) -> Answer:
    """The read of `address`, whatever it answers."""
    settings = access.settings
    header = str(settings.get("header") or "Authorization")
    if not _HEADER.match(header):
        raise InvalidInput("the header's name is malformed", field="header")
    prefix = str(settings.get("prefix") or "none").strip()
    key = material["access_key"].strip()
    headers = {"Accept": "application/json", header: key if prefix == "none" else f"{prefix} {key}"}
    request = Request("GET", str(settings["address"]), headers, timeout_s=access.deadline_s)
    return send(request, access.network)


def _read(answer: Answer, settings: Mapping[str, Any]) -> Probe:
    if answer.status == 429 or answer.status >= 500:
        code = "rate_limited" if answer.status == 429 else "transient"
        return unknown(code, f"HTTP {answer.status}", _wait_s(answer))
    is_page = "html" in answer.header("Content-Type").lower()
    if answer.status == int(settings.get("refused_with") or 401) and not is_page:
        return rejected(str(answer.status), "the key is refused")
    if answer.status != 200 or "json" not in answer.header("Content-Type").lower():
        return unknown("unexpected_answer", f"HTTP {answer.status}, which says nothing about the key")
    body, expected = answer.json(), str(settings["expects"])
    if not isinstance(body, dict) or body.get(expected) is None:
        return unknown("unexpected_answer", f"the answer has no member {expected}")
    named = str(settings.get("account_member") or "")
    if not named:
        return accepted("not told")
    account = body.get(named)
    if not isinstance(account, str | int) or isinstance(account, bool) or account == "":
        return unknown("identity_missing", f"the answer's member {named} names no account")
    return accepted(str(account))


def _wait_s(answer: Answer) -> float:
    text = answer.header("Retry-After").strip()
    return min(float(text), LONGEST_WAIT_S) if text.isascii() and text.isdecimal() else 0.0
