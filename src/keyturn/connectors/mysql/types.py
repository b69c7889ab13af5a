"""The settings of a connection and the accounts a server shows, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyturn.connectors.mysql import hashes
from keyturn.contract.values import Access
from keyturn.errors import InvalidInput
from keyturn.model.credential import Ref
from keyturn.model.secret import Secret
from keyturn.transport.sql import acting
from keyturn.transport.sql.conninfo import Login

ONE_SLOT = "password"
SLOTS = ("user_a", "user_b")  # the slots of the two-user pattern are the form fields that name the users
ONE, OVERLAP, DUAL, TWO = "one", "overlap", "dual", "two"


@dataclass(frozen=True)
class Place:
    """Which server and users a connection is about."""

    host: str
    port: int
    database: str
    sslmode: str
    ca: str
    pattern: str
    plugin: str
    users: Mapping[str, str]  # slot -> user; empty unless two take turns
    role: str
    user_host: str
    sample_query: str
    end_sessions: bool

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Place:
        """Raises: InvalidInput naming the field that is missing or does not fit."""
        pattern = pattern_of(settings)
        two = pattern == TWO
        for name in ("host", *((*SLOTS, "role") if two else ())):
            if not settings.get(name):
                raise InvalidInput(f"{name} is missing", field=name)
        users = {slot: str(settings[slot]) for slot in SLOTS} if two else {}
        if two and len(set(users.values())) != len(SLOTS):
            raise InvalidInput("user_a and user_b must be two different users", field="user_b")
        plugin = str(settings.get("plugin") or hashes.NATIVE)
        query = str(settings.get("sample_query") or "").strip().rstrip(";")
        if query and query.split(None, 1)[0].upper() not in {"SELECT", "WITH", "SHOW", "TABLE", "VALUES"}:
            raise InvalidInput("the sample query must be a read: SELECT ...", field="sample_query")
        return cls(
            host=str(settings["host"]),
            port=int(settings.get("port") or 3306),
            database=str(settings.get("database") or ""),
            sslmode=str(settings.get("sslmode") or "verify-full"),
            ca=str(settings.get("ca") or ""),
            pattern=pattern,
            plugin=plugin,
            users=users,
            role=str(settings.get("role") or "") if two else "",
            user_host=str(settings.get("user_host") or ""),
            sample_query=query,
            end_sessions=bool(settings.get("end_sessions")),
        )

    @property
    def tenant(self) -> str:
        """What is pinned besides the account: the same name on another server is somebody else."""
        return f"{self.host}:{self.port}"

    def user_at(self, ref: Ref) -> str:
        """The user a ref of two users means; a slot may be given as `user_a` or as the user's own name."""
        for said in (ref.slot, ref.id):
            if said in self.users:
                return self.users[said]
            if said and said in self.users.values():
                return said
        raise InvalidInput("the credential names neither user_a nor user_b", field="user_a")

    def ref(self, user: str, stored: str = "") -> Ref:
        """Where a password sits. `stored` is what the server keeps of it; only a fingerprint of that is kept here."""
        print_ = hashes.fingerprint(stored, user) if stored else ""
        if self.pattern == TWO:
            slot = next(slot for slot, name in self.users.items() if name == user)
            return Ref(id=user, slot=slot, fingerprint=print_, label=user)
        if self.pattern in {OVERLAP, DUAL}:
            return Ref(id=print_, fingerprint=print_, label=user)  # two passwords have no places of their own
        return Ref(slot=ONE_SLOT, fingerprint=print_, label=user)

    def login(self, access: Access, user: str, password: str, *, database: bool = True) -> Login:
        """The login of one user at this place. An administrator's needs no right on the database."""
        return Login(
            host=self.host,
            port=self.port,
            database=self.database if database else "",
            user=user,
            password=Secret(password),
            sslmode=self.sslmode,
            ca=self.ca,
            network=access.network,
            deadline_s=access.deadline_s,
        )


@dataclass(frozen=True)
class Account:
    """One row of a server's accounts: the same name with another host part is another account.

    `entries` are the passwords it takes, newest first, as (plugin, stored form); empty when no password opens it.
    """

    user: str
    host: str
    entries: tuple[tuple[str, str], ...]
    locked: bool
    expired: bool
    role: str
    sessions: int
    tls: str

    def holds(self, stored: str) -> bool:
        """Whether one of its passwords is stored in exactly this form."""
        return any(kept == stored for _, kept in self.entries)


def pattern_of(settings: Mapping[str, Any]) -> str:
    """One user in place, one user with two passwords for a while, or two users that take turns."""
    return str(settings.get("pattern") or ONE)


def need_admin(access: Access, right: str, why: str) -> tuple[str, str]:
    """The administrator. Raises: PermissionMissing with what to grant."""
    return acting.need_admin(access, right, f"a user cannot {why} itself", _GRANT)


_GRANT = "a user with CREATE USER, PROCESS and CONNECTION ADMIN."
