"""A service principal's OAuth secrets: up to five at once, made, listed and deleted by an administrator or manager.

The account's API and the workspace's own door to it differ only in the path; a connection with `account_id` uses the
first. Access tokens already made from a secret outlive it by up to an hour, so a test always asks for a new one.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

from keyturn.connectors.databricks import client
from keyturn.connectors.databricks.client import Line
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
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

CAP = 5
LONGEST_DAYS = 730
TOKEN = "/oidc/v1/token"  # noqa: S105 - a path
_PUBLIC = frozenset({"client_id", "secret_id"})
_UUID = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_ID = re.compile(r"^[0-9A-Za-z-]{1,64}$")
UNCLEAR = (
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
_MANAGE = "Service principal: Manager, or administrator"


class SecretTest:
    """Trades the secret for a new access token and asks the workspace who that is."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only `invalid_client` is a no: what goes wrong after the token was given says nothing of the secret."""
        line = Line.to(access, client.workspace(access))
        try:
            line = client.login(line, TOKEN, material)
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), error.hint)
        except UNCLEAR as error:
            return unclear(error)
        try:
            answer = client.me(line)
        except (CredentialRejected, *UNCLEAR) as error:
            return unclear(error)
        return who(answer)

    def bogus(self, material: Material) -> Material:
        """A client nobody has with a secret nobody has: the real principal is not touched."""
        del material
        return Material(
            {"client_id": str(uuid.uuid4()), "client_secret": "dose" + secrets.token_hex(16)}, _PUBLIC
        )


def who(answer: Answer) -> Probe:
    """The principal and, as the tenant, the workspace's own number, which every answer carries in its header."""
    said = client.object_in(answer)
    return accepted(
        str(said["userName"]),
        tenant=answer.header("x-databricks-org-id"),
        principal_label=str(said.get("displayName") or said["userName"]),
    )


def unclear(error: KeyturnError) -> Probe:
    """What says nothing about a credential."""
    code = {VendorThrottled: "rate_limited", VendorUnavailable: "unavailable"}.get(type(error), "unclear")
    return unknown(str(error.facts.get("code") or code), error.message, float(error.facts.get("wait_s", 0.0)))


@dataclass(frozen=True)
class _Open:
    """Where one principal's secrets are, with whoever may touch them signed in."""

    line: Line
    path: str

    def rows(self) -> list[dict[str, Any]]:
        """All secrets, over all pages; none of them shows its value."""
        found = list(client.pages(self.line, self.path, "secrets", _MANAGE))
        if not all(_ID.match(str(row.get("id", ""))) for row in found):
            raise UnexpectedAnswer("Databricks listed a secret without an id")
        return found


