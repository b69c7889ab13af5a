"""Rows about people and service identities: accounts, roles, sessions, invitations, codes, passkeys, tokens, failures.

Whatever opens a door is kept as a digest: this file never sees a password, a session's value or a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.storage.database import Row, Tx

PERSON, SERVICE = "person", "service"


@dataclass(frozen=True)
class Account:
    """Somebody, or some program. `password` is an Argon2id hash, empty when there is none."""

    id: str
    kind: str
    login: str
    name: str
    password: str
    totp_at: float | None
    totp_step: int
    created_at: float
    created_by: str
    disabled_at: float | None
    seen_at: float | None


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `how` says by what, e.g. `password+totp`."""

    digest: str
    account_id: str
    how: str
    created_at: float
    seen_at: float
    ends_at: float
    address: str
    agent: str


@dataclass(frozen=True)
class Token:
    """An API token of a service identity; `hint` is its last four characters."""

    id: str
    digest: str
    account_id: str
    name: str
    scopes: str
    hint: str
    created_at: float
    created_by: str
    ends_at: float | None
    ended_at: float | None
    used_at: float | None
    used_from: str


@dataclass(frozen=True)
class Passkey:
    """A public key a person's device signs with."""

    id: str
    account_id: str
    public_key: bytes
    uses: int
    name: str
    created_at: float
    used_at: float | None


# -- accounts ----------------------------------------------------------------------------------------------------------

_ACCOUNT = "id, kind, login, name, password, totp_at, totp_step, created_at, created_by, disabled_at, seen_at"


def add(tx: Tx, account: Account) -> bool:
    """Inserts an account. False when the login is taken."""
    return 1 == tx.run(
        f"INSERT INTO account ({_ACCOUNT}) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (login) DO NOTHING",
        *account.__dict__.values(),
    )


def by_id(tx: Tx, account_id: str) -> Account | None:
    """The account of this id."""
    row = tx.one(f"SELECT {_ACCOUNT} FROM account WHERE id = ?", account_id)
    return Account(*row) if row else None


def by_login(tx: Tx, login: str) -> Account | None:
    """The account of this login."""
    row = tx.one(f"SELECT {_ACCOUNT} FROM account WHERE login = ?", login)
    return Account(*row) if row else None


def every(tx: Tx, kind: str) -> list[Account]:
    """All accounts of a kind by login."""
    rows = tx.all(f"SELECT {_ACCOUNT} FROM account WHERE kind = ? ORDER BY login", kind)
    return [Account(*row) for row in rows]


def are_there(tx: Tx) -> bool:
    """Whether there is any person yet."""
    return tx.one("SELECT 1 FROM account WHERE kind = ? LIMIT 1", PERSON) is not None


def change(tx: Tx, account_id: str, **columns: Any) -> None:
    """Sets columns of an account."""
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.run(f"UPDATE account SET {names} WHERE id = ?", *columns.values(), account_id)


def use_totp(tx: Tx, account_id: str, step: int) -> bool:
    """Takes one time step of a code for good. False when it, or a later one, was used already."""
    return 1 == tx.run(
        "UPDATE account SET totp_step = ? WHERE id = ? AND totp_step < ?", step, account_id, step
    )


# -- roles -------------------------------------------------------------------------------------------------------------


def roles(tx: Tx, account_id: str) -> list[tuple[str, str, str]]:
    """(role, project, source) held; an empty project is the whole hub."""
    rows = tx.all(
        "SELECT role, project, source FROM held_role WHERE account_id = ? ORDER BY project, role", account_id
    )
    return [(row[0], row[1], row[2]) for row in rows]


def set_roles(tx: Tx, account_id: str, source: str, held: Sequence[tuple[str, str]]) -> None:
    """Replaces what a source (`local`, `sso`) gives."""
    tx.run("DELETE FROM held_role WHERE account_id = ? AND source = ?", account_id, source)
    tx.many(
        "INSERT INTO held_role (account_id, role, project, source) VALUES (?,?,?,?)",
        [(account_id, role, project, source) for role, project in held],
    )


def count_able(tx: Tx, role: str) -> int:
    """How many persons who may sign in hold a role for the whole hub."""
    row = tx.one(
        "SELECT COUNT(DISTINCT a.id) FROM account a JOIN held_role r ON r.account_id = a.id"
        " WHERE a.kind = ? AND a.disabled_at IS NULL AND r.role = ? AND r.project = ''",
        PERSON,
        role,
    )
    return int(row[0]) if row else 0


# -- links to a provider of single sign-on -----------------------------------------------------------------------------


def linked(tx: Tx, issuer: str, subject: str) -> str | None:
    """The account of somebody a provider vouches for."""
    row = tx.one("SELECT account_id FROM account_link WHERE issuer = ? AND subject = ?", issuer, subject)
    return str(row[0]) if row else None


def link(tx: Tx, issuer: str, subject: str, account_id: str) -> None:
    """Ties an account to a provider's subject."""
    tx.run(
        "INSERT INTO account_link (issuer, subject, account_id) VALUES (?,?,?)", issuer, subject, account_id
    )


