"""Whether an application's credential works: a fresh token from Entra, and Dataverse telling whom it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from keyturn.connectors.dynamics.client import Application, Session, dataverse_code, is_object, wait_of
from keyturn.contract.values import Access
from keyturn.errors import (
    CredentialRejected,
    KeyturnError,
    NotFound,
    NotPermitted,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport.http import Answer

_KNOWN_NO = {
    "0x80072560": "the application is no user of this environment",
    "0x80095ffc": "the environment's allow-list shuts the application out",
    "0x80040220": "the application user lacks a privilege",
}


class Prober:
    """One fresh token, WhoAmI with it, and one row of a table. Tokens are never kept: an old one would prove nothing."""

    def __init__(
        self,
        application: Callable[[Session, Material], Application],
        bogus: Callable[[Material], Material],
    ) -> None:
        self._application = application
        self._bogus = bogus

    def verify(self, access: Access, material: Material) -> Probe:
        """Only Entra's refusal of the credential is a rejection.

        Whatever Dataverse says against it is unknown: it knows the application, and its token outlives the credential.
        """
        session = Session(access)
        application = self._application(session, material)
        try:
            token = session.token(application, session.environment)
            who = session.dataverse(token, "WhoAmI")
            seen = _seen(who)
            return self._with_rights(session, token, seen) if seen is not None else _no_identity(who)
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), error.message)
        except (
            VendorUnavailable,
            VendorThrottled,
            UnexpectedAnswer,
            NotFound,
            NotPermitted,
            PermissionMissing,
        ) as error:
            return unknown(
                _code(error), f"{error.message}. {error.hint}".strip(), float(error.facts.get("wait_s", 0))
            )

    def bogus(self, material: Material) -> Material:
        """The same application with a made-up credential: Entra locks applications out of nothing, and its refusal has
        the code of a removed credential. Source: the error reference names one code for both, checked 2026-11-23."""
        return self._bogus(material)

    def _with_rights(self, session: Session, token: str, seen: Probe) -> Probe:
        """One date of the table the jobs read, no more; without the right the credential is accepted and the right is
        missing."""
        table = str(session.settings.get("table") or "")
        if not table:
            return seen
        answer = session.dataverse(token, f"{table}?$select=createdon&$top=1")
        if answer.status == 200 and is_object(answer):
            return dataclasses.replace(seen, rights=frozenset({f"read:{table}"}))
        if answer.status in {400, 403, 404} and (code := dataverse_code(answer)):
            detail = f"the credential works, but it may not read {table} ({code})"
            return dataclasses.replace(seen, code=code, detail=detail)
        return _no_identity(answer)


def _seen(answer: Answer) -> Probe | None:
    if answer.status != 200 or not is_object(answer):
        return None
    body = answer.json()
    user, organization = body.get("UserId"), body.get("OrganizationId")
    if not isinstance(user, str) or not isinstance(organization, str) or not user or not organization:
        return None
    return accepted(user.lower(), tenant=organization.lower())


def _no_identity(answer: Answer) -> Probe:
    """An answer of Dataverse that names nobody: never a rejection."""
    code = dataverse_code(answer)
    if answer.status == 429:
        return unknown(code or "429", "Dataverse told us to wait", wait_of(answer))
    known = _KNOWN_NO.get(code.lower())
    if answer.status == 403 and known:
        return unknown(code, f"Entra accepts the credential, but {known}")
    if answer.status == 401:
        return unknown("401", "Dataverse refuses a token that was just made: is it the right environment?")
    return unknown(code or f"http_{answer.status}", f"Dataverse answered {answer.status} and names nobody")


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("code") or error.facts.get("network") or "unavailable")
