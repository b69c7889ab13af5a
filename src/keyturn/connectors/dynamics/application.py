"""The application itself and what else the tenant holds: discovery, and deletion on a disconnect that asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from keyturn.connectors.dynamics import client, identity
from keyturn.connectors.dynamics.client import Application, Session
from keyturn.contract.values import Access, Found
from keyturn.errors import Conflict, KeyturnError, NotFound, PermissionMissing
from keyturn.model.moment import iso
from keyturn.model.secret import Material

_DAY_S = 86_400.0
_SOON_S, _LONG_S = 30 * _DAY_S, 730 * _DAY_S
_KINDS = {"passwordCredentials": "client_secret", "keyCredentials": "certificate"}
_FIELDS = "id,appId,displayName,signInAudience,passwordCredentials,keyCredentials"
READ, DELETE, USED = "Application.Read.All", "Application.ReadWrite.OwnedBy", "AuditLog.Read.All"


class Registration:
    """One application, seen from Graph."""

    def __init__(self, own: Callable[[Session, Material], Application]) -> None:
        self._own = own

    def drop(self, access: Access) -> None:
        """Deletes the application; the tenant can restore it for thirty days.

        Raises: Conflict while somebody else's credential still works on it: that would end a stranger's access.
        """
        client.need_admin(access)
        session = Session(access)
        token = self._token(session)
        path = client.application_path(session.client_id)
        try:
            body = session.read(token, f"{path}?$select={_FIELDS}", right=DELETE)
        except NotFound:
            return
        others = [
            each
            for name in _KINDS
            for each in client.entries(body, name)
            if (client.instant(each.get("endDateTime")) or 0.0) > time.time()
        ]
        if others:
            raise Conflict(
                f"the application still holds {len(others)} working credential(s) that are not this connection's",
                hint="Find out who uses them; delete the application in the portal when nobody does.",
            )
        try:
            session.ask(token, "DELETE", path, right=DELETE, changes=True)
        except NotFound:
            return

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Every secret and certificate of every application that may be read, strangers' included, and its end.

        Without the right to read all of them, only this connection's application is shown.
        """
        session = Session(access)
        token = self._token(session)
        used = self._last_used(session, token)
        found: list[Found] = []
        try:
            for page in session.pages(token, f"/v1.0/applications?$select={_FIELDS}&$top=100", right=READ):
                found += [each for body in page for each in _of_application(session, body, used)]
                if session.left() < min(2.0, access.deadline_s / 4):
                    why = {"reason": "the time for one call is used up"}
                    return (*found, Found("applications not looked at", "incomplete", why))
        except PermissionMissing:
            path = f"{client.application_path(session.client_id)}?$select={_FIELDS}"
            found += _of_application(session, session.read(token, path, right=READ), used)
        return (*found, *self._on_enterprise_application(session, token), *self._users(session))

    def _users(self, session: Session) -> list[Found]:
        """The application users of the environment, as the connection's own credential sees them, where it may look."""
        if session.access.acting is None:
            return []
        query = f"$select=fullname,applicationid,isdisabled&$filter={quote('applicationid ne null', safe='')}"
        try:
            token = session.token(self._own(session, session.access.acting), session.environment)
            rows = session.dataverse(token, f"systemusers?{query}").json()["value"]
            return [_user(session, row) for row in rows]
        except (KeyturnError, TypeError, KeyError, AttributeError):
            return []

    def _on_enterprise_application(self, session: Session, token: str) -> list[Found]:
        """Credentials may hide on the enterprise application (service principal) too; and it is the off switch."""
        wanted = quote(f"appId eq '{session.client_id}'", safe="")
        fields = "id,appId,displayName,accountEnabled,passwordCredentials,keyCredentials"
        path = f"/v1.0/servicePrincipals?$filter={wanted}&$select={fields}"
        try:
            rows = next(session.pages(token, path, right=READ))
        except (PermissionMissing, StopIteration):
            return []
        found: list[Found] = []
        for row in rows:
            facts = {"app_id": str(row.get("appId", "")), "enabled": bool(row.get("accountEnabled"))}
            flags = [] if facts["enabled"] else ["disabled: no token is given to it"]
            found.append(
                Found(str(row.get("displayName", "")), "enterprise_application", {**facts, "flags": flags})
            )
            found += _credentials(row, "enterprise application", True, {})
        return found

    def _last_used(self, session: Session, token: str) -> Mapping[str, str]:
        """When each credential was last used, where the tenant's licence and a right allow to know. A beta of Graph's."""
        wanted = quote(f"appId eq '{session.client_id}'", safe="")
        path = f"/beta/reports/appCredentialSignInActivities?$filter={wanted}"
        try:
            rows = next(session.pages(token, path, right=USED))
        except (KeyturnError, StopIteration):
            return {}
        seen = {}
        for row in rows:
            activity = row.get("signInActivity")
            if isinstance(activity, dict) and (at := client.instant(activity.get("lastSignInDateTime"))):
                seen[str(row.get("keyId", "")).lower()] = iso(at) or ""
        return seen

    def _token(self, session: Session) -> str:
        return session.token(identity.acting(session, self._own), session.graph)


def _of_application(session: Session, body: Mapping[str, Any], used: Mapping[str, str]) -> list[Found]:
    own = str(body.get("appId", "")).lower() == session.client_id
    return _credentials(body, "application", own, used)


def _user(session: Session, row: Mapping[str, Any]) -> Found:
    app_id = str(row.get("applicationid") or "").lower()
    facts = {
        "app_id": app_id,
        "this_connection": app_id == session.client_id,
        "disabled": bool(row.get("isdisabled")),
    }
    return Found(str(row.get("fullname") or app_id), "application_user", facts)


def _credentials(body: Mapping[str, Any], where: str, own: bool, used: Mapping[str, str]) -> list[Found]:
    now, found = time.time(), []
    for name, kind in _KINDS.items():
        there = client.entries(body, name)
        living = [e for e in there if (client.instant(e.get("endDateTime")) or 0.0) > now]
        for each in there:
            starts, ends = client.instant(each.get("startDateTime")), client.instant(each.get("endDateTime"))
            label = str(each.get("displayName") or "")
            flags = {
                "expired": ends is not None and ends <= now,
                "expires within 30 days": ends is not None and now < ends <= now + _SOON_S,
                "lives longer than two years": ends is not None
                and starts is not None
                and ends - starts > _LONG_S + _DAY_S,
                f"one of {len(living)} that work": len(living) > 1 and each in living,
                "has no name": not label,
                "kept on the enterprise application": where != "application",
            }
            facts: dict[str, Any] = {
                "application": str(body.get("displayName") or ""),
                "app_id": str(body.get("appId") or ""),
                "this_connection": own,
                "key_id": str(each["keyId"]),
                "label": label,
                "starts": iso(starts),
                "expires": iso(ends),
                "flags": [words for words, holds in flags.items() if holds],
            }
            if own and used:
                facts["last_used_at"] = used.get(str(each["keyId"]).lower())
            found.append(Found(f"{facts['application']}/{label or each['keyId']}", kind, facts))
    return found
