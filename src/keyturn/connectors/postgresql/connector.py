"""What PostgreSQL offers for one role, and for two roles that take turns."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from keyturn.connectors.postgresql import client, scram_memo
from keyturn.connectors.postgresql.types import Place, Role, is_two, need_admin
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


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """One role without a separate administrator has the self path only: a person has to end it."""
    if method != "password":
        raise NotFound(f"postgresql has no method {method}")
    if is_two(settings):
        two = TwoRoles()
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
    one = OneRole()
    if not settings.get("admin_user"):
        return Capabilities(one, one, one, one, discoverer=one, locator=one, reader=one)
    return Capabilities(one, one, one, one, revoker=one, dropper=one, discoverer=one, locator=one, reader=one)


class _Roles(ABC):
    """What one and two roles have in common."""

    @abstractmethod
    def _identify(self, place: Place, session_user: str, current_user: str) -> Probe:
        """Judges who the server says was let in."""

    @abstractmethod
    def _role(self, place: Place, access: Access, slot: Ref) -> str:
        """The role that `slot` means."""

    def verify(self, access: Access, material: Material) -> Probe:
        """A fresh login with exactly this material; SQLSTATE as code."""
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        keys = scram_memo.login_keys(material)
        try:
            if keys is not None:
                try:
                    return self._enter(place, access, material, keys)
                except CredentialRejected:
                    # Not yet a no: the same password may be stored under another salt. The password itself decides.
                    scram_memo.doubt(material)
            return self._enter(place, within(access, until), material, None)
        except CallInsideTransaction:
            raise
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), _explain(place, within(access, until), material, error))
        except KeyturnError as error:
            if "code" not in error.facts:
                raise  # the settings are wrong; nothing was asked
            wait_s = 5.0 if error.facts["code"] in {"53300", "57P03"} else 0.0
            return unknown(
                str(error.facts["code"]), _explain(place, within(access, until), material, error), wait_s
            )

    def bogus(self, material: Material) -> Material:  # noqa: ARG002 - any well-formed one will do
        """A role that does not exist: no failed login counts against a real one."""
        return Material(
            {"user": f"keyturn_nobody_{secrets.token_hex(4)}", "password": password()}, frozenset({"user"})
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """The salt is made with the password, so `set` always writes the same verifier and the ref can name it."""
        place = Place.of(access.settings)
        role = self._role(place, access, slot)
        parts = {"user": role, "password": password(), scram_memo.SALT: scram_memo.new_salt()}
        material = Material(parts, frozenset({"user", scram_memo.SALT}))
        return Candidate(place.ref(role, scram_memo.keys_of(material).verifier()), material)

    def locate(self, access: Access, material: Material) -> Ref:
        """The place of the role this login names."""
        place = Place.of(access.settings)
        user = material["user"]
        if place.roles and user not in place.roles.values():
            raise InvalidInput(f"user {user} is neither role_a nor role_b", field="user")
        return place.ref(user)

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of a table or view (`name` or `schema.name`, spelled exactly), or of the connection's sample query.

        Raises: InvalidInput when nothing is named; PermissionMissing and NotFound as the server says.
        """
        place = Place.of(access.settings)
        table = tuple(what.split(".")) if what else ()
        query = place.sample_query.strip().rstrip(";")
        if len(table) > 2 or not all(table) or any("\0" in name for name in table):
            raise InvalidInput(
                "a table is named as name or schema.name",
                hint="Make a view for a name with a dot in it.",
                field="what",
            )
        if not table and not query:
            raise InvalidInput(
                "nothing is named to read",
                hint="Name a table, or give the connection a sample_query.",
                field="what",
            )
        with sql.login(
            place.login(access, material.get("user", ""), material.get("password", ""))
        ) as session:
            count = client.count_sample(session, table, query, limit)
        return Sample(count, what or "the sample query")

    def discover(self, access: Access) -> tuple[Found, ...]:
        """All roles with their memberships and live sessions."""
        with _acting(Place.of(access.settings), access) as session:
            rows = client.list_all(session)
        names = ("superuser", "createrole", "login", "replication")
        return tuple(
            Found(
                str(row[0]),
                "role",
                {
                    **{key: value == "t" for key, value in zip(names, row[1:5], strict=True)},
                    "connection_limit": int(row[5] or "-1"),
                    "valid_until": None if row[6] is None else int(row[6]),
                    "member_of": tuple((row[7] or "").split(",")) if row[7] else (),
                    "sessions": int(row[8] or 0),
                },
            )
            for row in rows
        )

    def _enter(
        self, place: Place, access: Access, material: Material, keys: tuple[bytes, bytes] | None
    ) -> Probe:
        params = place.login(access, material.get("user", ""), material.get("password", ""), keys)
        with sql.login(params) as session:
            try:
                session_user, current_user = self._who(session, place)
            except (PermissionMissing, NotFound) as error:
                # The password works, but not for what it is wanted for: it must not be switched to.
                return unknown(str(error.facts["code"]), f"logged in, but the sample query: {error.message}")
        return self._identify(place, session_user, current_user)

    def _who(self, session: sql.Session, place: Place) -> tuple[str, str]:
        """Session user and acting user, as the server says."""
        return client.read_identity(session, place.sample_query)


