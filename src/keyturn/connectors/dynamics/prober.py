"""Whether an application's credential works: a fresh token from Entra, and Dataverse telling whom it sees."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from keyturn.connectors.dynamics.client import Application, Session, dataverse_code, is_object, wait_of
from keyturn.contract.values import Access, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
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


# An entity set's name, as it stands in the service's $metadata. All columns of a row come along, hence not many.
# Source: learn.microsoft.com/power-apps/developer/data-platform/webapi/query/overview ($top), checked 2026-11-29.
_ENTITY_SET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MOST_ROWS = 100


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

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of an entity set (`accounts`), or of the connection's own table; 100 at the most.

        A fresh token each time. Raises: CredentialRejected as Entra says; NotFound, PermissionMissing as Dataverse does.
        """
        table = what or str(access.settings.get("table") or "accounts")
        if not _ENTITY_SET.fullmatch(table):
            raise InvalidInput(
                "a table is named as its entity set", hint="For example accounts or cr1_orders.", field="what"
            )
        session = Session(access)
        application = self._application(session, material)
        token = session.token(application, session.environment)
        answer = session.dataverse(token, f"{table}?$top={min(limit, _MOST_ROWS):d}")
        if answer.status != 200:
            raise _no_rows(answer, table)
        rows = answer.json().get("value") if is_object(answer) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnexpectedAnswer("Dataverse answered without a list of rows", status=answer.status)
        return Sample(min(len(rows), limit), table)

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


def _no_rows(answer: Answer, table: str) -> KeyturnError:
    """What an answer of Dataverse without rows means; its text is not read. None says anything of the credential."""
    code = dataverse_code(answer)
    facts: dict[str, Any] = {"status": answer.status, "code": code or f"http_{answer.status}"}
    if answer.status == 429:
        return VendorThrottled("Dataverse told us to wait", wait_s=wait_of(answer), **facts)
    if answer.status >= 500:
        return VendorUnavailable(f"Dataverse failed ({answer.status})", **facts)
    if answer.status == 404 and code:
        return NotFound(
            f"Dataverse has no {table}",
            hint="Use the entity set's name, such as accounts.",
            field="what",
            **facts,
        )
    if answer.status == 403 and code:
        known = _KNOWN_NO.get(code.lower(), f"it may not read {table}")
        return PermissionMissing(f"Entra accepts the credential, but {known}", right=f"read {table}", **facts)
    if answer.status == 400 and code:
        return ValueRefused(f"Dataverse refuses to read {table} ({code})", **facts)
    return UnexpectedAnswer(
        f"Dataverse answered {answer.status} without a list of rows",
        hint="Check the environment's address: something else may have answered.",
        **facts,
    )


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("code") or error.facts.get("network") or "unavailable")
