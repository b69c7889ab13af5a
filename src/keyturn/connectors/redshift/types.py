"""The settings of a connection, typed."""

from __future__ import annotations

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
SLOTS = ("user_a", "user_b")  # the slots of the two-user variant are the form fields that name the users


@dataclass(frozen=True)
class Place:
    """Which cluster and users a connection is about."""

    host: str
    port: int
    database: str
    sslmode: str
    ca: str
    users: Mapping[str, str]  # slot -> user; empty when there is one user
    group: str
    sample_query: str
    end_sessions: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Place:
        """Raises: InvalidInput naming the field that is missing or does not fit."""
        two = is_two(settings)
        for name in ("host", "database", *((*SLOTS, "group") if two else ())):
            if not settings.get(name):
                raise InvalidInput(f"{name} is missing", field=name)
        users = {slot: str(settings[slot]) for slot in SLOTS} if two else {}
        if two and len(set(users.values())) != len(SLOTS):
            raise InvalidInput("user_a and user_b must be two different users", field="user_b")
        return cls(
            host=str(settings["host"]),
            port=int(settings.get("port") or 5439),
            database=str(settings["database"]),
            sslmode=str(settings.get("sslmode") or "verify-full"),
            ca=str(settings.get("ca") or ""),
            users=users,
            group=str(settings.get("group") or "") if two else "",
            sample_query=str(settings.get("sample_query") or "").strip().rstrip(";"),
            end_sessions=bool(settings.get("end_sessions")),
        )

    @property
    def tenant(self) -> str:
        """What is pinned besides the user: the same name on another cluster is somebody else."""
        return f"{self.database}@{self.host}:{self.port}"

    def user_at(self, ref: Ref) -> str:
        """The user a two-user ref means; a slot may be given as `user_a` or as the user's own name."""
        for said in (ref.slot, ref.id):
            if said in self.users:
                return self.users[said]
            if said and said in self.users.values():
                return said
        raise InvalidInput("the credential names neither user_a nor user_b", field="user_a")

    def ref(self, user: str) -> Ref:
        """Where `user`'s password sits. Redshift shows nothing of a stored password, so there is no fingerprint."""
        if self.users:
            slot = next(slot for slot, name in self.users.items() if name == user)
            return Ref(id=user, slot=slot, label=user)
        return Ref(slot=ONE_SLOT, label=user)

    def login(self, access: Access, user: str, password: str) -> sql.Login:
        """The login of one user at this place."""
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
        )


def is_two(settings: Mapping[str, Any]) -> bool:
    """Whether two users take turns."""
    return str(settings.get("users") or "one") == "two"


def need_admin(access: Access, right: str, why: str) -> tuple[str, str]:
    """The administrator. Raises: PermissionMissing with what to grant."""
    return acting.need_admin(access, right, f"a user cannot {why} itself", _GRANT)


_GRANT = "a superuser (CREATE USER rotator ... CREATEUSER)."