class Secrets:
    """The secrets of the connection's service principal."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every secret with its birth; Databricks tells neither a label nor a last use."""
        return tuple(
            Remote(
                Ref(id=str(row["id"])),
                active=str(row.get("status") or "ACTIVE") == "ACTIVE",
                created_at=client.instant(row.get("create_time")),
            )
            for row in _open(access).rows()
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """The secret's own id. Raises: InvalidInput when it cannot be told for certain; it is never guessed.

        Whoever may not list is believed where the id is given; nothing can be rotated without that right anyway.
        """
        try:
            rows = _open(access).rows()
        except PermissionMissing:
            if named := material.get("secret_id"):
                return Ref(id=named)
            raise
        row = _row_of(rows, material)
        if row is None:
            known = ", ".join(str(each["id"]) for each in rows) or "none"
            raise InvalidInput(
                f"which of the service principal's {len(rows)} secrets this is cannot be told",
                hint=f"Fill in secret_id. Databricks lists: {known}.",
                field="secret_id",
            )
        return Ref(id=str(row["id"]))

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A further secret with the scopes of the one in use. Twice means two: a lost answer is looked up first."""
        del slot
        there = _open(access)
        rows = there.rows()
        if len(rows) >= CAP:
            raise _full(rows)
        body: dict[str, Any] = {"lifetime": f"{_days(access) * 86_400}s"}
        if scopes := _scopes(rows, access.acting):
            body["scopes"] = scopes
        answer = there.line.call("POST", there.path, body, changes=True)
        if answer.status == 200:
            return answer.body
        # How a sixth is refused is not documented, so the secrets are counted again and the words are not read.
        if 400 <= answer.status < 500 and answer.status not in {401, 403}:
            now = there.rows()
            if len(now) >= CAP:
                raise _full(now)
        raise client.refusal(answer, _MANAGE, changes=True)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The secret inside a sealed answer, with the client id that never changes."""
        found = client.opened(receipt)
        secret_id, value = client.facts_of(found, "id", "secret")
        return Candidate(
            Ref(id=secret_id),
            Material(
                {"client_id": _client_id(access), "client_secret": value, "secret_id": secret_id}, _PUBLIC
            ),
            client.instant(found.get("expire_time")),
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Deletes the secret. Tokens already made from it run on for up to an hour."""
        if not _ID.match(ref.id):
            raise InvalidInput("the secret's id is not known", hint="Fill in secret_id.", field="secret_id")
        try:
            there = _open(access)
        except CredentialRejected:
            if client.signs_its_own_end(access, material, "client_secret"):
                return  # what was to end cannot sign in any more: it has ended
            raise
        answer = there.line.call("DELETE", f"{there.path}/{ref.id}", changes=True)
        if answer.status != 200 and not client.is_gone(answer):
            raise client.refusal(answer, _MANAGE, changes=True)


def _open(access: Access) -> _Open:
    """Signs in as the administrator where there is one, else as the service principal itself."""
    if access.admin is None and access.acting is None:
        raise InvalidInput(
            "nobody is there to sign: the connection holds no secret and no administrator",
            hint="Reconnect with a secret made by a person.",
            field="client_secret",
        )
    account = str(access.settings.get("account_id") or "")
    if account and not _UUID.match(account):
        raise InvalidInput("the account id is not a UUID", field="account_id")
    if account:
        base = str(access.settings.get("account_host") or "https://accounts.cloud.databricks.com")
        line = client.login(Line.to(access, base), f"/oidc/accounts/{account}/v1/token", access.actor)
        scim, head = f"/api/2.0/accounts/{account}/scim/v2", f"/api/2.0/accounts/{account}"
    else:
        line = client.login(Line.to(access, client.workspace(access)), TOKEN, access.actor)
        scim, head = client.SCIM, "/api/2.0/accounts"
    number = _number(access, line, scim)
    return _Open(line, f"{head}/servicePrincipals/{number}/credentials/secrets")


def _number(access: Access, line: Line, scim: str) -> str:
    """The principal's numeric id. In its own workspace it is told its own, which needs no right to list others."""
    name = _client_id(access)
    if access.admin is None and scim == client.SCIM:
        said = client.object_in(client.me(line))
        if said.get("userName") == name and str(said.get("id", "")).isdigit():
            return str(said["id"])
    return client.principal_id(line, scim, name)


def _client_id(access: Access) -> str:
    name = str(access.settings.get("client_id") or "")
    if not _UUID.match(name):
        raise InvalidInput(
            "the client id is not a UUID",
            hint="Service principal > Configurations > Application ID.",
            field="client_id",
        )
    return name


def _days(access: Access) -> int:
    days = int(access.settings.get("lifetime_days") or 180)
    if not 1 <= days <= LONGEST_DAYS:
        raise InvalidInput(f"lifetime_days must be 1 to {LONGEST_DAYS}", field="lifetime_days")
    return days


def _row_of(rows: list[dict[str, Any]], material: Material | None) -> dict[str, Any] | None:
    """The row of a secret: by its id, by its hash where the hash is one we know, or because there is only one."""
    if material is None:
        return None
    if named := material.get("secret_id"):
        return next((row for row in rows if row["id"] == named), None)
    # The hash is not documented. A match cannot be chance; no match means nothing.
    digest = hashlib.sha256(material.get("client_secret", "").encode()).digest()
    known = {digest.hex(), base64.b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode()}
    same = [row for row in rows if row.get("secret_hash") in known]
    if len(same) == 1:
        return same[0]
    return rows[0] if len(rows) == 1 else None


def _scopes(rows: list[dict[str, Any]], acting: Material | None) -> list[str]:
    """What the new secret is bound to: never more than the one in use. None are told for an unrestricted one."""
    row = _row_of(rows, acting)
    if row is not None:
        return [str(scope) for scope in row.get("scopes") or []]
    different = {tuple(sorted(map(str, each.get("scopes") or []))) for each in rows}
    if len(different) > 1:
        raise InvalidInput(
            "the secrets are bound to different scopes and it cannot be told which is in use",
            hint="Fill in secret_id.",
            field="secret_id",
        )
    return list(different.pop()) if different else []


def _full(rows: list[dict[str, Any]]) -> CapReached:
    return CapReached(
        f"the service principal has {len(rows)} of {CAP} secrets",
        hint=f"Delete one that nobody uses: {', '.join(str(row['id']) for row in rows)}.",
    )
