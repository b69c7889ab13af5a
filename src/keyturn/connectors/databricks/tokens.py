"""Personal access tokens: what a user name and password became when Databricks ended password logins.

A token makes, lists and deletes the tokens of its own user. An administrator lists and deletes anybody's, and can make
new ones only for service principals.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from keyturn.connectors.databricks import client
from keyturn.connectors.databricks.client import Line
from keyturn.connectors.databricks.oauth_secrets import UNCLEAR, unclear, who
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    UnexpectedAnswer,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, rejected

OWN = "/api/2.0/token"
MANAGED = "/api/2.0/token-management"
LONGEST_DAYS = 730
QUOTA = "QUOTA_EXCEEDED"
_PUBLIC = frozenset({"token_id"})
_UUID = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_USER = re.compile(r'^[^\s"\\]{1,256}$')
_ID = re.compile(r"^[0-9A-Za-z_-]{1,128}$")
_ADMIN = "workspace admin"
_USE = "permission to use personal access tokens"


class TokenTest:
    """Asks the workspace who a token belongs to."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only the documented words about an invalid token are a no; a blocked address is not."""
        line = Line.to(access, client.workspace(access), material.get("token", ""))
        try:
            return who(client.me(line))
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), error.message)
        except UNCLEAR as error:
            return unclear(error)

    def bogus(self, material: Material) -> Material:
        """A token nobody has; a token names no user, so nobody is locked out."""
        del material
        return Material({"token": "dapi" + secrets.token_hex(16)}, _PUBLIC)


