"""The statements a key-pair rotation needs, written exactly; who runs them and what they mean is decided elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keyturn.contract.values import Access
from keyturn.errors import InvalidInput, NotFound, UnexpectedAnswer
from keyturn.keymaking import rsa
from keyturn.model.secret import Material
from keyturn.transport import snowflake
from keyturn.transport.snowflake import Login, Session

SLOTS = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")

_KEYS = "MODIFY PROGRAMMATIC AUTHENTICATION METHODS on the user"
_OWNERSHIP = "OWNERSHIP of the user"
_BODY = re.compile(r"^[A-Za-z0-9+/=]+$")


@dataclass(frozen=True)
class Slot:
    """What one slot holds, as DESC USER shows it."""

    fingerprint: str
    set_at: float | None


def pair_of(material: Material) -> rsa.KeyPair:
    """The connection's key pair. Raises: InvalidInput naming `private_key` or `passphrase`."""
    return _pair(material, "")


def admin_pair_of(material: Material) -> rsa.KeyPair | None:
    """The administrator's key pair, where it has one. Raises: InvalidInput naming the field."""
    return _pair(material, "admin_") if material.get("admin_private_key") else None


@contextmanager
def own_session(access: Access, material: Material) -> Iterator[Session]:
    """A fresh login of the connection's user with the key in `material`."""
    login = _login(access.settings, str(access.settings.get("user") or ""), pair_of(material).private_der)
    with snowflake.session(login, access.network, access.deadline_s) as session:
        yield session


@contextmanager
def acting_session(access: Access) -> Iterator[Session]:
    """A fresh login of whoever changes the user: the administrator where there is one, else the user itself."""
    if access.admin is None:
        with own_session(access, access.actor) as session:
            yield session
        return
    pair = admin_pair_of(access.admin)
    login = _login(
        access.settings,
        access.admin.get("admin_user", ""),
        pair.private_der if pair else b"",
        password=access.admin.get("admin_password", ""),
        role=access.admin.get("admin_role", ""),
        field="admin_user",
    )
    with snowflake.session(login, access.network, access.deadline_s) as session:
        yield session


def whoami(session: Session) -> tuple[str, str, str]:
    """User, account and role of the session, as the server sees them."""
    rows = session.run("SELECT CURRENT_USER() AS U, CURRENT_ACCOUNT() AS A, CURRENT_ROLE() AS R")
    if len(rows) != 1 or not rows[0].get("u") or not rows[0].get("a"):
        raise UnexpectedAnswer("Snowflake does not say who is logged in", operation="CURRENT_USER")
    return str(rows[0]["u"]), str(rows[0]["a"]), str(rows[0].get("r") or "")


def name_of(session: Session, access: Access) -> str:
    """The user's NAME, which SQL wants exactly, from what it logs in as. Raises: NotFound.

    The two differ in case, and in everything where LOGIN_NAME was set. Source: docs.snowflake.com
    sql-reference/identifiers-syntax and show-users, checked 2026-11-23.
    """
    if access.admin is None:
        return whoami(session)[0]
    wanted = str(access.settings.get("user") or "").upper()
    for like in (wanted, "%"):  # a NAME that differs from the login is found only by looking at everybody
        for row in users(session, like):
            name, login = str(row["name"]), str(row.get("login_name") or "").upper()
            # The login name is hidden from roles without OWNERSHIP; what they may do with the user is little anyway.
            if login == wanted or (not login and name.upper() == wanted):
                return name
    raise NotFound("Snowflake knows no such user", hint="Check the user name.", field="user")


def slots_of(session: Session, name: str) -> dict[str, Slot]:
    """The slots that hold a key. Raises: UnexpectedAnswer when DESC USER does not tell, which is not the same as empty."""
    rows = session.run(f"DESC USER {quoted(name)}", right=_OWNERSHIP)
    facts = {str(row.get("property", "")).upper(): _told(row.get("value")) for row in rows}
    if any(f"{slot}_FP" not in facts for slot in SLOTS):
        raise UnexpectedAnswer("DESC USER does not show the key slots", operation="DESC USER")
    return {
        slot: Slot(facts[f"{slot}_FP"], instant(facts.get(f"{slot}_LAST_SET_TIME", "")))
        for slot in SLOTS
        if facts[f"{slot}_FP"]
    }


