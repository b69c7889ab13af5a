"""What Redshift offers for one user, and for two users that take turns. It has no second password for one user."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from keyturn.connectors.redshift import client
from keyturn.connectors.redshift.client import User
from keyturn.connectors.redshift.types import Place, is_two, need_admin
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote, Sample
from keyturn.errors import (
    CallInsideTransaction,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    VendorUnavailable,
)
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, accepted, rejected, unknown
from keyturn.transport import sql
from keyturn.transport.sql.acting import admin_of, own, within

_REFUSED = frozenset({"28000", "28P01"})


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """One user without a separate administrator has the self path only: a person has to end it."""
    if method != "password":
        raise NotFound(f"redshift has no method {method}")
    if is_two(settings):
        two = TwoUsers()
        return Capabilities(
            two,
            two,
            two,
            two,
            disabler=two,
            revoker=two,
            dropper=two,
            discoverer=two,
            locator=two,
            reader=two,
        )
    one = OneUser()
    if not settings.get("admin_user"):
        return Capabilities(one, one, one, one, discoverer=one, locator=one, reader=one)
    return Capabilities(one, one, one, one, revoker=one, dropper=one, discoverer=one, locator=one, reader=one)


class _Users(ABC):
    """What one and two users have in common."""

    @abstractmethod
    def _identify(self, place: Place, user: str, in_group: bool) -> Probe:
        """Judges who the cluster says was let in."""

    @abstractmethod
    def _user(self, place: Place, access: Access, slot: Ref) -> str:
        """The user that `slot` means."""

    def verify(self, access: Access, material: Material) -> Probe:
        """A fresh login with exactly this material; SQLSTATE as code."""
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        try:
            return self._enter(place, access, material)
        except CallInsideTransaction:
            raise
        except CredentialRejected as error:
            said = _explain(place, within(access, until), material, error)
            return rejected(str(error.facts["code"]), said)
        except KeyturnError as error:
            if "code" not in error.facts:
                raise  # the settings are wrong; nothing was asked
            code = str(error.facts["code"])
            wait_s = 5.0 if code in {"53300", "57P03"} else 0.0
            more = " A sha256 password cannot be tested from here." if code == "method" else ""
            return unknown(code, f"{error.message}. {error.hint}{more}".strip(), wait_s)

    def bogus(self, material: Material) -> Material:  # noqa: ARG002 - any well-formed one will do
        """A user that does not exist: no failed login counts against a real one."""
        return Material(
            {"user": f"keyturn_nobody_{secrets.token_hex(4)}", "password": password()}, frozenset({"user"})
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """The digest follows from user and password, so `set` repeats it."""
        place = Place.of(access.settings)
        user = _named(self._user(place, access, slot))
        material = Material({"user": user, "password": password()}, frozenset({"user"}))
        return Candidate(place.ref(user), material)

    def locate(self, access: Access, material: Material) -> Ref:
        """The place of the user this login names."""
        place = Place.of(access.settings)
        user = _named(material["user"])
        if place.users and user not in place.users.values():
            raise InvalidInput(f"user {user} is neither user_a nor user_b", field="user")
        return place.ref(user)

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of a table or view (`name` or `schema.name`), or of the connection's sample query.

        Raises: InvalidInput when nothing is named; PermissionMissing and NotFound as the cluster says.
        """
        place = Place.of(access.settings)
        table = tuple(what.split(".")) if what else ()
        if len(table) > 2 or not all(table) or any("\0" in name for name in table):
            raise InvalidInput(
                "a table is named as name or schema.name",
                hint="Make a view for a name with a dot in it.",
                field="what",
            )
        if not table and not place.sample_query:
            raise InvalidInput(
                "nothing is named to read",
                hint="Name a table, or give the connection a sample_query.",
                field="what",
            )
        with sql.login(
            place.login(access, material.get("user", ""), material.get("password", ""))
        ) as session:
            count = client.count_sample(session, table, place.sample_query, limit)
        return Sample(count, what or "the sample query")

    def discover(self, access: Access) -> tuple[Found, ...]:
        """All users; their live sessions where a superuser looks."""
        with _acting(Place.of(access.settings), access) as session:
            rows = client.list_all(session)
        return tuple(
            Found(
                str(row[0]),
                "user",
                {
                    "superuser": row[1] == "t",
                    "createdb": row[2] == "t",
                    "expired": row[3] == "t",
                    "sessions": int(row[4] or 0),
                },
            )
            for row in rows
        )

    def _enter(self, place: Place, access: Access, material: Material) -> Probe:
        params = place.login(access, material.get("user", ""), material.get("password", ""))
        with sql.login(params) as session:
            try:
                user, _, in_group = client.read_identity(session, place.group, place.sample_query)
            except (PermissionMissing, NotFound) as error:
                # The password works, but not for what it is wanted for: it must not be switched to.
                return unknown(str(error.facts["code"]), f"logged in, but the sample query: {error.message}")
        return self._identify(place, user, in_group)


