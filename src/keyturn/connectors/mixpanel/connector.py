"""What a Mixpanel service account can do: made beside the old one with the same roles, proven, the old one deleted.

Mixpanel has no call that renews a secret: each rotation is a new account, and its user name changes with it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from keyturn.connectors.mixpanel import client
from keyturn.connectors.mixpanel.client import Line
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote, Sample
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport.http import Answer

ROLES = ("owner", "admin", "analyst", "consumer")
MOST_PROJECTS = 200
_LONGEST_NUMBER = 18
_PUBLIC = frozenset({"username", "service_account_id"})
_BLANK = re.compile(r"\s+")
_ADMIN = "owner or admin of the organization"


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `service_account`; who signs is decided call by call. Raises: NotFound."""
    del settings
    if method != "service_account":
        raise NotFound(f"mixpanel has no method {method!r}", hint="Use service_account.")
    accounts = ServiceAccounts()
    return Capabilities(
        verifier=SignIn(),
        lister=accounts,
        issuer=accounts,
        revoker=accounts,
        locator=accounts,
        reader=Events(),
    )


class SignIn:
    """Asks who signs in, and compares what it sees."""

    def verify(self, access: Access, material: Material) -> Probe:
        """The account itself changes with each rotation, so the principal is the organization it belongs to.

        The rights are a great role in the organization, the projects and the permissions in them: the new account must have
        all that the old one was pinned with.
        """
        try:
            found = client.me(Line.to(access, material))
        except CredentialRejected as error:
            return rejected(client.REFUSED, error.hint)
        except VendorThrottled as error:
            return unknown("rate_limited", error.message)
        except VendorUnavailable as error:
            return unknown("unavailable", error.message)
        except (PermissionMissing, NotFound, ValueRefused, UnexpectedAnswer) as error:
            return unknown("unclear", error.message)
        organizations = found.get("organizations")
        if not isinstance(organizations, dict) or not organizations:
            return unknown("no_identity", "Mixpanel does not say which organization the account belongs to")
        label = found.get("user_name") or material.get("username", "")
        return accepted(
            "organization " + ",".join(sorted(map(str, organizations))),
            rights=_rights(organizations, found.get("projects")),
            principal_label=str(label),
        )

    def bogus(self, material: Material) -> Material:
        """A service account that does not exist, with a secret of the same shape."""
        del material
        name = f"nobody.{secrets.token_hex(3)}.mp-service-account"
        return Material({"username": name, "secret": secrets.token_hex(16)}, _PUBLIC)


class Events:
    """The events of a project, by their names."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts the names of the last month's events, in the project `what` or the connection's own.

        Raises: CredentialRejected, PermissionMissing for a project that is another's or does not exist.
        """
        project = what or client.number(access.settings.get("project_id"), "project_id")
        if not (project.isascii() and project.isdigit() and len(project) <= _LONGEST_NUMBER):
            raise InvalidInput("a project is named by its number", hint="For example 2195193.", field="what")
        line = Line.to(access, material)
        try:
            count = client.event_names(line, project, limit)
        except CredentialRejected:
            client.me(line)  # a project that is not the account's is refused like a wrong secret
            raise PermissionMissing(
                f"the service account is not in project {project}",
                hint="Check the number, and that the account was added to the project.",
                right=f"a role in project {project}",
            ) from None
        return Sample(count, f"events of project {project}")


def _rights(organizations: dict[str, Any], projects: object) -> frozenset[str]:
    """Words without blanks; what Mixpanel leaves out of the answer is left out here.

    A small role in the organization gives nothing by itself, so only the two great ones are rights.
    """
    found = set()
    for key, row in organizations.items():
        if isinstance(row, dict) and row.get("role") in ("owner", "admin"):
            found.add(f"organization:{key}:{row['role']}")
    for key, row in projects.items() if isinstance(projects, dict) else ():
        found.add(f"project:{key}")
        allowed = row.get("permissions") if isinstance(row, dict) else None
        found |= {f"project:{key}:{each}" for each in allowed or () if isinstance(each, str)}
    return frozenset(_BLANK.sub("_", right) for right in found)


