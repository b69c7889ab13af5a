"""The logins and statements all methods share, written exactly; who runs them and what they mean is decided elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from keyturn.connectors.snowflake import tokens
from keyturn.contract.values import Access
from keyturn.errors import InvalidInput, KeyturnError, NotFound, UnexpectedAnswer
from keyturn.keymaking import rsa
from keyturn.model.secret import Material
from keyturn.transport import snowflake
from keyturn.transport.snowflake import Login, Session

SLOTS = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")
SECRET_SLOTS = ("OAUTH_CLIENT_SECRET", "OAUTH_CLIENT_SECRET_2")
PASSWORD = "PASSWORD"  # noqa: S105 - the name of a property
SERVICE_TYPES = frozenset({"SERVICE", "SERVICE_AGENT"})  # such users have no password door

_KEYS = "MODIFY PROGRAMMATIC AUTHENTICATION METHODS on the user"
_OWNERSHIP = "OWNERSHIP of the user"
_INTEGRATION = "OWNERSHIP of the security integration"
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
    """A fresh login with the connection's own credential, by whatever it consists of: key, password or OAuth grant."""
    until = time.monotonic() + access.deadline_s
    login = _own_login(access, material)
    left = max(until - time.monotonic(), 0.05)
    with snowflake.session(login, access.network, left) as session:
        yield session


@contextmanager
def acting_session(access: Access) -> Iterator[Session]:
    """A fresh login of whoever changes something: the administrator where there is one, else the credential itself."""
    if access.admin is None:
        if access.acting is None:
            raise InvalidInput(
                "this needs a credential to act with", hint="Add an administrator.", field="admin_user"
            )
        with own_session(access, access.acting) as session:
            yield session
        return
    pair = admin_pair_of(access.admin)
    login = replace(
        _place(access.settings, _needed(access.admin.get("admin_user", ""), "admin_user")),
        role=access.admin.get("admin_role", ""),
        private_key=pair.private_der if pair else b"",
        password="" if pair else access.admin.get("admin_password", ""),
    )
    if not login.private_key and not login.password:
        raise InvalidInput(
            "the administrator has neither a key nor a password",
            hint="Give one of them.",
            field="admin_private_key",
        )
    with snowflake.session(login, access.network, access.deadline_s) as session:
        yield session


def by_itself(access: Access, material: Material) -> Access:
    """For looking `material` up: without an administrator it looks for itself, as what served before may be dead."""
    return access if access.admin is not None else replace(access, acting=material)


def ending(access: Access, material: Material | None) -> Access:
    """For ending `material`: where nothing else is left to act with, it signs its own end."""
    return access if access.admin or access.acting or not material else replace(access, acting=material)


def token_session(access: Access, token: str, left_s: float) -> AbstractContextManager[Session]:
    """A fresh login with an OAuth access token, which names its user itself."""
    login = replace(_own_place(access.settings, ""), token=token)
    return snowflake.session(login, access.network, left_s)


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
    wanted = _needed(str(access.settings.get("user") or ""), "user").upper()
    for like in (wanted, "%"):  # a NAME that differs from the login is found only by looking at everybody
        for row in users(session, like):
            name, login = str(row["name"]), str(row.get("login_name") or "").upper()
            # The login name is hidden from roles without OWNERSHIP; what they may do with the user is little anyway.
            if login == wanted or (not login and name.upper() == wanted):
                return name
    raise NotFound("Snowflake knows no such user", hint="Check the user name.", field="user")


def facts_of(session: Session, name: str) -> dict[str, str]:
    """What DESC USER says, by property in upper case; absent values are empty."""
    rows = session.run(f"DESC USER {quoted(name)}", right=_OWNERSHIP)
    return {str(row.get("property", "")).upper(): _told(row.get("value")) for row in rows}


def slots_of(session: Session, name: str) -> dict[str, Slot]:
    """The slots that hold a key. Raises: UnexpectedAnswer when DESC USER does not tell, which is not the same as empty."""
    facts = facts_of(session, name)
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


def set_password(session: Session, name: str, password: str) -> None:
    """Sets the one password; the old one ends at that moment. The policy's history may refuse the same one again."""
    session.run(
        f"ALTER USER {quoted(name)} SET PASSWORD = {literal(password)} MUST_CHANGE_PASSWORD = FALSE",
        changes=True,
        right=_OWNERSHIP,
    )