class OneUser(_Users):
    """One user, one password: the new value ends the old at once."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - there is one place
        """Via the administrator where there is one; else the user changes its own password."""
        place, user = Place.of(access.settings), _named(material["user"])
        admin = admin_of(access)
        if admin is None and (access.acting is None or access.acting.get("user") != user):
            need_admin(access, client.SET_RIGHT, "set another user's password")
        with _acting(place, access) as session:
            # A user may change its own password and nothing else.
            options = " VALID UNTIL 'infinity'" if admin else ""
            if place.end_sessions:
                client.check_ending(session)
            client.set_password(session, user, material["password"], options=options)
            if place.end_sessions:
                client.end_sessions(session, user)

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The user's one slot; left out when it was emptied here."""
        place = Place.of(access.settings)
        name = self._user(place, access, Ref())
        with _acting(place, access) as session:
            found = client.read_users(session, (name,)).get(name)
        if found is None or found.emptied:
            return ()
        return (Remote(place.ref(name), active=not found.expired),)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Closes the user, if it still holds this value.

        After a rotation the slot holds the successor: then the value is gone already, and closing the user would kill
        the wrong one. So a value we still have is tried first.
        """
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        name = material["user"] if material is not None else self._user(place, access, ref)
        if material is not None:
            probe = self.verify(access, material)
            if probe.verdict is Verdict.REJECTED and probe.code in _REFUSED:
                return
            if probe.verdict is Verdict.UNKNOWN and probe.code not in {"42501", "53300", "3D000"}:
                raise VendorUnavailable(
                    f"whether the value still works is not known: {probe.detail}", code=probe.code
                )
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "revoke its login")
        _close(place, within(access, until), name)

    def drop(self, access: Access) -> None:
        """Drops the user, unless it owns something in this database."""
        place = Place.of(access.settings)
        need_admin(access, client.DROP_RIGHT, "drop")
        _drop(place, access, (self._user(place, access, Ref()),))

    def _identify(self, place: Place, user: str, in_group: bool) -> Probe:  # noqa: ARG002 - of two users only
        return accepted(user, tenant=place.tenant, rights=_rights(place))

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - it is the acting one
        named = access.acting.get("user") if access.acting is not None else None
        found = named or slot.label or str(access.settings.get("user") or "")
        if not found:
            raise InvalidInput("the user is not known", field="user")
        return found


class TwoUsers(_Users):
    """Two users in one group: one in use, the other free."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Opens the user with the new value; the administrator does it, as no user may alter the other."""
        place = Place.of(access.settings)
        user = place.user_at(ref)
        if material["user"] != user:
            raise InvalidInput(f"the value was made for {material['user']}, not for {user}", field="user")
        need_admin(access, client.SET_RIGHT, "open the other user or")
        with _acting(place, access) as session:
            client.set_password(session, user, material["password"], options=" VALID UNTIL 'infinity'")

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The users that hold a value.

        Redshift tells nobody whether a user has a password: one that was emptied carries a passed date of ours, and so
        must one that was never used (see the guide). An emptied user with live sessions is not free either.
        Raises: InvalidInput when the users are not set up for taking turns.
        """
        place = Place.of(access.settings)
        with _acting(place, access) as session:
            users = client.read_users(session, tuple(place.users.values()), place.group)
        _check_pair(place, users)
        return tuple(
            Remote(place.ref(name), active=not users[name].expired)
            for name in place.users.values()
            if not users[name].emptied or users[name].sessions
        )

    def disable(self, access: Access, ref: Ref) -> None:
        """Lets the password expire and keeps it, then ends the user's sessions: they would live on."""
        place = Place.of(access.settings)
        user = place.user_at(ref)
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "switch its login off")
        with _acting(place, access) as session:
            known = client.read_users(session, (user,)).get(user)
            if known is None or known.emptied:
                return
            client.check_ending(session)
            client.alter(session, user, f"VALID UNTIL '{client.OFF}'")
            client.end_sessions(session, user)

    def enable(self, access: Access, ref: Ref) -> None:
        """Valid again, with the value it had."""
        place = Place.of(access.settings)
        need_admin(access, client.SET_RIGHT, "switch its login on")
        with _acting(place, access) as session:
            client.alter(session, place.user_at(ref), "VALID UNTIL 'infinity'")

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:  # noqa: ARG002 - the slot says it
        """Takes the user's value away and ends its sessions; the user itself stays, empty."""
        place = Place.of(access.settings)
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "revoke its login")
        _close(place, access, place.user_at(ref))

    def drop(self, access: Access) -> None:
        """Drops both users, unless one owns something in this database."""
        place = Place.of(access.settings)
        need_admin(access, client.DROP_RIGHT, "drop")
        _drop(place, access, tuple(place.users.values()))

    def _identify(self, place: Place, user: str, in_group: bool) -> Probe:
        if not in_group:
            return unknown(
                "group", f"user {user} is not in group {place.group}. {_group_fix(user, place.group)}"
            )
        return accepted(place.group, tenant=place.tenant, rights=_rights(place), login_label=user)

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - the slot says it
        return place.user_at(slot)


