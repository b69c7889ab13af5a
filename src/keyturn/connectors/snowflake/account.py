"""What all methods share: the fresh login that tells who it is, the user, and what else is in the account."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from keyturn.connectors.snowflake import client
from keyturn.contract.values import Access, Found, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.moment import iso
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport.snowflake import Session


def look(session: AbstractContextManager[Session], refusal: str) -> Probe:
    """Logs in and asks the server whom it sees.

    Only the refusal of the credential itself is a rejection (390100, 390144, invalid_client, invalid_grant). A disabled
    user (390101) is unknown: its credential works again when it is enabled, so taking that for a dead one would call a
    living one dead. So are a lock-out, a role, a network or an authentication policy.
    """
    try:
        with session as open_session:
            user, account, role = client.whoami(open_session)
    except CredentialRejected as error:
        return rejected(str(error.facts["code"]), refusal)
    except (VendorUnavailable, VendorThrottled, UnexpectedAnswer, NotFound, PermissionMissing) as error:
        return unclear(error)
    # A right is one word; a role may be several.
    return accepted(user, tenant=account, rights=frozenset({quote(role)} if role else ()))


def unclear(error: KeyturnError) -> Probe:
    """An error that says nothing about the credential."""
    code = str(error.facts.get("network") or error.facts.get("code") or "unavailable")
    found = unknown(code, f"{error.message}. {error.hint}", float(error.facts.get("wait_s", 0.0)))
    return dataclasses.replace(found, locked=bool(error.facts.get("locked")))


def need_admin(access: Access) -> None:
    """Raises: InvalidInput when the connection has no administrator."""
    if access.admin is None:
        raise InvalidInput(
            "this needs an administrator", hint="Add one to the connection.", field="admin_user"
        )


class Rows:
    """The rows of a table or view, as far as they are counted. Runs in the connection's own role and warehouse."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of `[[database.]schema.]table`, spelled exactly (in capitals, unless it was made in quotes)."""
        table = tuple(what.split("."))
        if len(table) > 3 or not all(table):
            raise InvalidInput(
                "a table is named as TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE",
                hint="For example SALES.PUBLIC.ORDERS.",
                field="what",
            )
        with client.own_session(access, material) as session:
            return Sample(client.count_rows(session, table, limit), what)


class User:
    """The Snowflake user itself."""

    def drop(self, access: Access) -> None:
        """Disables the user and, unless `given_up` says to keep it, drops it; its sessions end.

        Needs an administrator: nobody may drop himself.
        """
        need_admin(access)
        with client.acting_session(access) as session:
            try:
                name = client.name_of(session, access)
            except NotFound:
                return
            client.give_up_user(session, name, keep=access.settings.get("given_up") == "disable")


class Account:
    """What else in the account is, or could be, an integration; and who uses this connection's user."""

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Users and security integrations whose name is like `discover_like`, then the logins of this connection's user.

        Only what the role may see: without OWNERSHIP a user is a bare name, and login history may be hidden.
        """
        like = str(access.settings.get("discover_like") or "%")
        with client.acting_session(access) as session:
            users = client.users(session, like)
            try:
                integrations = client.integrations(session, like)
            except PermissionMissing:
                integrations = []
            try:
                name = client.name_of(session, access)
            except (NotFound, InvalidInput):
                name = ""
            logins = client.history(session, name) if name else ()
        return (
            *(_found_user(row) for row in users),
            *(_found_integration(row) for row in integrations),
            *(_found_logins(name, each) for each in logins),
        )


def _found_user(row: Mapping[str, Any]) -> Found:
    kind = str(row.get("type") or "PERSON")
    has_key, has_password = (
        client.is_true(row.get("has_rsa_public_key")),
        client.is_true(row.get("has_password")),
    )
    flags = {
        "password and no key pair": has_password and not has_key,
        "key pair and password": has_password and has_key,
        "legacy service user": kind == "LEGACY_SERVICE",
        "disabled": client.is_true(row.get("disabled")),
    }
    return Found(
        str(row["name"]),
        "user",
        {
            "type": kind,
            "login_name": str(row.get("login_name") or ""),
            "default_role": str(row.get("default_role") or ""),
            "has_key_pair": has_key,
            "has_password": has_password,
            "last_login_at": iso(client.instant(row.get("last_success_login"))),
            "flags": [words for words, holds in flags.items() if holds],
        },
    )


def _found_integration(row: Mapping[str, Any]) -> Found:
    return Found(
        str(row["name"]),
        "security_integration",
        {"type": str(row.get("type") or ""), "enabled": client.is_true(row.get("enabled"))},
    )


def _found_logins(user: str, logins: client.Logins) -> Found:
    return Found(
        f"{user} by {logins.factor or 'an unknown factor'} from {logins.address or 'an unknown address'}",
        "logins",
        {
            "user": user,
            "factor": logins.factor,
            "client": logins.client,
            "address": logins.address,
            "count": logins.count,
            "last_at": iso(logins.last_at),
        },
    )