def set_key(session: Session, name: str, slot: str, body: str) -> None:
    """Puts a public key into a slot; the same one again changes nothing."""
    if slot not in SLOTS or not _BODY.match(body):
        raise InvalidInput("not a key slot, or not a key body", field="slot")
    session.run(f"ALTER USER {quoted(name)} SET {slot} = '{body}'", changes=True, right=_KEYS)


def unset_keys(session: Session, name: str, slots: tuple[str, ...]) -> None:
    """Empties slots; an empty one stays empty."""
    if not slots or any(slot not in SLOTS for slot in slots):
        raise InvalidInput("not a key slot", field="slot")
    session.run(f"ALTER USER {quoted(name)} UNSET {', '.join(slots)}", changes=True, right=_KEYS)


def drop_user(session: Session, name: str) -> None:
    """Disables the user, which ends its running queries, then drops it, which ends its sessions."""
    session.run(f"ALTER USER IF EXISTS {quoted(name)} SET DISABLED = TRUE", changes=True, right=_OWNERSHIP)
    session.run(f"DROP USER IF EXISTS {quoted(name)}", changes=True, right=_OWNERSHIP)


def users(session: Session, like: str) -> list[dict[str, Any]]:
    """SHOW USERS; columns other than the name are empty without OWNERSHIP."""
    return _shown(session, "USERS", like)


def integrations(session: Session, like: str) -> list[dict[str, Any]]:
    """SHOW SECURITY INTEGRATIONS."""
    return _shown(session, "SECURITY INTEGRATIONS", like)


def quoted(name: str) -> str:
    """A name as SQL takes it unchanged, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it: quote and backslash are both special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def instant(value: Any) -> float | None:
    """A date of SHOW (a datetime) or DESC (text; the session is in UTC) as epoch seconds; None when it is neither."""
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(str(value))
        except ValueError:
            return None
    return float((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def _pair(material: Material, prefix: str) -> rsa.KeyPair:
    key, passphrase = f"{prefix}private_key", f"{prefix}passphrase"
    if not material.get(key):
        raise InvalidInput("the private key is missing", hint="Give the PEM file.", field=key)
    return rsa.load(material[key], material.get(passphrase) or None, field=key, passphrase_field=passphrase)


def _login(
    settings: Mapping[str, Any],
    user: str,
    private_key: bytes,
    *,
    password: str = "",
    role: str | None = None,
    field: str = "user",
) -> Login:
    account = str(settings.get("account") or "")
    for name, value in (("account", account), (field, user)):
        if not value:
            raise InvalidInput(f"the {name} is missing", hint="Enter it.", field=name)
    if not private_key and not password:
        raise InvalidInput(
            "the administrator has neither a key nor a password",
            hint="Give one of them.",
            field="admin_private_key",
        )
    protocol = str(settings.get("protocol") or "https")
    own = (
        {key: str(settings.get(key) or "") for key in ("warehouse", "database", "schema")}
        if role is None
        else {}
    )
    return Login(
        account=account,
        user=user,
        # Host names know no underscores; account names may hold them.
        host=str(settings.get("host") or f"{account.lower().replace('_', '-')}.snowflakecomputing.com"),
        port=int(settings.get("port") or (443 if protocol == "https" else 80)),
        protocol=protocol,
        role=str(settings.get("role") or "") if role is None else role,
        private_key=private_key,
        password="" if private_key else password,
        **own,
    )


def _shown(session: Session, what: str, like: str) -> list[dict[str, Any]]:
    return session.run(f"SHOW {what} LIKE {literal(like)}")


def _told(value: Any) -> str:
    """DESC writes an absent value as the word null."""
    return "" if value is None or str(value) == "null" else str(value)