def _acting(place: Place, access: Access) -> AbstractContextManager[sql.Session]:
    """The administrator's pooled session, or a fresh one of the credential itself."""
    admin = admin_of(access)
    if admin is not None:
        return sql.admin(place.login(access, *admin))
    acting = own(access, client.SET_RIGHT)
    return sql.login(place.login(access, acting.get("user", ""), acting.get("password", "")))


def _close(place: Place, access: Access, user: str) -> None:
    with _acting(place, access) as session:
        client.check_ending(session)
        try:
            client.alter(session, user, f"PASSWORD DISABLE VALID UNTIL '{client.EMPTIED}'")
        except NotFound:
            return
        client.end_sessions(session, user)


def _drop(place: Place, access: Access, users: tuple[str, ...]) -> None:
    with _acting(place, access) as session:
        client.check_ending(session)
        for user in client.read_users(session, users):
            client.alter(session, user, f"PASSWORD DISABLE VALID UNTIL '{client.EMPTIED}'")
            client.end_sessions(session, user)
            client.drop_user(session, user)


def _named(user: str) -> str:
    """Redshift keeps names in lower case and salts the digest with them: another spelling would digest to nothing."""
    if user != user.lower():
        raise InvalidInput(
            "a Redshift user's name is kept in lower case", hint=f"Write it as {user.lower()}.", field="user"
        )
    return user


def _check_pair(place: Place, users: Mapping[str, User]) -> None:
    """The set-up without which the second user would not be the first one's equal."""
    for slot, name in place.users.items():
        user = users.get(name)
        if user is None:
            raise InvalidInput(
                f"user {name} does not exist",
                hint=f"CREATE USER {name} PASSWORD DISABLE VALID UNTIL '{client.EMPTIED}' IN GROUP {place.group};",
                field=slot,
            )
        if not user.in_group:
            raise InvalidInput(
                f"user {name} is not in group {place.group}", hint=_group_fix(name, place.group), field=slot
            )


def _group_fix(user: str, group: str) -> str:
    return f"ALTER GROUP {group} ADD USER {user};"


def _rights(place: Place) -> frozenset[str]:
    return frozenset({"CONNECT", "sample_query"} if place.sample_query else {"CONNECT"})


def _explain(place: Place, access: Access, material: Material, error: KeyturnError) -> str:
    """What went wrong; an administrator can see which of several causes it is. Never changes the verdict."""
    said = f"{error.message}. {error.hint}".strip()
    if admin_of(access) is None or error.facts.get("code") not in _REFUSED:
        return said
    name = material.get("user", "")
    try:
        with _acting(place, access) as session:
            user = client.read_users(session, (name,)).get(name)
    except KeyturnError:
        return said
    if user is None:
        return f"user {name} does not exist"
    if user.expired:
        return f"user {name}: its VALID UNTIL has passed, so no password is accepted"
    return f"user {name} exists and holds another password, or none"
