"""The settings of a connection and the rows PostgreSQL shows, typed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyturn.contract.values import Access
from keyturn.errors import InvalidInput
from keyturn.model.credential import Ref
from keyturn.model.secret import Secret
from keyturn.transport import sql
from keyturn.transport.sql import acting

ONE_SLOT = "password"
SLOTS = ("role_a", "role_b")  # the slots of the two-role variant are the form fields that name the roles


@dataclass(frozen=True)
class Place:
    """Which server and roles a connection is about."""

    host: str
    port: int
    database: str
    sslmode: str
    ca: str
    roles: Mapping[str, str]  # slot -> role; empty when there is one role
    group_role: str
    sample_query: str
    end_sessions: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Place:
        """Raises: InvalidInput naming the field that is missing."""
        two = is_two(settings)
        for name in ("host", "database", *((*SLOTS, "group_role") if two else ())):
            if not settings.get(name):
                raise InvalidInput(f"{name} is missing", field=name)
        roles = {slot: str(settings[slot]) for slot in SLOTS} if two else {}
        if two and len({*roles.values(), str(settings["group_role"])}) != 3:
            raise InvalidInput("role_a, role_b and group_role must be three different roles", field="role_b")
        return cls(
            host=str(settings["host"]),
            port=int(settings.get("port") or 5432),
            database=str(settings["database"]),
            sslmode=str(settings.get("sslmode") or "verify-full"),
            ca=str(settings.get("ca") or ""),
            roles=roles,
            group_role=str(settings.get("group_role") or "") if two else "",
            sample_query=str(settings.get("sample_query") or "").strip().rstrip(";"),
            end_sessions=bool(settings.get("end_sessions")),
        )

    @property
    def tenant(self) -> str:
        """What is pinned besides the role: the same role name on another server is somebody else."""
        return f"{self.database}@{self.host}:{self.port}"

    def role_at(self, ref: Ref) -> str:
        """The role a two-role ref means; a slot may be given as `role_a` or as the role's own name."""
        for said in (ref.slot, ref.id):
            if said in self.roles:
                return self.roles[said]
            if said and said in self.roles.values():
                return said
        raise InvalidInput("the credential names neither role_a nor role_b", field="role_a")

    def slot_of(self, role: str) -> str:
        """The slot that carries `role`."""
        return next(slot for slot, name in self.roles.items() if name == role)

    def ref(self, role: str, verifier: str = "") -> Ref:
        """Where `role`'s password sits. `verifier` is the stored text; only a fingerprint of it is kept."""
        fingerprint = fingerprint_of(verifier) if verifier else ""
        if self.roles:
            return Ref(id=role, slot=self.slot_of(role), fingerprint=fingerprint, label=role)
        # No id: the one slot always exists, so only the fingerprint tells which value is in it.
        return Ref(slot=ONE_SLOT, fingerprint=fingerprint, label=role)

    def login(
        self, access: Access, user: str, password: str, keys: tuple[bytes, bytes] | None = None
    ) -> sql.Login:
        """The login of one role at this place."""
        return sql.Login(
            host=self.host,
            port=self.port,
            database=self.database,
            user=user,
            password=Secret(password),
            sslmode=self.sslmode,
            ca=self.ca,
            network=access.network,
            deadline_s=access.deadline_s,
            keys=keys,
        )


@dataclass(frozen=True)
class Role:
    """One row of pg_roles, with what this connection needs to know beside it. `verifier` None: not readable."""

    name: str
    can_login: bool
    expired: bool
    runs_on: bool  # a validity that has not ended: VALID UNTIL 'infinity' or later than now
    limit: int
    sessions: int
    acts_as: str  # the `role` setting that applies in this database
    in_group: bool
    verifier: str | None


def is_two(settings: Mapping[str, Any]) -> bool:
    """Whether two roles take turns."""
    return str(settings.get("roles") or "one") == "two"


def fingerprint_of(verifier: str) -> str:
    """A public mark of a stored verifier: the salt in it is random, so it says nothing about the password."""
    return hashlib.sha256(verifier.encode()).hexdigest()[:24]


def need_admin(access: Access, right: str, why: str) -> tuple[str, str]:
    """The administrator. Raises: PermissionMissing with what to grant."""
    return acting.need_admin(access, right, f"a role cannot {why} itself", _GRANT)


_GRANT = "CREATE ROLE rotator LOGIN CREATEROLE; GRANT pg_signal_backend TO rotator;"