def unset_password(session: Session, name: str) -> None:
    """Leaves the user without a password; other ways in are not touched."""
    session.run(f"ALTER USER {quoted(name)} UNSET PASSWORD", changes=True, right=_OWNERSHIP)


def give_up_user(session: Session, name: str, *, keep: bool) -> None:
    """Disables the user, which ends its running queries; then drops it, which ends its sessions, unless it is kept."""
    session.run(f"ALTER USER IF EXISTS {quoted(name)} SET DISABLED = TRUE", changes=True, right=_OWNERSHIP)
    if not keep:
        session.run(f"DROP USER IF EXISTS {quoted(name)}", changes=True, right=_OWNERSHIP)


def count_rows(session: Session, table: tuple[str, ...], limit: int) -> int:
    """How many rows of a table or view there are to see, at most `limit`: counted by the server, none leaves it."""
    name = ".".join(quoted(part) for part in table)
    rows = session.run(
        f"SELECT COUNT(*) AS N FROM (SELECT 1 FROM {name} LIMIT {limit:d})", right="SELECT on the table"
    )
    if len(rows) != 1 or rows[0].get("n") is None:
        raise UnexpectedAnswer("Snowflake does not say how many rows there are", operation="COUNT")
    return int(rows[0]["n"])


def users(session: Session, like: str) -> list[dict[str, Any]]:
    """SHOW USERS; columns other than the name are empty without OWNERSHIP."""
    return _shown(session, "USERS", like)


def integrations(session: Session, like: str) -> list[dict[str, Any]]:
    """SHOW SECURITY INTEGRATIONS."""
    return _shown(session, "SECURITY INTEGRATIONS", like)


@dataclass(frozen=True)
class Logins:
    """What LOGIN_HISTORY tells of one way in from one place."""

    factor: str
    client: str
    address: str
    count: int
    last_at: float | None


def history(session: Session, name: str) -> tuple[Logins, ...]:
    """Successful logins of the last seven days, newest first: who still uses what, and from where.

    Evidence and nothing more: rows come with a delay, and a role may not be allowed to see them. Then there are none.
    Source: docs.snowflake.com sql-reference/functions/login_history, checked 2026-11-23.
    """
    try:
        rows = session.run(
            "SELECT EVENT_TIMESTAMP, FIRST_AUTHENTICATION_FACTOR, REPORTED_CLIENT_TYPE, CLIENT_IP, IS_SUCCESS FROM "
            f"TABLE(SNOWFLAKE.INFORMATION_SCHEMA.LOGIN_HISTORY_BY_USER(USER_NAME => {literal(name)}, "
            "RESULT_LIMIT => 1000)) ORDER BY EVENT_TIMESTAMP DESC"
        )
    except KeyturnError:
        return ()
    found: dict[tuple[str, str, str], Logins] = {}
    for row in rows:
        if str(row.get("is_success")).upper() != "YES":
            continue
        key = (
            str(row.get("first_authentication_factor") or ""),
            str(row.get("reported_client_type") or ""),
            str(row.get("client_ip") or ""),
        )
        known = found.get(key)
        if known is None:
            found[key] = Logins(*key, 1, instant(row.get("event_timestamp")))
        else:
            found[key] = replace(known, count=known.count + 1)
    return tuple(found.values())


@dataclass(frozen=True)
class Secrets:
    """Both client secrets of an integration. Prints without them."""

    client_id: str
    values: Mapping[str, str] = field(repr=False)


def integration_of(access: Access) -> str:
    """The exact name of the security integration. Raises: InvalidInput."""
    return _needed(str(access.settings.get("integration") or ""), "integration")


def client_secrets(session: Session, integration: str) -> str:
    """The raw text in which Snowflake shows an integration's client id and both secrets. The name is case-sensitive.

    Source: docs.snowflake.com functions/system_show_oauth_client_secrets, checked 2026-11-23.
    """
    rows = session.run(
        f"SELECT SYSTEM$SHOW_OAUTH_CLIENT_SECRETS({literal(integration)}) AS SECRETS", right=_INTEGRATION
    )
    if len(rows) != 1 or not isinstance(rows[0].get("secrets"), str):
        raise UnexpectedAnswer("Snowflake does not show the client secrets", operation="show secrets")
    return str(rows[0]["secrets"])