# -- sessions ----------------------------------------------------------------------------------------------------------

_SESSION = "digest, account_id, how, created_at, seen_at, ends_at, address, agent"


def add_session(tx: Tx, session: Session) -> None:
    """Inserts a session."""
    tx.run(f"INSERT INTO session ({_SESSION}) VALUES (?,?,?,?,?,?,?,?)", *session.__dict__.values())


def session(tx: Tx, digest: str) -> Session | None:
    """The session of this digest, ended by time or not."""
    row = tx.one(f"SELECT {_SESSION} FROM session WHERE digest = ?", digest)
    return Session(*row) if row else None


def sessions(tx: Tx, account_id: str) -> list[Session]:
    """A person's sessions, the one used last first."""
    rows = tx.all(f"SELECT {_SESSION} FROM session WHERE account_id = ? ORDER BY seen_at DESC", account_id)
    return [Session(*row) for row in rows]


def touch_session(tx: Tx, digest: str, at: float) -> None:
    """Notes that a session was used."""
    tx.run("UPDATE session SET seen_at = ? WHERE digest = ?", at, digest)


def end_session(tx: Tx, digest: str) -> int:
    """Ends one session."""
    return tx.run("DELETE FROM session WHERE digest = ?", digest)


def end_sessions(tx: Tx, account_id: str, but: str = "") -> int:
    """Ends a person's sessions, but one when named; how many."""
    return tx.run("DELETE FROM session WHERE account_id = ? AND digest <> ?", account_id, but)


def prune_sessions(tx: Tx, now: float, idle_before: float) -> int:
    """Deletes the sessions that are over."""
    return tx.run("DELETE FROM session WHERE ends_at < ? OR seen_at < ?", now, idle_before)


# -- invitations -------------------------------------------------------------------------------------------------------


def invite(tx: Tx, digest: str, purpose: str, account_id: str, now: float, ends_at: float) -> None:
    """Inserts an invitation; an older one for the same purpose and account is void."""
    tx.run("DELETE FROM invitation WHERE purpose = ? AND account_id = ?", purpose, account_id)
    tx.run(
        "INSERT INTO invitation (digest, purpose, account_id, created_at, ends_at) VALUES (?,?,?,?,?)",
        digest,
        purpose,
        account_id,
        now,
        ends_at,
    )


def invited(tx: Tx, digest: str, now: float) -> tuple[str, str] | None:
    """(purpose, account id) of an invitation that still works."""
    row = tx.one(
        "SELECT purpose, account_id FROM invitation WHERE digest = ? AND used_at IS NULL AND ends_at > ?",
        digest,
        now,
    )
    return (row[0], row[1]) if row else None


def use_invitation(tx: Tx, digest: str, now: float) -> bool:
    """Takes an invitation for good. False when somebody was faster or it has ended."""
    return 1 == tx.run(
        "UPDATE invitation SET used_at = ? WHERE digest = ? AND used_at IS NULL AND ends_at > ?",
        now,
        digest,
        now,
    )


def spend(tx: Tx, digest: str, now: float, until: float) -> bool:
    """Marks a one-time value that was never stored as used. False when it was used before; old marks are removed."""
    tx.run("DELETE FROM invitation WHERE purpose = 'spent' AND ends_at < ?", now)
    return 1 == tx.run(
        "INSERT INTO invitation (digest, purpose, account_id, created_at, ends_at, used_at)"
        " VALUES (?,'spent',?,?,?,?) ON CONFLICT (digest) DO NOTHING",
        digest,
        digest,
        now,
        until,
        now,
    )


# -- recovery codes ----------------------------------------------------------------------------------------------------


def set_codes(tx: Tx, account_id: str, digests: Sequence[str]) -> None:
    """Replaces a person's recovery codes."""
    tx.run("DELETE FROM recovery_code WHERE account_id = ?", account_id)
    tx.many("INSERT INTO recovery_code (account_id, digest) VALUES (?,?)", [(account_id, d) for d in digests])


def use_code(tx: Tx, account_id: str, digest: str, at: float) -> bool:
    """Takes a recovery code for good. False when there is no such one left."""
    return 1 == tx.run(
        "UPDATE recovery_code SET used_at = ? WHERE account_id = ? AND digest = ? AND used_at IS NULL",
        at,
        account_id,
        digest,
    )


def codes_left(tx: Tx, account_id: str) -> int:
    """How many recovery codes are unused."""
    row = tx.one("SELECT COUNT(*) FROM recovery_code WHERE account_id = ? AND used_at IS NULL", account_id)
    return int(row[0]) if row else 0


# -- passkeys ----------------------------------------------------------------------------------------------------------

_PASSKEY = "id, account_id, public_key, uses, name, created_at, used_at"


def add_passkey(tx: Tx, passkey: Passkey) -> None:
    """Inserts a passkey."""
    tx.run(f"INSERT INTO passkey ({_PASSKEY}) VALUES (?,?,?,?,?,?,?)", *passkey.__dict__.values())