class OneRole(_Roles):
    """One role, one password: the new value ends the old at once."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - there is one place
        """Via the administrator where there is one; else the role changes its own password."""
        place, keys = Place.of(access.settings), scram_memo.keys_of(material)
        admin = admin_of(access)
        if admin is None and (access.acting is None or access.acting.get("user") != material["user"]):
            need_admin(access, client.SET_RIGHT, "set another role's password")
        with _acting(place, access) as session:
            options = (
                "LOGIN PASSWORD" if admin else "PASSWORD"
            )  # the self path may change nothing else (42501)
            if place.end_sessions:
                client.check_ending(session, material["user"])
            client.set_password(session, material["user"], keys, options=options)
            if place.end_sessions:
                client.end_sessions(session, material["user"])

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The role's one slot; with its fingerprint where pg_authid can be read, left out when it holds no password."""
        place = Place.of(access.settings)
        name = self._role(place, access, Ref())
        with _acting(place, access) as session:
            found = client.read_slot(session, name)
        if found is None or found[1] == "":
            return ()
        return (Remote(place.ref(name, found[1] or ""), active=found[0]),)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Closes the role, if it still holds this value.

        After a rotation the slot holds the successor: then the value is gone already, and closing the role would kill
        the wrong one. So a value we still have is tried first.
        """
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        name = material["user"] if material is not None else self._role(place, access, ref)
        if material is not None:
            probe = self.verify(access, material)
            if probe.verdict is Verdict.REJECTED and probe.code == "28P01":
                return
            if probe.verdict is Verdict.UNKNOWN and probe.code not in {"42501", "53300", "3D000"}:
                raise VendorUnavailable(
                    f"whether the value still works is not known: {probe.detail}", code=probe.code
                )
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "revoke its login")
        _close(place, within(access, until), name, "NOLOGIN PASSWORD NULL")

    def drop(self, access: Access) -> None:
        """Drops the role; what it owns in this database goes to the administrator."""
        place = Place.of(access.settings)
        heir = need_admin(access, client.DROP_RIGHT, "drop")[0]
        _drop(place, access, (self._role(place, access, Ref()),), heir)

    def _who(self, session: sql.Session, place: Place) -> tuple[str, str]:
        """The server names whom it let in with the login itself: a statement would cost half as much as the login."""
        told = session.session_user
        return (told, told) if told and not place.sample_query else super()._who(session, place)

    def _identify(self, place: Place, session_user: str, current_user: str) -> Probe:  # noqa: ARG002 - as for two
        return accepted(session_user, tenant=place.tenant, rights=_rights(place))

    def _role(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - the role is the acting one
        named = access.acting.get("user") if access.acting is not None else None
        found = named or slot.label or str(access.settings.get("user") or "")
        if not found:
            raise InvalidInput("the role is not known", field="user")
        return found


class TwoRoles(_Roles):
    """Two login roles in one owner role: one in use, the other free."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Opens the role with the new value; the administrator does it, as no role may alter the other."""
        place = Place.of(access.settings)
        role = place.role_at(ref)
        if material["user"] != role:
            raise InvalidInput(f"the value was made for {material['user']}, not for {role}", field="user")
        need_admin(access, client.SET_RIGHT, "open the other role or")
        keys = scram_memo.keys_of(material)
        with _acting(place, access) as session:
            client.set_password(session, role, keys, options="LOGIN PASSWORD VALID UNTIL 'infinity'")

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The roles that hold a value.

        PostgreSQL shows only superusers whether a role has a password. Without that, a role without LOGIN counts as
        switched off (its value kept) while its VALID UNTIL runs on, which `disable` sees to, and else as empty. A
        closed role with live sessions is not empty either: somebody is still using it.
        Raises: InvalidInput when the roles are not set up for taking turns.
        """
        place = Place.of(access.settings)
        names = tuple(place.roles.values())
        with _acting(place, access) as session:
            roles = client.read_roles(session, names, place.group_role)
        _check_pair(place, roles)
        found = []
        for name in names:
            role = roles[name]
            holds = role.verifier != "" if role.verifier is not None else (role.can_login or role.runs_on)
            if holds or role.sessions:
                active = role.can_login and holds and not role.expired
                found.append(Remote(place.ref(name, role.verifier or ""), active=active))
        return tuple(found)

    def disable(self, access: Access, ref: Ref) -> None:
        """NOLOGIN, then its sessions are ended: they would live on."""
        place = Place.of(access.settings)
        role = place.role_at(ref)
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "switch its login off")
        with _acting(place, access) as session:
            known = client.read_roles(session, (role,)).get(role)
            if known is None:
                return
            kept = " VALID UNTIL 'infinity'" if not known.runs_on and not known.expired else ""
            client.alter(session, role, f"NOLOGIN{kept}")
            client.end_sessions(session, role)

    def enable(self, access: Access, ref: Ref) -> None:
        """LOGIN again, with the value it had."""
        place = Place.of(access.settings)
        need_admin(access, client.SET_RIGHT, "switch its login on")
        with _acting(place, access) as session:
            client.alter(session, place.role_at(ref), "LOGIN")

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:  # noqa: ARG002 - the slot says it
        """Takes the role's value and login away and ends its sessions; the role itself stays, empty."""
        place = Place.of(access.settings)
        need_admin(access, f"{client.SET_RIGHT}, {client.END_RIGHT}", "revoke its login")
        # The past date is for our own eyes: it tells an emptied role from a switched-off one (`list`).
        _close(place, access, place.role_at(ref), "NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'")

    def drop(self, access: Access) -> None:
        """Drops both roles; what they own in this database goes to the group role."""
        place = Place.of(access.settings)
        need_admin(access, client.DROP_RIGHT, "drop")
        _drop(place, access, tuple(place.roles.values()), place.group_role)

    def _identify(self, place: Place, session_user: str, current_user: str) -> Probe:
        if current_user != place.group_role:
            return unknown("role_setting", _trap(session_user, place.group_role))
        return accepted(current_user, tenant=place.tenant, rights=_rights(place), login_label=session_user)

    def _role(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - the slot says it
        return place.role_at(slot)


def _acting(place: Place, access: Access) -> AbstractContextManager[sql.Session]:
    """The administrator's pooled session, or a fresh one of the credential itself."""
    admin = admin_of(access)
    if admin is not None:
        return sql.admin(place.login(access, *admin))
    acting = own(access, client.SET_RIGHT)
    params = place.login(
        access, acting.get("user", ""), acting.get("password", ""), scram_memo.login_keys(acting)
    )
    return sql.login(params)


def _close(place: Place, access: Access, role: str, options: str) -> None:
    with _acting(place, access) as session:
        try:
            client.alter(session, role, options)
        except NotFound:
            return
        client.end_sessions(session, role)


def _drop(place: Place, access: Access, roles: tuple[str, ...], heir: str) -> None:
    with _acting(place, access) as session:
        for role in client.read_roles(session, roles):
            client.alter(session, role, "NOLOGIN")
            client.end_sessions(session, role)
            client.drop_role(session, role, heir)


def _check_pair(place: Place, roles: Mapping[str, Role]) -> None:
    """The set-up without which the second role would not be the first one's equal."""
    for slot, name in place.roles.items():
        role = roles.get(name)
        if role is None:
            raise InvalidInput(
                f"role {name} does not exist",
                hint=f"CREATE ROLE {name} NOLOGIN IN ROLE {place.group_role};",
                field=slot,
            )
        if not role.in_group:
            raise InvalidInput(
                f"role {name} is not a member of {place.group_role}",
                hint=f"GRANT {place.group_role} TO {name};",
                field=slot,
            )
        if role.acts_as != place.group_role:
            raise InvalidInput(
                _trap(name, place.group_role),
                hint=f"ALTER ROLE {name} SET role = '{place.group_role}';",
                field=slot,
            )


def _trap(role: str, group_role: str) -> str:
    return (
        f"role {role} does not act as {group_role}: what it creates would belong to it alone and be closed to the "
        f"other role. Run ALTER ROLE {role} SET role = '{group_role}'"
    )


def _rights(place: Place) -> frozenset[str]:
    return frozenset({"CONNECT", "sample_query"} if place.sample_query else {"CONNECT"})


def _explain(place: Place, access: Access, material: Material, error: KeyturnError) -> str:
    """What went wrong; an administrator can see which of several causes it is. Never changes the verdict."""
    said = f"{error.message}. {error.hint}".strip()
    if admin_of(access) is None or error.facts.get("code") not in {"28P01", "53300"}:
        return said
    name = material.get("user", "")
    try:
        with _acting(place, access) as session:
            role = client.read_roles(session, (name,)).get(name)
    except KeyturnError:
        return said
    if role is None:
        return f"role {name} does not exist"
    if role.limit == 0:
        return f"role {name} has CONNECTION LIMIT 0"
    if error.facts["code"] == "28P01":
        if role.expired:
            return f"role {name}: its VALID UNTIL has passed, so no password is accepted"
        if role.verifier == "":
            return f"role {name} has no password"
        return f"role {name} exists and holds another password"
    return said