def parse_secrets(text: str) -> Secrets:
    """The secrets in that text. Raises: UnexpectedAnswer, without quoting any of it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    keys = (*SECRET_SLOTS, "OAUTH_CLIENT_ID")
    if not isinstance(found, dict) or not all(isinstance(found.get(k), str) and found[k] for k in keys):
        raise UnexpectedAnswer(
            "Snowflake's answer does not hold both client secrets", operation="show secrets"
        )
    return Secrets(found["OAUTH_CLIENT_ID"], {slot: found[slot] for slot in SECRET_SLOTS})


def refresh_secret(session: Session, integration: str, slot: str) -> None:
    """Has Snowflake put a new client secret into a slot; the one that was there ends. Twice means two new ones.

    Source: docs.snowflake.com sql-reference/sql/alter-security-integration-oauth-snowflake, checked 2026-11-23. There is
    no SET OAUTH_CLIENT_SECRET for integrations of this type.
    """
    if slot not in SECRET_SLOTS:
        raise InvalidInput("not a client secret's slot", field="slot")
    session.run(
        f"ALTER SECURITY INTEGRATION {quoted(integration)} REFRESH {slot}", changes=True, right=_INTEGRATION
    )


def is_enabled(session: Session, integration: str) -> bool:
    """Whether an integration may be used. Raises: NotFound."""
    for row in integrations(session, integration):
        if row.get("name") == integration:
            return is_true(row.get("enabled"))
    raise NotFound(
        f"there is no security integration {integration}, or the role may not see it",
        hint="The name is case-sensitive: upper case, unless it was created in quotes.",
        field="integration",
    )


def drop_integration(session: Session, integration: str, user: str) -> None:
    """Takes the user's consent back, switches the integration off and drops it. Gone already counts as done."""
    name = quoted(integration)
    with suppress(NotFound):  # IF EXISTS covers the user only
        if user:
            session.run(
                f"ALTER USER IF EXISTS {quoted(user)} "
                f"REMOVE DELEGATED AUTHORIZATIONS FROM SECURITY INTEGRATION {name}",
                changes=True,
                right=_OWNERSHIP,
            )
    session.run(
        f"ALTER SECURITY INTEGRATION IF EXISTS {name} SET ENABLED = FALSE", changes=True, right=_INTEGRATION
    )
    session.run(f"DROP SECURITY INTEGRATION IF EXISTS {name}", changes=True, right=_INTEGRATION)


def fingerprint(secret: str) -> str:
    """A name for a secret that Snowflake made: long and random, so its hash tells nothing about it."""
    return "SHA256:" + hashlib.sha256(secret.encode()).hexdigest()[:32]


def is_true(value: Any) -> bool:
    """SHOW mixes real booleans with the words true and false."""
    return str(value).lower() in {"true", "1"}


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


def _own_login(access: Access, material: Material) -> Login:
    """The login that fits what the material consists of. An OAuth grant asks for an access token first."""
    if material.get("private_key") is not None:
        pair = pair_of(material)
        return replace(_own_place(access.settings, _user(access, material)), private_key=pair.private_der)
    if "client_secret" in material or "refresh_token" in material:
        return replace(_own_place(access.settings, ""), token=tokens.access_token(access, material))
    password = _needed(material.get("password", ""), "password")
    return replace(_own_place(access.settings, _user(access, material)), password=password)


def _user(access: Access, material: Material) -> str:
    return _needed(material.get("user") or str(access.settings.get("user") or ""), "user")


def _needed(value: str, name: str) -> str:
    if not value:
        raise InvalidInput(f"the {name} is missing", hint="Enter it.", field=name)
    return value


def _own_place(settings: Mapping[str, Any], user: str) -> Login:
    """Where the connection's own credential logs in, with the role and context its jobs run in."""

    def said(name: str) -> str:
        return str(settings.get(name) or "")

    place = _place(settings, user)
    return replace(
        place,
        role=said("role"),
        warehouse=said("warehouse"),
        database=said("database"),
        schema=said("schema"),
    )


def _place(settings: Mapping[str, Any], user: str) -> Login:
    account = _needed(str(settings.get("account") or ""), "account")
    protocol, host, port = tokens.place(settings)
    return Login(account=account, user=user, host=host, port=port, protocol=protocol)


def _shown(session: Session, what: str, like: str) -> list[dict[str, Any]]:
    return session.run(f"SHOW {what} LIKE {literal(like)}")


def _told(value: Any) -> str:
    """DESC writes an absent value as the word null."""
    return "" if value is None or str(value) == "null" else str(value)