def passkey(tx: Tx, passkey_id: str) -> Passkey | None:
    """The passkey of this id."""
    row = tx.one(f"SELECT {_PASSKEY} FROM passkey WHERE id = ?", passkey_id)
    return Passkey(row[0], row[1], bytes(row[2]), *row[3:]) if row else None


def passkeys(tx: Tx, account_id: str) -> list[Passkey]:
    """A person's passkeys, oldest first."""
    rows = tx.all(f"SELECT {_PASSKEY} FROM passkey WHERE account_id = ? ORDER BY created_at", account_id)
    return [Passkey(row[0], row[1], bytes(row[2]), *row[3:]) for row in rows]


def used_passkey(tx: Tx, passkey_id: str, uses: int, at: float) -> None:
    """Keeps a passkey's counter."""
    tx.run("UPDATE passkey SET uses = ?, used_at = ? WHERE id = ?", uses, at, passkey_id)


def drop_passkey(tx: Tx, account_id: str, passkey_id: str) -> int:
    """Deletes a person's passkey."""
    return tx.run("DELETE FROM passkey WHERE account_id = ? AND id = ?", account_id, passkey_id)


# -- failures ----------------------------------------------------------------------------------------------------------


def fail(tx: Tx, keys: Sequence[str], at: float) -> None:
    """Counts a failed sign-in under each key."""
    tx.many("INSERT INTO failed_sign_in (key, at) VALUES (?,?)", [(key, at) for key in keys])


def failures(tx: Tx, key: str, since: float) -> tuple[int, float]:
    """How many failures since then, and when the latest was."""
    row = tx.one("SELECT COUNT(*), MAX(at) FROM failed_sign_in WHERE key = ? AND at > ?", key, since)
    return (int(row[0]), float(row[1] or 0.0)) if row else (0, 0.0)


def forgive(tx: Tx, key: str) -> None:
    """Forgets the failures under a key."""
    tx.run("DELETE FROM failed_sign_in WHERE key = ?", key)


def prune_failures(tx: Tx, before: float) -> int:
    """Deletes old failures."""
    return tx.run("DELETE FROM failed_sign_in WHERE at < ?", before)


# -- tokens ------------------------------------------------------------------------------------------------------------

_COLUMNS = "id, digest, account_id, name, scopes, hint, created_at, created_by, ends_at, ended_at, used_at, used_from"


def add_token(tx: Tx, token: Token) -> None:
    """Inserts an API token."""
    tx.run(f"INSERT INTO api_token ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", *token.__dict__.values())


def token(tx: Tx, digest: str) -> Token | None:
    """The token of this digest, ended or not."""
    row = tx.one(f"SELECT {_COLUMNS} FROM api_token WHERE digest = ?", digest)
    return Token(*row) if row else None


def tokens(tx: Tx, account_id: str) -> list[Token]:
    """A service identity's tokens, newest first."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM api_token WHERE account_id = ? ORDER BY created_at DESC", account_id
    )
    return [Token(*row) for row in rows]


def used_token(tx: Tx, token_id: str, at: float, address: str) -> None:
    """Notes a token's last use."""
    tx.run("UPDATE api_token SET used_at = ?, used_from = ? WHERE id = ?", at, address, token_id)


def end_token(tx: Tx, account_id: str, token_id: str, at: float) -> bool:
    """Ends a token for good."""
    return 1 == tx.run(
        "UPDATE api_token SET ended_at = ? WHERE id = ? AND account_id = ? AND ended_at IS NULL",
        at,
        token_id,
        account_id,
    )


# -- projects: what a role may be limited to --------------------------------------------------------------------------


def projects(tx: Tx) -> list[Row]:
    """(project, connections in it) of every project that is named."""
    return tx.all(
        "SELECT project, COUNT(*) FROM connection WHERE project <> '' GROUP BY project ORDER BY project"
    )


def project_of(tx: Tx, connection_id: str) -> str:
    """The project a connection is in; empty for none."""
    row = tx.one("SELECT project FROM connection WHERE id = ?", connection_id)
    return str(row[0]) if row else ""


def projects_of(tx: Tx, ids: Sequence[str]) -> dict[str, str]:
    """The projects of some connections by id."""
    marks = ",".join("?" * len(ids)) or "NULL"
    return {
        str(r[0]): str(r[1])
        for r in tx.all(f"SELECT id, project FROM connection WHERE id IN ({marks})", *ids)
    }


def projects_owned(tx: Tx, owner: str) -> set[str]:
    """The projects in which somebody owns a connection; an empty one among them for none."""
    rows = tx.all("SELECT DISTINCT project FROM connection WHERE fold(owner) = fold(?)", owner)
    return {str(row[0]) for row in rows}


def move_to_project(tx: Tx, connection_id: str, project: str) -> None:
    """Puts a connection into a project."""
    tx.run("UPDATE connection SET project = ? WHERE id = ?", project, connection_id)