class Tokens:
    """The tokens of the connection's user or service principal."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every token of the user with its comment and birth. The last use is told by the day only, so it is left out."""
        return tuple(
            Remote(
                Ref(id=str(row["token_id"]), label=str(row.get("comment") or "")),
                created_at=client.instant(row.get("creation_time")),
            )
            for row in _rows(access)
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """The token's id, once the token is seen to be this user's. Raises: InvalidInput; it is never guessed."""
        line = Line.to(access, client.workspace(access), material.get("token", ""))
        name = client.object_in(client.me(line)).get("userName")
        if name != _user(access):
            raise InvalidInput(
                "the token belongs to another user", hint=f"It is {name}'s.", field="user_name"
            )
        rows = _rows(access)
        row = _row_of(rows, material)
        if row is None:
            known = ", ".join(f"{each['token_id']} ({each.get('comment') or 'no comment'})" for each in rows)
            raise InvalidInput(
                f"which of the user's {len(rows)} tokens this is cannot be told",
                hint=f"Fill in token_id. Databricks lists: {known}."[:1000],
                field="token_id",
            )
        return Ref(id=str(row["token_id"]), label=str(row.get("comment") or ""))

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A further token that carries our mark, with the scopes of the one in use."""
        del slot
        body: dict[str, Any] = {
            "comment": access.marker or "keyturn",
            "lifetime_seconds": _days(access) * 86_400,
        }
        if scopes := _scopes(_rows(access), access.acting):
            body["scopes"] = scopes
        if access.admin is not None and _UUID.match(_user(access)):
            line, path = _line(access), f"{MANAGED}/on-behalf-of/tokens"
            body["application_id"] = _user(access)
        elif access.acting is not None:
            line = Line.to(access, client.workspace(access), access.acting.get("token", ""))
            path = f"{OWN}/create"
        else:
            raise InvalidInput(
                "nobody can make a token for this user but the user",
                hint="Reconnect with a token made by a person.",
                field="token",
            )
        answer = line.call("POST", path, body, changes=True)
        if answer.status == 200:
            return answer.body
        if client.object_in(answer).get("error_code") == QUOTA and answer.status < 500:
            raise CapReached(
                "the user holds as many tokens as Databricks allows", hint="Delete those that nobody uses."
            )
        raise client.refusal(answer, _USE, changes=True)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The token inside a sealed answer, with its id: the token itself does not tell it."""
        found = client.opened(receipt)
        info = found.get("token_info")
        if not isinstance(info, dict):
            raise UnexpectedAnswer("Databricks' answer holds no new credential")
        (value,), (token_id,) = client.facts_of(found, "token_value"), client.facts_of(info, "token_id")
        return Candidate(
            Ref(id=token_id, label=str(info.get("comment") or access.marker)),
            Material({"token": value, "token_id": token_id}, _PUBLIC),
            client.instant(info.get("expiry_time")),
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Deletes the token. A user's last token can delete itself; a second time it cannot sign and is refused."""
        if not _ID.match(ref.id):
            raise InvalidInput("the token's id is not known", hint="Fill in token_id.", field="token_id")
        line = _line(access)
        if access.admin is not None:
            answer = line.call("DELETE", f"{MANAGED}/tokens/{ref.id}", changes=True)
        else:
            answer = line.call("POST", f"{OWN}/delete", {"token_id": ref.id}, changes=True)
        if answer.status == 200 or client.is_gone(answer):
            return
        if client.signs_its_own_end(access, material, "token") and client.is_dead(answer):
            return  # what was to end signed this, and is refused: it has ended
        raise client.refusal(answer, _USE, changes=True)


def _line(access: Access) -> Line:
    if access.admin is None and access.acting is None:
        raise InvalidInput(
            "nobody is there to sign", hint="Reconnect with a token made by a person.", field="token"
        )
    return Line.to(access, client.workspace(access), access.actor.get("token", ""))


def _rows(access: Access) -> list[dict[str, Any]]:
    """The user's tokens: their own list, or what the administrator's list says they own."""
    line = _line(access)
    if access.admin is None:
        rows = list(client.pages(line, f"{OWN}/list", "token_infos", _USE))
    else:
        owner = _number(line, _user(access))
        every = client.pages(line, f"{MANAGED}/tokens", "token_infos", _ADMIN)
        rows = [row for row in every if str(row.get("owner_id", "")) == owner]
    if not all(_ID.match(str(row.get("token_id", ""))) for row in rows):
        raise UnexpectedAnswer("Databricks listed a token without an id")
    return rows


def _number(line: Line, user: str) -> str:
    if _UUID.match(user):
        return client.principal_id(line, client.SCIM, user)
    return client.user_id(line, user)


def _user(access: Access) -> str:
    name = str(access.settings.get("user_name") or "")
    if not _USER.match(name):
        raise InvalidInput("user_name is missing or malformed", field="user_name")
    return name


def _days(access: Access) -> int:
    days = int(access.settings.get("lifetime_days") or 90)
    if not 1 <= days <= LONGEST_DAYS:
        raise InvalidInput(f"lifetime_days must be 1 to {LONGEST_DAYS}", field="lifetime_days")
    return days


def _row_of(rows: list[dict[str, Any]], material: Material | None) -> dict[str, Any] | None:
    """The row of a token: by its id, by its hash, or because there is only one.

    The SDK calls the id of a token the SHA-256 hash of the token. A match cannot be chance; no match means nothing.
    """
    if material is None:
        return None
    hashed = hashlib.sha256(material.get("token", "").encode()).hexdigest()
    named = material.get("token_id") or hashed
    found = next((row for row in rows if row["token_id"] == named), None)
    if found is None and not material.get("token_id") and len(rows) == 1:
        return rows[0]
    return found


def _scopes(rows: list[dict[str, Any]], acting: Material | None) -> list[str]:
    """What the new token is bound to: never more than the one in use. None are told for an unrestricted one."""
    row = _row_of(rows, acting)
    if row is not None:
        return [str(scope) for scope in row.get("scopes") or []]
    different = {tuple(sorted(map(str, each.get("scopes") or []))) for each in rows}
    if len(different) > 1:
        raise InvalidInput(
            "the tokens are bound to different scopes and it cannot be told which is in use",
            hint="Fill in token_id.",
            field="token_id",
        )
    return list(different.pop()) if different else []