class ServiceAccounts:
    """The organization's service accounts. Needs an owner or admin: the manager account, or the account itself."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every account with its name, birth and last use; other people's are among them."""
        line = _line(access)
        return tuple(
            Remote(
                Ref(id=str(row["id"]), label=row["username"]),
                created_at=client.instant(row.get("created")),
                last_used_at=client.instant(row.get("last_used")),
            )
            for row in client.accounts(line, client.organization(access))
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """The account's number, found by its user name. Raises: InvalidInput when the organization does not list it.

        Whoever may not list is believed where the number is given; nothing can be rotated without that right anyway.
        """
        try:
            row = _row_of(client.accounts(_line(access), client.organization(access)), material)
        except PermissionMissing:
            if named := material.get("service_account_id"):
                return Ref(id=client.number(named, "service_account_id"), label=material["username"])
            raise
        if row is None:
            raise InvalidInput(
                "the organization lists no service account with this user name",
                hint="Check the organization id, or fill in service_account_id.",
                field="username",
            )
        return Ref(id=str(row["id"]), label=row["username"])

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A further account with our mark in its name and the roles of the one in use.

        Raises: Conflict, naming every membership that the API cannot copy; nothing was changed then.
        """
        del slot
        line, org = _line(access), client.organization(access)
        body: dict[str, Any] = {"username": "-".join(filter(None, (_name(access), access.marker)))}
        body |= _copied(line, access, org) if access.acting is not None else _configured(access)
        days = int(access.settings.get("expires_days") or 0)
        if days:
            until = datetime.now(UTC) + timedelta(days=days)
            body["expires"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = line.call("POST", f"/organizations/{org}/service-accounts", body, changes=True)
        if answer.status != 201:
            raise client.refusal(answer, _ADMIN, changes=True)
        return answer.body

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The account inside a sealed answer. Its user name is Mixpanel's, not the one that was asked for."""
        del access
        said = client.object_in(Answer(201, {}, receipt))
        found = said.get("results")
        if said.get("status") != "ok" or not isinstance(found, dict):
            raise UnexpectedAnswer("Mixpanel's answer holds no service account")
        account, name, secret = found.get("id"), found.get("username"), found.get("token")
        if type(account) is not int or not all(isinstance(t, str) and t for t in (name, secret)):
            raise UnexpectedAnswer("Mixpanel's answer holds no service account")
        parts = {"username": str(name), "secret": str(secret), "service_account_id": str(account)}
        return Candidate(
            Ref(id=str(account), label=str(name)),
            Material(parts, _PUBLIC),
            client.instant(found.get("expires")),
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Deletes the account from the organization: in a project's settings alone it would stay alive."""
        account, org = client.number(ref.id, "service_account_id"), client.organization(access)
        answer = _line(access).call(
            "DELETE", f"/organizations/{org}/service-accounts/{account}", changes=True
        )
        if client.is_done(answer) or client.is_gone(answer):
            return
        error = client.refusal(answer, _ADMIN, changes=True)
        if isinstance(error, CredentialRejected) and _signs_its_own_end(access, material):
            return  # what was to end signed this, and is refused: it has ended
        raise error


def _line(access: Access) -> Line:
    if access.admin is None and access.acting is None:
        raise InvalidInput(
            "nobody is there to sign: the connection holds no account and no manager",
            hint="Reconnect with a service account made by a person.",
            field="username",
        )
    return Line.to(access, access.actor)


def _signs_its_own_end(access: Access, material: Material | None) -> bool:
    if access.admin is not None or access.acting is None or material is None:
        return False
    return material.get("username") == access.acting.get("username")


def _name(access: Access) -> str:
    return _BLANK.sub("-", str(access.settings.get("name") or "keyturn"))


def _row_of(rows: list[dict[str, Any]], material: Material) -> dict[str, Any] | None:
    """The row of an account by its number, else by its user name, which Mixpanel keeps unique."""
    named = material.get("service_account_id")
    found = [
        row
        for row in rows
        if (str(row["id"]) == named if named else row["username"] == material.get("username"))
    ]
    return found[0] if len(found) == 1 else None


def _configured(access: Access) -> dict[str, Any]:
    """Nothing is there to copy from: the projects and roles of the connection's settings."""
    found = []
    for each in filter(None, str(access.settings.get("memberships") or "").split(",")):
        project, _, role = each.strip().partition(":")
        if role not in ROLES:
            raise InvalidInput(f"a role is one of {', '.join(ROLES)}", field="memberships")
        found.append({"id": int(client.number(project, "memberships")), "role": role})
    if not found:
        raise InvalidInput(
            "no account is left to copy projects and roles from",
            hint="Set memberships, such as 2195193:analyst, or reconnect with an account made by a person.",
            field="memberships",
        )
    return {"projects": found}


def _copied(line: Line, access: Access, org: str) -> dict[str, Any]:
    """The organization's role, and each project with the role there, of the account in use."""
    if access.acting is None:  # unreachable: asked for only with an account in use
        raise InvalidInput("no account is in use", field="username")
    mine = _row_of(client.accounts(line, org), access.acting)
    if mine is None:
        return _configured(access)
    try:
        seen, is_dead = client.me(line.by(access.acting)), False
    except CredentialRejected:
        if access.admin is None:
            raise
        seen, is_dead = (
            client.me(line),
            True,
        )  # run out, but still a member: the manager's projects are gone through
    projects = seen.get("projects")
    keys = sorted(map(str, projects)) if isinstance(projects, dict) else []
    if not keys:
        raise UnexpectedAnswer("Mixpanel does not say which projects the account in use has")
    if len(keys) > MOST_PROJECTS:
        raise Conflict(f"the account is in {len(keys)} projects; more than {MOST_PROJECTS} are not copied")
    body: dict[str, Any] = {"projects": []}
    left_out = []
    role = "" if is_dead else _role_in(seen, org)
    if role in ROLES:
        body["role"] = role
    elif role:
        left_out.append(f"organization: the role {role}")
    for key in keys:
        project = client.number(key, "project_id")
        entry = next((row for row in client.members(line, project) if row["id"] == mine["id"]), None)
        if entry is None and is_dead:
            continue
        why = _not_copied(entry)
        if why:
            left_out.append(f"project {project}: {why}")
        elif entry is not None and entry.get("target_type") != "organization":
            body["projects"].append({"id": int(project), "role": entry["role"]})
    if left_out:
        raise Conflict(
            "Mixpanel's API cannot give a new account all that the old one has: " + "; ".join(left_out),
            hint="Give the old account plain roles first, or let a person make the new one and reconnect with it.",
        )
    return body


def _role_in(seen: dict[str, Any], org: str) -> str:
    found = seen.get("organizations")
    row = found.get(org) if isinstance(found, dict) else None
    return str(row.get("role") or "") if isinstance(row, dict) else ""


def _not_copied(entry: dict[str, Any] | None) -> str:
    """Why a membership cannot be made by the API; empty when it can, or comes with the organization's role."""
    if entry is None:
        return "a membership that is not listed"
    if entry.get("hasSensitiveAccess"):
        return "access to classified data"
    kind = entry.get("target_type") or "individual"
    if kind == "organization":
        return ""
    if kind != "individual":
        return f"through a {kind}"
    return "" if entry.get("role") in ROLES else f"the role {entry.get('role')}"
